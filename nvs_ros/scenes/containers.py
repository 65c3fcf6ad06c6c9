"""Vessels and cartons: mostly surfaces of revolution, with a feature that tells the front."""

from __future__ import annotations

import numpy as np

from nvs_ros.scenes.mesh import Mesh, lathe, patch, tube
from nvs_ros.scenes.palette import STEEL, WHITE, any_color, two_colors

SEGMENTS = 40


def _label(rings: np.ndarray, rows: slice, width: int, color: np.ndarray) -> np.ndarray:
    """Colours (k, segments, 3) of a lathe from those of its rings (k, 3), with a label.

    The label is ``width`` segments wide, on the rings ``rows``, in one colour.
    """
    colors = np.repeat(rings[:, None], SEGMENTS, 1)
    columns = np.arange(-(width // 2), width - width // 2) % SEGMENTS
    colors[rows, columns] = color
    return colors


def mug(rng: np.random.Generator) -> Mesh:
    body, inside = two_colors(rng)
    if rng.random() < 0.5:
        inside = body
    radius, height = rng.uniform(0.33, 0.46), rng.uniform(0.75, 1.05)
    foot = radius * rng.uniform(0.75, 1.0)
    wall, floor = 0.06 * radius / 0.4, 0.08
    at = np.linspace(0, 1, 5)
    outer = np.stack([foot + (radius - foot) * np.sqrt(at), at * height], -1)
    profile = np.concatenate(
        [[[0, 0]], outer, [[radius - wall, height], [foot - wall, floor], [0, floor]]]
    )
    colors = np.concatenate([np.tile(body, (6, 1)), np.tile(inside, (2, 1))])
    if rng.random() < 0.4:
        colors[3] = inside if inside is not body else WHITE
    reach, low, high = rng.uniform(0.22, 0.34), rng.uniform(0.12, 0.28), rng.uniform(0.72, 0.88)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    middle, half = (low + high) / 2 * height, (high - low) / 2 * height
    start = foot + (radius - foot) * 0.6 - 0.02
    path = np.stack([start + reach * np.cos(angle), middle + half * np.sin(angle)], -1)
    return lathe(profile, colors, SEGMENTS) + tube(path, rng.uniform(0.045, 0.07), body)


def teapot(rng: np.random.Generator) -> Mesh:
    body, trim = two_colors(rng)
    radius, height = rng.uniform(0.38, 0.48), rng.uniform(0.55, 0.8)
    angle = np.linspace(-np.pi / 2 * 0.8, np.pi / 2 * 0.8, 9)
    belly = np.stack(
        [radius * np.cos(angle), height / 2 * (1 + np.sin(angle) / np.sin(angle[-1]))], -1
    )
    lid = height + rng.uniform(0.05, 0.12)
    knob = rng.uniform(0.04, 0.07)
    profile = np.concatenate(
        [
            [[0, 0]],
            belly,
            [
                [0.4 * knob, lid],
                [knob, lid + knob],
                [0.5 * knob, lid + 2 * knob],
                [0, lid + 2 * knob],
            ],
        ]
    )
    colors = np.concatenate([np.tile(body, (9, 1)), np.tile(trim, (4, 1))])
    spout_reach = rng.uniform(0.28, 0.4)
    spout = np.array([[0.8 * radius, 0.3], [1.0 * radius + 0.35 * spout_reach, 0.45]])
    spout = np.concatenate([spout, [[radius + spout_reach, rng.uniform(0.85, 1.05)]]])
    spout[:, 1] *= height
    path = np.stack([np.interp(np.linspace(0, 2, 7), range(3), spout[:, i]) for i in (0, 1)], -1)
    pour = tube(path, np.linspace(0.11, 0.05, 7), body)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 12)
    reach = rng.uniform(0.2, 0.3)
    handle = np.stack(
        [-(0.8 * radius + reach * np.cos(angle)), height * (0.52 + 0.3 * np.sin(angle))], -1
    )
    return lathe(profile, colors, SEGMENTS) + pour + tube(handle, rng.uniform(0.04, 0.06), trim)


def bottle(rng: np.random.Generator) -> Mesh:
    body, label = two_colors(rng)
    cap = any_color(rng)
    radius, shoulder = rng.uniform(0.16, 0.28), rng.uniform(0.5, 0.68)
    neck, bottom = radius * rng.uniform(0.3, 0.5), shoulder + rng.uniform(0.1, 0.2)
    top = 1.0
    blend = np.linspace(0, np.pi, 6)
    curve = np.stack(
        [
            neck + (radius - neck) * (1 + np.cos(blend)) / 2,
            shoulder + (bottom - shoulder) * blend / np.pi,
        ],
        -1,
    )
    low, high = rng.uniform(0.08, 0.18), shoulder - rng.uniform(0.04, 0.14)
    cap_from = top - rng.uniform(0.08, 0.13)
    profile = np.concatenate(
        [
            [[0, 0], [radius, 0], [radius, low], [radius, high]],
            curve,
            [[neck, cap_from], [neck * 1.2, cap_from], [neck * 1.2, top], [0, top]],
        ]
    )
    rings = np.tile(body, (len(profile) - 1, 1))
    rings[-3:] = cap
    return lathe(profile, _label(rings, slice(2, 3), int(rng.integers(12, 26)), label), SEGMENTS)


def can(rng: np.random.Generator) -> Mesh:
    body, label = two_colors(rng)
    radius = rng.uniform(0.24, 0.42)
    rim = rng.uniform(0.03, 0.06)
    low, high = rng.uniform(0.15, 0.3), rng.uniform(0.65, 0.85)
    profile = np.array(
        [
            [0, 0],
            [radius * 0.94, 0],
            [radius, rim],
            [radius, low],
            [radius, high],
            [radius, 1 - rim],
            [radius * 0.94, 1],
            [radius * 0.88, 0.98],
            [0, 0.98],
        ]
    )
    rings = np.array([STEEL, STEEL, body, body, body, STEEL, STEEL * 0.8, STEEL])
    if rng.random() < 0.5:
        rings[4] = any_color(rng)
    return lathe(profile, _label(rings, slice(3, 4), int(rng.integers(12, 26)), label), SEGMENTS)


def bowl(rng: np.random.Generator) -> Mesh:
    outside, inside = two_colors(rng)
    height, foot = rng.uniform(0.3, 0.55), rng.uniform(0.15, 0.28)
    at = np.linspace(0, 1, 8)
    curve = np.stack(
        [foot + (0.5 - foot) * np.sin(at * np.pi / 2), height * (1 - np.cos(at * np.pi / 2))], -1
    )
    curve[:, 1] += 0.04
    inner = curve[::-1] * [0.92, 1] + [0, 0.02]
    profile = np.concatenate([[[0, 0], [foot, 0]], curve, inner, [[0, 0.06]]])
    rings = np.tile(outside, (len(profile) - 1, 1))
    rings[9:] = inside
    label = inside if rng.random() < 0.7 else any_color(rng)
    return lathe(profile, _label(rings, slice(5, 8), int(rng.integers(6, 20)), label), SEGMENTS)


def carton(rng: np.random.Generator) -> Mesh:
    base, panel = two_colors(rng)
    side = base if rng.random() < 0.5 else any_color(rng)
    width, depth, height = rng.uniform(0.45, 1), rng.uniform(0.2, 0.6), rng.uniform(0.55, 1)
    x, y, z = np.diag([depth, width, height])
    low = np.array([-depth / 2, -width / 2, 0])
    front = np.tile(base, (3, 3, 1))
    front[1, 1] = panel
    if rng.random() < 0.5:
        front[2] = panel
    u = np.array([0, rng.uniform(0.1, 0.25), rng.uniform(0.75, 0.9), 1])
    v = np.array([0, rng.uniform(0.1, 0.3), rng.uniform(0.6, 0.8), 1])
    plain = base[None, None]
    faces = [
        patch(low + x, y, z, front, u, v),
        patch(low + y, -y, z, plain),
        patch(low, x, z, side[None, None]),
        patch(low + x + y, -x, z, side[None, None]),
        patch(low + z, x, y, (base if rng.random() < 0.5 else panel)[None, None]),
        patch(low + y, x, -y, plain),
    ]
    return sum(faces[1:], faces[0])
