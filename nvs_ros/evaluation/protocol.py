"""The paper's protocol: every view of each object from every other, with several seeds.

Objects are processed one by one. Their results are written as soon as they exist, so that a run can
be interrupted and continued, or extended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from nvs_ros.computer.allocator import keep_freed_memory
from nvs_ros.errors import UserError
from nvs_ros.evaluation.methods import (
    DETERMINISTIC,
    Method,
    deterministic_pictures,
    pictures_of,
)
from nvs_ros.evaluation.metrics import measure
from nvs_ros.evaluation.perceptual import Perceptual, find_perceptual
from nvs_ros.evaluation.sets import ObjectSet, Views
from nvs_ros.geometry.spherical import wrap_angle
from nvs_ros.geometry.target import target_from_pose
from nvs_ros.image_files import CONTENT, save_view
from nvs_ros.replacing import replacing
from nvs_ros.settings import Settings, setting
from nvs_ros.synthesizer import Synthesizer


@dataclass(frozen=True)
class ProtocolSettings(Settings):
    """Which views are made; the defaults are the paper's."""

    objects: int = setting(50, 'Objects.', low=1)
    views: int = setting(8, 'Views of each object, from random sides.', low=2)
    sources: int = setting(0, 'Views of each that are a source; 0: all of them.', low=0)
    seeds: int = setting(3, 'Seeds of the noise.', low=1)

    def check(self) -> None:
        if self.sources > self.views:
            raise ValueError(
                f'sources: expected at most the {self.views} views, got {self.sources}'
            )

    @property
    def pairs(self) -> int:
        """Number of pairs of source and target for each object."""
        return (self.sources or self.views) * (self.views - 1)


@dataclass(frozen=True)
class Evaluation:
    """Everything that a process needs to measure any object of the set."""

    synthesizer: Synthesizer
    objects: ObjectSet
    methods: Sequence[Method]
    settings: ProtocolSettings
    perceptual: Perceptual | None = None


def measure_object(evaluation: Evaluation, index: int) -> tuple[dict[str, Any], np.ndarray]:
    """Make and measure all views of one object.

    Returns
    -------
    result : dict
        ``object``, ``name``, ``sha256`` of the images, and ``records``: one for each method,
        pair and seed, with the azimuth change in degrees and the metrics.
    strip : (S, S * (2 + methods), 3) uint8
        The first source, its target with the largest azimuth change, and that view by each method.
    """
    views = evaluation.objects.views(index)
    records, strip = [], []
    for source in range(evaluation.settings.sources or evaluation.settings.views):
        targets = [target for target in range(len(views.images)) if target != source]
        turns = [wrap_angle(float(a)) for a in views.cameras[targets, 0] - views.cameras[source, 0]]
        shown = int(np.argmax(np.abs(turns)))
        if source == 0:
            strip = [views.images[0], views.images[targets[shown]]]
        for method, seed, pictures in _pictures(evaluation, index, views, source, targets):
            if source == seed == 0:
                strip.append(pictures[shown])
            for target, turn, picture in zip(targets, turns, pictures, strict=True):
                metrics = measure(
                    picture, views.images[target], views.masks[target], evaluation.perceptual
                )
                place = {'method': method, 'source': source, 'target': target, 'seed': seed}
                records.append(place | {'delta_azimuth_deg': float(np.degrees(turn))} | metrics)
    result = {'object': index, 'name': views.name, 'sha256': views.sha256, 'records': records}
    return result, np.concatenate(strip, 1)


