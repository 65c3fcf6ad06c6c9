"""What else is in the scene: things before the object and about it, and light from one side.

Each function takes a sight and an amount above 0 in its own unit, as in
:mod:`nvs_ros.evaluation.weather.measured`.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from nvs_ros.evaluation.weather.masks import depth_inside, first
from nvs_ros.evaluation.weather.sight import Sight
from nvs_ros.scenes.categories import HOUSEHOLD, make_object
from nvs_ros.scenes.lighting import Lighting
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import AMBIENT, LIGHT_IN_CAMERA

OCCLUDER_AT = 0.6
"""Distance of the occluder, in distances of the object."""
GAPS = (1.02, 0.8, 0.65)
"""Distance of two things on the table, in sums of the radii of their footprints: that of any two
things, and smaller ones for things that do not touch in the picture."""
BESIDE_DEG = (90, 70, 50, 30)
"""Where a neighbour is tried: angles from straight behind the object, degrees."""
TOUCHES_PX = 4.0
"""Widest gap in the picture between two things that touch, pixels."""
LEAKS = 2.0
"""Share of the mask's pixels, in per cent, that each thing about the object adds to the mask."""
DARKEST = 0.08
"""Share of ambient light when the lamp stands at :data:`WIDEST`."""
WIDEST = 100.0
"""Angle between the usual light and the lamp at the highest level, degrees."""


def occluded(sight: Sight, per_cent: float, rng: np.random.Generator) -> Sight:
    """Something flat comes in from one side before the object and hides that share of it. The mask
    leaves it out, and nobody says what it is."""
    angle, brightness = rng.uniform(0, 2 * np.pi), rng.uniform(40, 215)
    color = brightness + rng.normal(0, 15, 3)
    rows, columns = np.indices(sight.solid.shape)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    hidden = first(sight.solid, along, per_cent / 100)
    edge = along[hidden].max() if hidden.any() else -np.inf
    before = along <= edge
    shade = 1 + 0.2 * (along - edge) / 320
    image = np.where(before[..., None], color * shade[..., None], sight.frame.image)
    distance = np.linalg.norm(sight.object_from_camera[:3, 3])
    return sight.but(
        image=np.clip(image, 0, 255).astype(np.uint8),
        mask=np.where(before, 0, sight.frame.mask).astype(np.uint8),
        depth_m=np.where(before, OCCLUDER_AT * distance, sight.depth_m).astype(np.float32),
    )


def second_object(sight: Sight, per_cent: float, rng: np.random.Generator) -> Sight:
    """A neighbour touches the object in the picture, and that share of its pixels, those next to
    the object, is in the mask."""
    side, size, seed = rng.choice([-1, 1]), rng.uniform(0.6, 0.9), int(rng.integers(2**32))
    best, neighbour = sight, np.zeros_like(sight.solid)
    for gap, turn in itertools.product(GAPS, np.radians(BESIDE_DEG)):
        if gap != GAPS[0] and turn == np.radians(BESIDE_DEG[0]) and neighbour.any():
            break  # one touches without being moved nearer
        angle = _away(sight) + side * turn
        thing = _thing(sight, angle, size, np.random.default_rng(seed), gap)
        tried = sight.drawn_again(things=(thing,))
        pixels = _pixels_of(tried, thing) & ~tried.solid
        touches = (depth_inside(~tried.solid)[pixels] < TOUCHES_PX).any()
        if touches and pixels.sum() > neighbour.sum():
            best, neighbour = tried, pixels
    taken = first(neighbour, depth_inside(~best.solid), per_cent / 100)
    return best.but(mask=(best.solid | taken).astype(np.uint8) * 255)


def cluttered(sight: Sight, things: float, rng: np.random.Generator) -> Sight:
    """So many other things stand about the object, every other one of them before it. The mask
    leaves out what hides the object, but takes a few pixels of each thing."""
    made = []
    for number in range(round(things)):
        spread, front = rng.uniform(0.2, 0.9), number % 2 == 0
        angle = _away(sight) + rng.choice([-1, 1]) * (np.pi - spread if front else spread)
        size = rng.uniform(0.3, 0.5) if front else rng.uniform(0.5, 1.0)
        made.append(_thing(sight, angle, size, rng))
    sight = sight.drawn_again(things=tuple(made))
    others = np.zeros_like(sight.solid)
    for thing in made:
        others |= _pixels_of(sight, thing)
    others &= ~sight.solid
    count = min(round(things) * LEAKS / 100 * sight.solid.sum(), others.sum())
    leaked = first(others, depth_inside(~sight.solid), count / max(1, others.sum()))
    return sight.but(mask=(sight.solid | leaked).astype(np.uint8) * 255)


def lit_from_side(sight: Sight, degrees: float, rng: np.random.Generator) -> Sight:
    """A lamp that stands still, that angle to the side of the usual light; ambient light falls with
    the angle. The truth is lit by the same lamp."""
    turn, _ = cv2.Rodrigues(np.array([0.0, np.radians(rng.choice([-1, 1]) * degrees), 0.0]))
    towards = sight.object_from_camera[:3, :3] @ turn @ LIGHT_IN_CAMERA
    ambient = AMBIENT + (DARKEST - AMBIENT) * min(1.0, degrees / WIDEST)
    lamp = Lighting(towards / np.linalg.norm(towards), with_camera=False, ambient=ambient)
    return sight.drawn_again(lighting=lamp)


def _thing(
    sight: Sight, angle_rad: float, size: float, rng: np.random.Generator, gap: float = GAPS[0]
) -> Mesh:
    """A household object on the same table, ``size`` times as large, beside the object."""
    thing = make_object(HOUSEHOLD[rng.integers(len(HOUSEHOLD))], rng)
    thing = thing.transformed(size * sight.size_m * np.eye(3))
    reach = gap * (_footprint(sight.mesh) + _footprint(thing))
    table = sight.mesh.vertices[:, 2].min() - thing.vertices[:, 2].min()
    return thing.transformed(
        np.eye(3), (reach * np.cos(angle_rad), reach * np.sin(angle_rad), table)
    )


def _away(sight: Sight) -> float:
    """Direction from the camera over the object, an angle about its vertical axis."""
    return float(np.arctan2(*-sight.object_from_camera[1::-1, 3]))


def _footprint(mesh: Mesh) -> float:
    """Radius of a mesh about its vertical axis, metres."""
    return float(np.linalg.norm(mesh.vertices[:, :2], axis=1).max())


def _pixels_of(sight: Sight, thing: Mesh) -> np.ndarray:
    """Where a thing shows in a sight, (H, W) bool."""
    camera = sight.frame.camera
    depth = sight.alone(thing).depth_m
    with np.errstate(invalid='ignore'):
        return np.abs(depth - sight.depth_m) < 1e-6 * camera.matrix[0, 0]
