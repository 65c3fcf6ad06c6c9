"""Tools, toys, a lamp and a fruit, as they lie or stand on a table.

Thin parts are drawn stout: a picture of the embedded model is 64 pixels wide.
"""

from __future__ import annotations

import colorsys

import numpy as np

from nvs_ros.scenes.mesh import Mesh, ball, block, lathe, tube
from nvs_ros.scenes.palette import DARK, STEEL, WHITE, any_color, two_colors

Z_TO_X = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
Z_TO_Y = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
Y_TO_Z = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def hammer(rng: np.random.Generator) -> Mesh:
    """Lying, its head at +x, the face towards +y and the claw towards -y."""
    handle, grip = two_colors(rng)
    head = STEEL if rng.random() < 0.6 else any_color(rng)
    thickness = rng.uniform(0.05, 0.075)
    size = rng.uniform(0.14, 0.2)
    grip_from = rng.uniform(0.3, 0.5)
    profile = [[0, 0], [1.15, 0], [1.15, grip_from], [1, grip_from], [1, 0.95], [0, 0.95]]
    shaft = lathe(
        np.array(profile) * [thickness, 1],
        np.stack([grip, grip, grip, handle, handle]),
        16,
    ).transformed(Z_TO_X)
    face = rng.uniform(0.16, 0.26)
    striker = block((size, size, face), head).transformed(Z_TO_Y, (0.9, 0, 0))
    neck = lathe(
        np.array([[0, 0], [0.42, 0], [0.42, 0.06], [0.55, 0.06], [0.55, 0.12], [0, 0.12]])
        * [size, 1],
        np.tile(head * 0.85, (5, 1)),
        16,
    ).transformed(Z_TO_Y, (0.9, face, 0))
    claw = block((size, size, rng.uniform(0.2, 0.34)), head, (1.0, 0.25))
    return shaft + striker + neck + claw.transformed(-Z_TO_Y, (0.9, 0, 0))


def screwdriver(rng: np.random.Generator) -> Mesh:
    """Lying, its tip at +x."""
    body, band = two_colors(rng)
    radius, thickness = rng.uniform(0.1, 0.16), rng.uniform(0.03, 0.045)
    end = rng.uniform(0.4, 0.55)
    profile = np.array(
        [
            [0, 0],
            [0.75 * radius, 0],
            [radius, 0.06],
            [radius, 0.16],
            [0.95 * radius, 0.3],
            [0.65 * radius, end - 0.08],
            [0.85 * radius, end],
            [thickness, end + 0.02],
            [thickness, 0.9],
            [0.5 * thickness, 1],
            [0, 1],
        ]
    )
    rings = np.stack([body, body, band, body, body, body, band, STEEL, STEEL * 0.8, STEEL])
    return lathe(profile, rings, 20).transformed(Z_TO_X)


def car(rng: np.random.Generator) -> Mesh:
    """On four wheels, its front at +x."""
    body, roof = two_colors(rng)
    if rng.random() < 0.6:
        roof = body
    width, low, high = rng.uniform(0.4, 0.56), rng.uniform(0.14, 0.2), rng.uniform(0.15, 0.24)
    wheel = rng.uniform(0.09, 0.13)
    light, tail = np.array([0.95, 0.9, 0.5]), np.array([0.75, 0.1, 0.1])
    glass = np.array([0.2, 0.28, 0.36])
    chassis = block((1.0, width, low), np.tile(body, (6, 1)), (0.96, 0.95))
    length, middle = rng.uniform(0.42, 0.65), rng.uniform(-0.18, 0.02)
    shades = np.stack([glass, glass, glass, glass, roof, roof])
    cabin = block((length, 0.9 * width, high), shades, (rng.uniform(0.55, 0.85), 0.85))
    mesh = chassis.transformed(np.eye(3), (0, 0, wheel)) + cabin.transformed(
        np.eye(3), (middle, 0, wheel + low)
    )
    for end, color in ((0.49, light), (-0.49, tail)):
        for side in (-0.33, 0.33):
            glow = block((0.05, 0.2 * width, 0.4 * low), color)
            mesh += glow.transformed(np.eye(3), (end, side * width, wheel + 0.4 * low))
    tyre = np.array([[0, 0], [0.55, 0], [1, 0], [1, 1], [0.55, 1], [0, 1]]) * [wheel, 0.1]
    rings = np.stack([STEEL, DARK, DARK, DARK, STEEL])
    rim = lathe(tyre, rings, 16)
    for along in (-0.3, 0.3):
        for side in (-width / 2 - 0.02, width / 2 - 0.08):
            mesh += rim.transformed(Z_TO_Y, (along, side, wheel))
    return mesh


