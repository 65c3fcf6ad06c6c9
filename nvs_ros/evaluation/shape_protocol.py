"""Compare completed shapes and the confidence of views with the truth, object by object."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from nvs_ros.completion.confidence import Calibration, Evidence, fit_calibration
from nvs_ros.completion.hull import SURFACE, Grid, carve, look_up, measured_occupancy, transformed
from nvs_ros.completion.pipeline import AssessedView, assess_views, complete_shape
from nvs_ros.completion.surface import triangulated
from nvs_ros.evaluation.sets import ObjectSet
from nvs_ros.evaluation.shape_metrics import chamfer, scan, true_shape, volumetric_iou
from nvs_ros.geometry import (
    Spherical,
    inverse,
    position_from_spherical,
    target_from_angles,
)
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.settings import CompletionSettings, ViewSettings
from nvs_ros.silhouette import mask_iou
from nvs_ros.synthesizer import Frame, Observation, Synthesizer

VIEWPOINTS = ViewSettings().viewpoints
"""The node's default viewpoints: azimuth and elevation in degrees, distance."""
SURFACE_POINTS = 10000
"""About how many points of the true surface are used for the Chamfer distance."""


def _scanned(objects: ObjectSet, index: int) -> tuple[str, Mesh, Frame]:
    """Name and mesh of an object, and a frame with depth from its first camera."""
    name, mesh, cameras = objects.draw(index)
    camera = Spherical(*map(float, cameras[0]))
    return name, mesh, scan(mesh, position_from_spherical(camera), objects.settings.size)


def look_round(
    synthesizer: Synthesizer,
    frames: Sequence[Frame],
    settings: CompletionSettings,
    seed: int = 0,
) -> tuple[Observation, list[AssessedView]]:
    """The node's configured views of an object with their confidence."""
    observation = synthesizer.observe(frames)
    targets = [
        target_from_angles(
            observation.source, math.radians(azimuth), math.radians(elevation), distance
        )
        for azimuth, elevation, distance in VIEWPOINTS
    ]
    return observation, assess_views(synthesizer, observation, targets, settings, seed=seed)


def observe_views(
    synthesizer: Synthesizer, mesh: Mesh, frames: Sequence[Frame], settings: CompletionSettings
) -> tuple[Observation, list[AssessedView], list[Frame]]:
    """The node's configured views of an object with their confidence, and the true ones."""
    observation, views = look_round(synthesizer, frames, settings)
    size = observation.source.camera.width
    truths = [scan(mesh, v.estimate.target.object_from_camera[:3, 3], size) for v in views]
    return observation, views, truths


def next_frame(
    mesh: Mesh,
    frames: Sequence[Frame],
    observation: Observation,
    views: Sequence[AssessedView],
    settings: CompletionSettings,
) -> Frame:
    """The frame that a camera takes at the next best view."""
    completion = complete_shape(frames, observation, views, settings)
    target = views[completion.next_best_view].estimate.target
    return scan(mesh, target.object_from_camera[:3, 3], frames[0].camera.width)


def fit(
    synthesizer: Synthesizer, objects: ObjectSet, count: int, settings: CompletionSettings
) -> Calibration:
    """Fit the calibration of confidence, with depth and without, on the validation split."""
    evidence: list[Evidence] = []
    ious: list[float] = []
    for index in tqdm(range(count), 'calibrate', unit='object'):
        _, mesh, scanned = _scanned(objects.split('validation'), index)
        for frame in (scanned, _without_depth(scanned)):
            _, views, truths = observe_views(synthesizer, mesh, [frame], settings)
            for view, truth in zip(views, truths, strict=True):
                evidence += [view.evidence] * len(view.estimate.masks)
                ious += [mask_iou(mask, truth.mask) for mask in view.estimate.masks]
    return fit_calibration(evidence, ious)


