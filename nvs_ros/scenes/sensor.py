"""Simulate a depth camera, with the faults of real ones, on a rendered object."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nvs_ros.geometry.rigid import rigid
from nvs_ros.scenes.render import Rendering

WRONG_MASKS = 0.35
"""Share of views whose mask is eroded, dilated or shifted."""
WRONG_POSES = 0.25
"""Share of views whose pose is a little off."""
OCCLUDED = 0.15
"""Share of views with something in front of the object."""


@dataclass(frozen=True)
class Sighting:
    """A frame of a depth camera; lengths in longest sides of the object.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB, with a background.
    solid : (H, W) bool
        Mask of the object.
    depth : (H, W) float32
        Along the optical axis; NaN where not measured.
    unknown : (H, W) bool
        Pixels of things in front of the object.
    object_from_camera : (4, 4) float64
        Estimated pose of the camera (optical frame).
    """

    image: np.ndarray
    solid: np.ndarray
    depth: np.ndarray
    unknown: np.ndarray
    object_from_camera: np.ndarray


def perfect_sighting(rendering: Rendering, object_from_camera: np.ndarray) -> Sighting:
    """The sighting of an ideal camera: the rendering as it is, on white."""
    solid = rendering.mask >= 128
    nothing = np.zeros_like(solid)
    return Sighting(rendering.image, solid, rendering.depth_m, nothing, object_from_camera)


def sighting(
    rendering: Rendering, object_from_camera: np.ndarray, rng: np.random.Generator
) -> Sighting:
    """Degrade a rendering on white as real cameras, segmentation and pose estimation do."""
    solid = rendering.mask >= 128
    behind = _background(solid.shape, rng)
    clear = 1 - rendering.mask[..., None] / np.float32(255)
    image = np.clip(rendering.image + clear * (behind - 255.0), 0, 255).astype(np.uint8)
    depth = _measured_depth(rendering.depth_m, rng)
    unknown = np.zeros_like(solid)
    if rng.random() < OCCLUDED:
        unknown = _occluder(solid, rng)
        image[unknown] = rng.integers(0, 255, 3)
        depth[unknown] = np.nan
        solid = solid & ~unknown
    if rng.random() < WRONG_MASKS:
        solid = _wrong_mask(solid, rng) & ~unknown
    pose = object_from_camera
    if rng.random() < WRONG_POSES:
        turn, _ = cv2.Rodrigues(np.radians(rng.normal(0, 1.5, 3)))
        pose = rigid(turn, rng.normal(0, 0.012, 3)) @ object_from_camera
    return Sighting(image, solid, depth, unknown, pose)


def _background(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A background (H, W, 3) float32, 0..255: two colours with a more or less soft border."""
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    slope = np.linspace(-1, 1, shape[1]) * rng.normal() + np.linspace(-1, 1, shape[0])[:, None] * (
        rng.normal()
    )
    share = 1 / (1 + np.exp(-rng.uniform(1, 20) * slope))
    return first + share[..., None].astype(np.float32) * (second - first)


def _measured_depth(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Depth with random faults: noise that grows with the squared distance, quantisation, holes,
    and mixed values at edges."""
    depth = depth.copy()
    there = np.isfinite(depth)
    if not there.any():
        return depth
    if rng.random() < 0.3:  # mixed pixels at edges: the mean of both sides
        farthest = np.float32(np.nanmax(depth) + rng.uniform(0.1, 1.0))
        behind = np.where(there, depth, farthest)
        depth = np.where(there, cv2.blur(behind, (3, 3)), np.nan).astype(np.float32)
    spread = rng.uniform(0, 0.012) * rng.integers(0, 2)
    noise: np.ndarray = rng.standard_normal(depth.shape, np.float32)
    if rng.random() < 0.5:
        noise = 2 * cv2.GaussianBlur(noise, (0, 0), 1.0)
    depth += np.float32(spread / 1.8**2) * depth**2 * noise
    if rng.random() < 0.4:
        step = np.float32(rng.uniform(0.001, 0.012))
        depth = np.rint(depth / step) * step
    if rng.random() < 0.5:
        rows, columns = np.nonzero(there)
        for _ in range(rng.integers(1, 5)):
            middle = rng.integers(len(rows))
            axes = rng.integers(1, 12, 2).tolist()
            hole = cv2.ellipse(
                np.zeros(depth.shape, np.uint8),
                (int(columns[middle]), int(rows[middle])),
                axes,
                float(rng.uniform(0, 180)),
                0,
                360,
                1,
                -1,
            )
            depth[hole > 0] = np.nan
    if rng.random() < 0.2:
        depth[rng.random(depth.shape) < rng.uniform(0, 0.4)] = np.nan
    return depth


def _occluder(solid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mask (H, W) bool of a bar or ellipse over 5 % to 50 % of the object; empty if none fits."""
    rows, columns = np.nonzero(solid)
    if not len(rows):
        return np.zeros_like(solid)
    for _ in range(10):
        middle = rng.integers(len(rows))
        at, side = (int(columns[middle]), int(rows[middle])), solid.shape[0]
        drawn = np.zeros(solid.shape, np.uint8)
        if rng.random() < 0.5:
            away = rng.normal(0, side, 2)
            start, end = ([int(v) for v in np.array(at) + k * away] for k in (-2, 2))
            cv2.line(drawn, start, end, 1, int(rng.integers(4, side // 5)))
        else:
            axes = rng.integers(side // 20, side // 4, 2).tolist()
            cv2.ellipse(drawn, at, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        if 0.05 < (solid & (drawn > 0)).sum() / len(rows) < 0.5:
            return drawn > 0
    return np.zeros_like(solid)


def _wrong_mask(solid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask eroded, dilated or shifted by up to 2 % of the image; unchanged if under 30 % of it
    would be left."""
    kind, mask = rng.integers(3), solid.astype(np.uint8)
    pixels = int(rng.integers(1, 1 + max(1, solid.shape[0] // 50)))
    kernel = np.ones((2 * pixels + 1,) * 2, np.uint8)
    if kind == 0:
        wrong = cv2.erode(mask, kernel) > 0
    elif kind == 1:
        wrong = cv2.dilate(mask, kernel) > 0
    else:
        wrong = np.roll(solid, rng.integers(-pixels, pixels + 1, 2), (0, 1))
    return wrong if wrong.sum() > 0.3 * solid.sum() else solid
