"""Measure views, shapes and the confidence under each disturbance, object by object.

The results of an object are one JSON file, which is written after each case: a run that was
interrupted goes on there, and other kinds, levels and objects are added to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nvs_ros.completion.hull import SURFACE, Grid, carve, transformed
from nvs_ros.completion.pipeline import AssessedView, assess_views
from nvs_ros.evaluation.metrics import foreground_psnr
from nvs_ros.evaluation.sets import ObjectSet
from nvs_ros.evaluation.shape_metrics import true_shape, volumetric_iou
from nvs_ros.evaluation.shape_protocol import VIEWPOINTS
from nvs_ros.evaluation.weather.condition import condition_of
from nvs_ros.evaluation.weather.kinds import UNDISTURBED, Case, disturb
from nvs_ros.evaluation.weather.sight import Sight, take_sight
from nvs_ros.geometry import (
    Camera,
    Spherical,
    TargetCamera,
    inverse,
    target_from_angles,
    target_from_pose,
)
from nvs_ros.observation import Frame, Observation
from nvs_ros.reconcile import reconcile
from nvs_ros.replacing import replacing
from nvs_ros.scenes.render import Rendering, render
from nvs_ros.settings import CompletionSettings
from nvs_ros.silhouette import mask_iou
from nvs_ros.synthesizer import Synthesizer

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Weather:
    """Everything that is needed to measure any object of the set.

    Attributes
    ----------
    synthesizer : Synthesizer
    objects : ObjectSet
    settings : CompletionSettings
    views : int
        Of each frame, evenly over the node's default viewpoints.
    shapes : bool
        Whether shapes are completed from these views and compared too.
    quick : bool
        One seed and no confidence, at a third of the time; its place in the results is NaN.
    reconciled : bool
        Whether frames are first brought to agree, see :func:`nvs_ros.reconcile.reconcile`.
    """

    synthesizer: Synthesizer
    objects: ObjectSet
    settings: CompletionSettings
    views: int = 1
    shapes: bool = False
    quick: bool = False
    reconciled: bool = False

    def __post_init__(self) -> None:
        if self.shapes and self.quick:
            raise ValueError('shapes: expected views with confidence, got quick ones without')


@dataclass(frozen=True, eq=False)
class Asked:
    """An object and the views that are asked of it; they stand where they are whatever is thought
    of the object's pose.

    Attributes
    ----------
    sight : Sight
        Undisturbed.
    camera : Camera
        Of the views.
    object_from_views : list of (4, 4) float64
        Their true poses.
    """

    sight: Sight
    camera: Camera
    object_from_views: list[NDArray[np.float64]]

    @cached_property
    def shape(self) -> tuple[Grid, NDArray[np.bool_]]:
        """The true shape: a grid in the object's frame, and which cells are inside."""
        mesh = self.sight.mesh
        small = mesh.transformed(np.eye(3) / self.sight.size_m)
        grid = Grid(1.0, CompletionSettings().cells)
        return Grid(self.sight.size_m, grid.cells), true_shape(small, grid)[0]