def lamp(rng: np.random.Generator) -> Mesh:
    """A table lamp with a switch at +x, or a desk lamp whose arm bends towards +x."""
    foot, shade = two_colors(rng)
    base, thickness = rng.uniform(0.17, 0.26), rng.uniform(0.025, 0.045)
    width, tall = rng.uniform(0.2, 0.34), rng.uniform(0.24, 0.36)
    narrow = rng.uniform(0.35, 0.8) * width
    plate = lathe(
        np.array([[0, 0], [base, 0], [base, 0.05], [0.8 * base, 0.08], [0, 0.08]]),
        np.tile(foot, (4, 1)),
    )
    profile = np.array([[0, tall], [narrow, tall], [width, 0], [0, 0.3 * tall]])
    cone = lathe(profile, np.stack([shade, shade, np.array([0.95, 0.93, 0.75])]))
    if rng.random() < 0.5:
        stem = tube(np.array([[0, 0.05], [0, 0.5], [0, 0.8]]), thickness, foot)
        switch = block((0.12, 0.12, 0.1), any_color(rng))
        return (
            plate
            + stem
            + cone.transformed(np.eye(3), (0, 0, 1 - tall))
            + switch.transformed(np.eye(3), (base, 0, 0))
        )
    bend, reach = rng.uniform(0.45, 0.65), rng.uniform(0.3, 0.5)
    back = rng.uniform(-0.2, 0)
    path = np.array([[0, 0.05], [back, bend], [reach, 0.95]])
    at = np.linspace(0, 2, 9)
    stem = tube(
        np.stack([np.interp(at, range(3), path[:, i]) for i in (0, 1)], -1), thickness, foot
    )
    tilt = rng.uniform(0.2, 0.8)
    c, s = np.cos(tilt), np.sin(tilt)
    tipped = cone.transformed(0.8 * np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]))
    return plate + stem + tipped.transformed(np.eye(3), (reach + 0.05, 0, 0.95 - 0.6 * tall))


def banana(rng: np.random.Generator) -> Mesh:
    """Lying on its side, bent towards +y."""
    ripeness = rng.uniform(0.12, 0.2)
    skin = np.array(colorsys.hsv_to_rgb(ripeness, rng.uniform(0.65, 0.95), rng.uniform(0.75, 0.95)))
    tip = np.array([0.32, 0.22, 0.1])
    half = rng.uniform(0.5, 0.95)
    angle = np.linspace(-half, half, 15)
    path = 0.5 / np.sin(half) * np.stack([np.sin(angle), 1 - np.cos(angle)], -1)
    at = np.linspace(-1, 1, 15)
    thick = rng.uniform(0.1, 0.14) * np.sqrt(np.clip(1 - np.abs(at) ** 3, 0, None))
    thick = np.maximum(thick, 0.025)
    thick[-2:] = 0.035  # the stalk
    fruit = tube(path, thick, skin)
    rows = np.arange(len(fruit.faces)) // 10 % 14
    colors = np.where(((rows == 0) | (rows >= 12))[:, None], tip, fruit.colors)
    fruit = Mesh(fruit.vertices, fruit.faces, colors.astype(np.float32), fruit.normals)
    return fruit.transformed(Y_TO_Z)


def duck(rng: np.random.Generator) -> Mesh:
    """A bath toy that looks towards +x."""
    body = np.array([0.95, 0.8, 0.15]) if rng.random() < 0.4 else any_color(rng)
    beak = np.array([0.95, 0.45, 0.1]) if rng.random() < 0.7 else any_color(rng)
    length, width, height = rng.uniform(0.42, 0.5), rng.uniform(0.28, 0.36), rng.uniform(0.24, 0.32)
    head = rng.uniform(0.19, 0.25)
    ahead, up = rng.uniform(0.14, 0.28), height * 1.5 + head * rng.uniform(0.6, 0.85)
    trunk = ball((length, width, height), body).transformed(np.eye(3), (0, 0, height))
    skull = ball((head, head, head), body).transformed(np.eye(3), (ahead, 0, up))
    tail = ball((0.2, 0.12, 0.08), body).transformed(
        [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]], (-0.92 * length, 0, 1.25 * height)
    )
    bill = ball((0.13, 0.11, 0.05), beak).transformed(
        np.eye(3), (ahead + 1.05 * head, 0, up - 0.15 * head)
    )
    mesh = trunk + skull + tail + bill
    eye = ball((0.045, 0.045, 0.045), DARK if body.mean() > 0.3 else WHITE)
    wing = ball((0.6 * length, 0.06, 0.55 * height), body * rng.uniform(0.6, 0.95))
    for side in (-1, 1):
        mesh += eye.transformed(
            np.eye(3), (ahead + 0.7 * head, side * 0.6 * head, up + 0.35 * head)
        )
        mesh += wing.transformed(np.eye(3), (-0.08, side * 0.93 * width, 1.1 * height))
    return mesh