def _pictures(
    evaluation: Evaluation, index: int, views: Views, source: int, targets: list[int]
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name of each method, number of the seed, and its images (targets, S, S, 3) uint8."""
    synthesizer, truths = evaluation.synthesizer, views.images[targets]
    still = deterministic_pictures(synthesizer, views.images[source], truths)
    yield from ((name, 0, pictures) for name, pictures in still.items())
    trained = synthesizer.components.profile.trained
    view = views.canonical(source, trained)
    observations = {
        known: synthesizer.observe(
            [view, *views.further(source, known, trained)], views.measurement(source, known)
        )
        for known in dict.fromkeys(method.known for method in evaluation.methods)
    }
    poses = [views.canonical(target, trained).object_from_camera for target in targets]
    cameras = [target_from_pose(view, view.camera, pose) for pose in poses]
    for seed in range(evaluation.settings.seeds):
        # The noise differs by object and source, but is the same for all methods.
        noise = int(np.random.SeedSequence([index, source, seed]).generate_state(1)[0])
        for method in evaluation.methods:
            observation = observations[method.known]
            made = pictures_of(method, synthesizer, observation, cameras, truths, noise)
            yield method.name, seed, made


def method_names(methods: Sequence[Method]) -> list[str]:
    """Names of all measured methods, in the order of the strips."""
    return [*DETERMINISTIC, *(method.name for method in methods)]


def evaluate(evaluation: Evaluation, folder: Path, model: dict[str, Any], workers: int = 1) -> None:
    """Measure the objects that have not been measured yet.

    Parameters
    ----------
    evaluation : Evaluation
    folder : Path
        ``object_<i>.json`` and ``object_<i>.png`` of each object are written here, see
        :func:`measure_object`.
    model : dict
        Arguments of :meth:`Synthesizer.from_pretrained`, for worker processes.
    workers : int
        Number of processes with one thread each; with 1 this process does the work.
    """
    wanted = range(evaluation.settings.objects)
    missing = [index for index in wanted if not _file(folder, index).exists()]
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc='objects') as bar:
        if workers == 1:
            for index in missing:
                _write(folder, *measure_object(evaluation, index))
                bar.update()
            return
        job = evaluation.objects, evaluation.methods, evaluation.settings, model
        with ProcessPoolExecutor(
            min(workers, max(1, len(missing))), get_context('spawn'), _start, job
        ) as pool:
            futures = [pool.submit(_measure_and_write, folder, index) for index in missing]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


_evaluation: Evaluation
"""In a worker process: loaded once for all its objects."""


def _start(
    objects: ObjectSet, methods: Sequence[Method], settings: ProtocolSettings, model: dict[str, Any]
) -> None:
    global _evaluation
    torch.set_num_threads(1)
    keep_freed_memory()
    synthesizer = Synthesizer.from_pretrained(**model)
    _evaluation = Evaluation(synthesizer, objects, methods, settings, find_perceptual()[0])


def _measure_and_write(folder: Path, index: int) -> None:
    _write(folder, *measure_object(_evaluation, index))


def _file(folder: Path, index: int) -> Path:
    return folder / f'object_{index:05d}.json'


def _write(folder: Path, result: dict[str, Any], strip: np.ndarray) -> None:
    file = _file(folder, result['object'])
    save_view(strip, file.with_suffix('.png'), {'content': CONTENT})
    with replacing(file) as partial:
        partial.write_text(json.dumps(result) + '\n')


def read_results(folder: Path, objects: int) -> list[dict[str, Any]]:
    """The results that :func:`evaluate` wrote for the first ``objects`` objects."""
    return [json.loads(_file(folder, index).read_text()) for index in range(objects)]


def results_of(json_file: Path) -> Path:
    """The folder with the results of single objects beside the JSON of a run."""
    return json_file.with_name(json_file.name + '.objects')


def open_folder(folder: Path, config: dict[str, Any]) -> None:
    """Create the folder of a run, or check that an existing one has the same configuration.

    Raises
    ------
    UserError
        The folder has results of another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, text = folder / 'config.json', json.dumps(config, indent=2) + '\n'
    if not file.exists():
        file.write_text(text)
    elif (kept := file.read_text()) != text:  # strips are in the order of methods, too
        found, wanted = json.loads(kept), json.loads(text)
        differ = [key for key in wanted if found.get(key) != wanted[key]] or ['order of methods']
        raise UserError(
            f'{folder} has results of another configuration ({", ".join(differ)}): '
            'remove it, or give another --json'
        )