def ask(weather: Weather, index: int) -> tuple[str, Asked]:
    """Name and views of object ``index``."""
    name, mesh, cameras = weather.objects.draw(index)
    rng = np.random.default_rng([weather.objects.settings.seed, index, 4])
    sight = take_sight(mesh, Spherical(*map(float, cameras[0])), rng)
    source = weather.synthesizer.canonical(sight.frame)
    poses = []
    for number in range(weather.views):
        place = (3 * index + number * len(VIEWPOINTS) // weather.views) % len(VIEWPOINTS)
        azimuth, elevation, distance = VIEWPOINTS[place]
        angles = np.radians(azimuth), np.radians(elevation)
        poses.append(target_from_angles(source, *angles, distance).object_from_camera)
    return name, Asked(sight, source.camera, poses)


def chosen_objects(size: int | None, count: int) -> list[int]:
    """Indices of ``count`` objects of a set, or of all if it has fewer.

    Spread over a set of files, whose neighbours are often alike; a larger count only adds objects.

    Parameters
    ----------
    size : int or None
        Number of objects in the set; None for any number.
    count : int
    """
    if size is None:
        return list(range(count))
    step = round(size * GOLDEN)
    while math.gcd(step, size) != 1:
        step += 1
    return [number * step % size for number in range(min(count, size))]


def measure_case(weather: Weather, asked: Asked, sight: Sight) -> dict[str, Any]:
    """Make and measure the views of one frame.

    Returns
    -------
    dict
        ``views``: of each iou, fg_psnr (dB; both means over the seeds), confidence, evidence,
        copy_iou and copy_fg_psnr (the frame as the network is shown it, in place of the view);
        ``condition``; ``shape_iou`` with ``weather.shapes``. ``refused`` instead: why the frame was
        not taken.
    """
    try:
        frame, remarks = reconcile(sight.frame) if weather.reconciled else (sight.frame, ())
        observation = weather.synthesizer.observe(frame)
        targets = _targets(asked, observation, frame)
        if weather.quick:
            made = _quick_views(weather, observation, targets)
            assessed = []
        else:
            assessed = assess_views(weather.synthesizer, observation, targets, weather.settings)
            made = [_made(*pair) for pair in zip(assessed, targets, strict=True)]
    except ValueError as error:
        return {'refused': str(error)}
    record: dict[str, Any] = {
        'views': [
            one.figures | _measured(asked, sight, observation, one, pose)
            for one, pose in zip(made, asked.object_from_views, strict=True)
        ],
        'condition': condition_of(sight.frame, observation.source)._asdict(),
        'remarks': list(remarks),
    }
    if weather.shapes:
        record['shape_iou'] = _shape_iou(asked, frame, assessed)
    return record


def _targets(asked: Asked, observation: Observation, frame: Frame) -> list[TargetCamera]:
    """The asked cameras about the object's pose as the robot has it."""
    source = observation.source
    same = np.array_equal(source.camera.matrix, asked.camera.matrix)
    camera = source.camera if same else asked.camera  # its own camera needs no warp
    thought = _thought_from_true(asked, frame)
    return [target_from_pose(source, camera, thought @ pose) for pose in asked.object_from_views]


class _Made(NamedTuple):
    """Pictures and masks of a view by the asked camera, one for each seed, and its confidence."""

    images: list[NDArray[np.uint8]]
    masks: list[NDArray[np.uint8]]
    figures: dict[str, Any]


def _made(view: AssessedView, target: TargetCamera) -> _Made:
    """The pictures are of the network's own camera; the target is the one that was asked for."""
    pictures = zip(view.estimate.images, view.estimate.masks, strict=True)
    images, masks = zip(*(target.warp_back(*picture) for picture in pictures), strict=True)
    figures = {'confidence': view.confidence, 'evidence': view.evidence._asdict()}
    return _Made(list(images), list(masks), figures)


def _quick_views(
    weather: Weather, observation: Observation, targets: Sequence[TargetCamera]
) -> list[_Made]:
    preset = weather.synthesizer.preset(weather.settings.preset)
    views = weather.synthesizer.synthesize(observation, targets, preset)
    return [_Made([view.image], [view.mask], {'confidence': math.nan}) for view in views]


def _thought_from_true(asked: Asked, frame: Frame) -> NDArray[np.float64]:
    """From the object's true frame to the one that the robot takes for it."""
    return frame.object_from_camera @ inverse(asked.sight.object_from_camera)


def _measured(
    asked: Asked,
    sight: Sight,
    observation: Observation,
    made: _Made,
    object_from_view: NDArray[np.float64],
) -> dict[str, float]:
    truth, source = _truth(asked, sight, object_from_view), observation.source

    def psnr(image: NDArray[np.uint8]) -> float:
        return foreground_psnr(image, truth.image, truth.mask)

    return {
        'iou': float(np.mean([mask_iou(mask, truth.mask) for mask in made.masks])),
        'fg_psnr': float(np.mean([psnr(image) for image in made.images])),
        'copy_iou': mask_iou(source.mask, truth.mask),
        'copy_fg_psnr': psnr(source.image),
    }


def _truth(asked: Asked, sight: Sight, object_from_view: NDArray[np.float64]) -> Rendering:
    """What the asked camera sees of the object alone, in the light of the sight."""
    camera, light = asked.camera, sight.lighting.seen_from(object_from_view)
    return render(asked.sight.mesh, object_from_view, camera.matrix, *camera.size, **light)


class _MovedGrid(Grid):
    """The cells of a grid, seen from another frame."""

    def __init__(self, grid: Grid, frame_from_grid: NDArray[np.float64]) -> None:
        super().__init__(grid.size_m, grid.cells)
        object.__setattr__(self, 'frame_from_grid', frame_from_grid)

    frame_from_grid: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        return transformed(self.frame_from_grid, super().centres)


def _shape_iou(asked: Asked, frame: Frame, views: Sequence[AssessedView]) -> float:
    """Volumetric IoU of the completed shape and the true one, in place."""
    grid, solid = asked.shape
    moved = _MovedGrid(grid, _thought_from_true(asked, frame))
    estimates, confidences = zip(*((view.estimate, view.confidence) for view in views), strict=True)
    return volumetric_iou(carve(moved, [frame], estimates, confidences) >= SURFACE, solid)


def measure_weather(
    weather: Weather, indices: Sequence[int], cases: Sequence[Case], folder: Path
) -> None:
    """Measure all cases of some objects that have not been measured yet.

    Parameters
    ----------
    weather : Weather
    indices : sequence of int
        Of the objects.
    cases : sequence of Case
        The undisturbed one is measured too.
    folder : Path
        ``object_<i>.json`` of each object are written here: ``object``, ``name``, and ``records``:
        ``kind``, ``level`` and what :func:`measure_case` gives.
    """
    wanted = list(dict.fromkeys([UNDISTURBED, *(case for case in cases if case.level)]))
    with tqdm(total=len(indices) * len(wanted), desc='cases') as bar:
        for index in indices:
            kept = read_object(folder, index)
            done = {Case(r['kind'], r['level']) for r in kept['records']}
            bar.update(len(done & set(wanted)))
            missing = [case for case in wanted if case not in done]
            if not missing:
                continue
            kept['name'], asked = ask(weather, index)
            for case in missing:
                seed = weather.objects.settings.seed, index
                record = measure_case(weather, asked, disturb(asked.sight, case, seed))
                kept['records'].append(case._asdict() | record)
                with replacing(_file(folder, index)) as partial:
                    partial.write_text(json.dumps(kept) + '\n')
                bar.update()


def read_object(folder: Path, index: int) -> dict[str, Any]:
    """What :func:`measure_weather` wrote of an object so far."""
    file = _file(folder, index)
    if not file.exists():
        return {'object': index, 'name': '', 'records': []}
    return json.loads(file.read_text())


def _file(folder: Path, index: int) -> Path:
    return folder / f'object_{index:05d}.json'