def assess(
    synthesizer: Synthesizer,
    objects: ObjectSet,
    count: int,
    settings: CompletionSettings,
    frames: int = 1,
) -> Iterator[dict[str, Any]]:
    """Assess views and shapes of the objects in the test split.

    With ``frames`` above 1, further frames are taken one by one from the next best view.

    Yields
    ------
    dict
        ``name``; ``views``: a list with azimuth_deg, confidence, evidence, depth (whether the frame
        had it) and iou of each; ``shapes``: method -> iou and chamfer (longest sides of the
        object); ``mesh``, ``frame``, ``occupancy``: for pictures.
    """
    grid = Grid(1.0, settings.cells)
    for index in tqdm(range(count), 'assess', unit='object'):
        name, mesh, frame = _scanned(objects.split('test'), index)
        observation, views, truths = observe_views(synthesizer, mesh, [frame], settings)
        flat = _without_depth(frame)
        flat_views = observe_views(synthesizer, mesh, [flat], settings)[1]
        occupancy = _references(grid, frame, views, truths)
        occupancy['ours'] = _carved(grid, [frame], views)
        occupancy['ours_no_depth'] = _carved(grid, [flat], flat_views)
        measured, present = [frame], (observation, views)
        while len(measured) < frames:
            measured.append(next_frame(mesh, measured, *present, settings))
            present = observe_views(synthesizer, mesh, measured, settings)[:2]
            occupancy[f'ours_{len(measured)}_frames'] = _carved(grid, measured, present[1])
        solid, surface = true_shape(mesh, grid)
        surface = surface[:: max(1, len(surface) // SURFACE_POINTS)]
        yield {
            'name': name,
            'views': [
                {
                    'azimuth_deg': math.degrees(view.estimate.target.relative.delta_azimuth_rad),
                    'confidence': view.confidence,
                    'evidence': view.evidence._asdict(),
                    'depth': depth,
                    'iou': mask_iou(view.estimate.masks[0], truth.mask),
                }
                for depth, made in ((True, views), (False, flat_views))
                for view, truth in zip(made, truths, strict=True)
            ],
            'shapes': {
                method: {
                    'iou': volumetric_iou(made >= SURFACE, solid),
                    'chamfer': _surface_distance(grid, made, surface),
                }
                for method, made in occupancy.items()
            },
            'mesh': mesh,
            'frame': frame,
            'occupancy': occupancy,
        }


METHODS = {
    'cone': 'measured silhouette and depth, in the ball of the longest side',
    'mirrored': 'the same, as thick behind the centre as the depth is before it',
    'copied': 'hull of the measured silhouette in every view, and depth',
    'ours': 'completed, with depth',
    'ours_no_depth': 'completed, without depth',
    'ours_2_frames': 'completed, with a second frame from the next best view',
    'ours_3_frames': 'completed, with a third one from the next best view after that',
    'true': 'hull of the true silhouettes of these views, and depth',
}
"""Name of a method -> description for tables."""


def _without_depth(frame: Frame) -> Frame:
    return dataclasses.replace(frame, depth_m=None)


def _carved(grid: Grid, frames: Sequence[Frame], views: Sequence[AssessedView]) -> np.ndarray:
    """Occupancy of the grid, carved by frames and their views."""
    estimates = [view.estimate for view in views]
    return carve(grid, frames, estimates, [view.confidence for view in views])


def _references(
    grid: Grid, frame: Frame, views: Sequence[AssessedView], truths: Sequence[Frame]
) -> dict[str, np.ndarray]:
    """Occupancy of the grid by methods without the network, see :data:`METHODS`."""
    estimates = [view.estimate for view in views]
    centres = grid.centres
    measured = measured_occupancy(centres, grid.cell_m, frame)
    ball = 0.5 + (0.5 - np.linalg.norm(centres, axis=1)) / grid.cell_m
    coverage = frame.mask.astype(np.float32) / 255

    def hull(masks: Callable[[int], np.ndarray]) -> np.ndarray:
        left = measured.copy()
        for i, estimate in enumerate(estimates):
            pose = estimate.target.object_from_camera
            left = np.minimum(left, look_up(masks(i), estimate.target.camera, pose, centres))
        return left

    made = {
        'cone': np.minimum(measured, np.clip(ball, 0, 1)),
        'mirrored': np.minimum(measured, _mirrored(grid, frame)),
        'copied': hull(lambda i: coverage),
        'true': hull(lambda i: truths[i].mask.astype(np.float32) / 255),
    }
    return {method: array.astype(np.float32).reshape(grid.shape) for method, array in made.items()}


def _mirrored(grid: Grid, frame: Frame) -> np.ndarray:
    """Occupancy (N,) in front of the depth mirrored at the object's centre."""
    if frame.depth_m is None:
        raise ValueError('depth_m: expected a frame with depth, got none')
    pose = frame.object_from_camera
    centres = grid.centres
    depth = look_up(np.nan_to_num(frame.depth_m), frame.camera, pose, centres, cv2.INTER_NEAREST)
    back = 2 * np.linalg.norm(pose[:3, 3]) - depth
    return np.clip(0.5 + (back - transformed(inverse(pose), centres)[:, 2]) / grid.cell_m, 0, 1)


def _surface_distance(grid: Grid, occupancy: np.ndarray, surface: np.ndarray) -> float:
    """Chamfer distance to the true surface; 1, the object's longest side, if nothing is left."""
    try:
        vertices, *_ = triangulated(grid, occupancy)
    except ValueError:
        return 1.0
    return chamfer(vertices, surface)
