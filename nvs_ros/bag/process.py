"""Run the synthesizer over a bag, without any graph."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.bag.frames import Matched, frames, match_frames
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.topics import full_name
from nvs_ros.bag.transforms import BagTransforms
from nvs_ros.bag.writer import BagWriter, write_views
from nvs_ros.completion.export import save_cloud, save_mesh
from nvs_ros.completion.pipeline import AssessedView, provenance_of
from nvs_ros.errors import UserError
from nvs_ros.loading import load_synthesizer
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.frames import SourceFrame, check_message
from nvs_ros.messages.input_types import input_types, picture_transports, type_name, type_names
from nvs_ros.messages.job import Job
from nvs_ros.messages.shapes import shape_messages
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.messages.transforms import Transforms
from nvs_ros.messages.view_maker import ViewMaker, file_words
from nvs_ros.messages.views import views_message
from nvs_ros.synthesizer import Synthesizer

PREFIX = 'nvs_'
"""Of frames: what a node called ``/nvs`` takes when ``views.frame_prefix`` is empty."""


def input_topics(configuration: Configuration, remap: Mapping[str, str]) -> dict[str, str]:
    """Input of a frame -> topic of the bag.

    Parameters
    ----------
    configuration : Configuration
    remap : mapping
        Input -> topic, for inputs that are not recorded under their own name.

    Raises
    ------
    UserError
        There is no such input, or two of them have one topic.
    """
    settings = configuration.input
    objects = {'pose': ['object_pose'], 'detections': ['detections'], 'mask': []}[settings.objects]
    inputs = ['image', 'camera_info', 'mask', *objects]
    inputs += ['depth'] if settings.reads_depth else []
    inputs += ['occluders'] if settings.occluders else []
    if unknown := remap.keys() - set(inputs):
        raise UserError(f'expected an input among {", ".join(inputs)}, got {sorted(unknown)[0]!r}')
    transports = picture_transports(settings)
    topics = {}
    for name in inputs:
        topic = full_name(remap.get(name, name))
        topics[name] = f'{topic}/compressed' if transports.get(name) == 'compressed' else topic
    for name, topic in topics.items():
        if same := [other for other in topics if topics[other] == topic and other != name]:
            raise UserError(
                f'expected a topic for each input, got {topic} for {name} and {same[0]}'
            )
    return topics


def process(
    bag: Path,
    output: Path,
    configuration: Configuration,
    *,
    remap: Mapping[str, str] | None = None,
    every: int = 1,
    shapes: Path | None = None,
    synthesizer: Synthesizer | None = None,
) -> None:
    """Make the configured views of the frames of a bag.

    The views are those that the node makes of the same frames. What is finished is kept beside the
    output until all is: the same call goes on where an interrupted one ended.

    Parameters
    ----------
    bag : Path
    output : Path
        New mcap file with the topics of a node called ``/nvs``.
    configuration : Configuration
    remap : mapping, optional
        See :func:`input_topics`.
    every : int
        1: every frame, 2: every other one, ...
    shapes : Path, optional
        Folder for a cloud (PLY) and a mesh (OBJ) of each object in each frame, in its object frame;
        their topics are in the output as well.
    synthesizer : Synthesizer, optional
        Loaded as the configuration says when omitted.

    Raises
    ------
    UserError
        The bag or the output cannot be used, or no frame is complete.
    """
    topics = input_topics(configuration, remap or {})
    if output.exists():
        raise UserError(f'{output} is there already')
    with Bag(bag, topics.values()) as recording:
        check_types(recording, topics, configuration)
        transforms = BagTransforms(bag)
        maker = _FrameMaker(configuration, synthesizer or _load(configuration), transforms, shapes)
        matched = matched_frames(recording, topics, configuration)
        lost = '; '.join(filter(None, [recording.shortfall(), *transforms.problems]))
        parts = _open_parts(bag, output, configuration, topics, every, shapes)
        _run(recording, matched, maker, parts, every)
    finished = sorted(parts.glob('*.mcap'))
    if not finished:
        shutil.rmtree(parts)
        why = '; '.join(filter(None, [left_out(matched), lost, *transforms.notes]))
        raise UserError(f'{bag} has no frame that can be used: {why}')
    _join(finished, output)
    shutil.rmtree(parts)
    result = f'views of {len(finished)} frames in {output}'
    without = '; '.join(filter(None, [left_out(matched), maker.left_out]))
    notes = [*recording.notes, *transforms.notes]
    print('\n'.join([*notes, f'{result}; {without}' if without else result]))
    if lost:
        raise UserError(f'{bag}: {lost}; {result} all the same')


def matched_frames(
    recording: Bag, topics: Mapping[str, str], configuration: Configuration
) -> Matched:
    """The frames of a bag, whose inputs are recorded under these topics."""
    return match_frames(
        recording,
        {topic: name for name, topic in topics.items()},
        configuration.sync.slop_s,
        lambda message: check_message(message, configuration.input.rectified),
    )


def check_types(recording: Bag, topics: Mapping[str, str], configuration: Configuration) -> None:
    """Refuse topics whose messages no input can be."""
    try:
        types = input_types(configuration.input)
    except ValueError as error:
        raise UserError(str(error)) from error
    for name, topic in topics.items():
        kind = recording.topics[topic].kind
        if kind not in types[name]:
            raise UserError(
                f'{name}: expected {type_names(types[name])} on {topic}, got {type_name(kind)}'
            )


def _load(configuration: Configuration) -> Synthesizer:
    try:
        return load_synthesizer(configuration.model, tqdm.write)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def _open_parts(
    bag: Path,
    output: Path,
    configuration: Configuration,
    topics: dict[str, str],
    every: int,
    shapes: Path | None,
) -> Path:
    """Folder for one file of each finished frame, which holds what the same call has left there."""
    parts = output.with_name(f'{output.name}.parts')
    job = {
        'bag': str(bag.resolve()),
        'topics': topics,
        'every': every,
        'shapes': None if shapes is None else str(shapes.resolve()),
        'parameters': dataclasses.asdict(configuration),
    }
    text = json.dumps(job, indent=1)
    described = parts / 'job.json'
    if not parts.exists():
        parts.mkdir(parents=True)
        described.write_text(text)
    elif not described.exists() or described.read_text() != text:
        raise UserError(f'{parts} belongs to another bag or other parameters: remove it, or go on')
    return parts


def _run(recording: Bag, matched: Matched, maker: _FrameMaker, parts: Path, every: int) -> None:
    """Make what is missing in ``parts``; frames that cannot be used are counted as dropped."""
    files = {i: parts / f'{i:06}.mcap' for i in range(0, len(matched.frames), every)}
    missing = {i for i, file in files.items() if not file.exists()}
    # What is finished may have to be remembered for what is not.
    wanted = sorted(files if missing and maker.configuration.memory.frames else missing)
    with tqdm(total=len(missing), desc='process', unit='frame') as progress:
        for i, frame in frames(recording, matched, wanted):
            if i not in missing:
                maker.remember(frame)
                continue
            progress.update()
            try:
                made = maker.views(frame, lambda share: progress.set_postfix(frame=f'{share:.0%}'))
            except ValueError as error:
                matched.dropped[str(error)] += 1
                progress.write(f'frame {i} left out: {error}')
                continue
            with BagWriter(files[i]) as writer:
                for k, object_ in enumerate(made):
                    # As the node does: topics of single views are those of the first object.
                    write_views(writer, frame.stamp_ns, object_.views, [] if k else object_.names)
                    for topic, message in object_.shape.items():
                        writer.write(f'/nvs/{topic}', frame.stamp_ns, message)


def left_out(matched: Matched) -> str:
    """What was not used of the bag and why, counted; ``''`` when all was."""
    images = [
        f'{n} of {matched.images} images left out: {reason}'
        for reason, n in matched.dropped.most_common()
    ]
    return '; '.join([*images, *matched.reasons])


def _join(parts: list[Path], output: Path) -> None:
    with BagWriter(output) as writer:
        for part in tqdm(parts, 'write', unit='frame'):
            with Bag(part) as bag:
                for topic, recorded_ns, message in bag.messages():
                    writer.write(topic, recorded_ns, message)


class _Made(NamedTuple):
    """Messages of an object in a frame."""

    views: NovelViewArray
    names: list[str]
    """Of the configured views, in the same order."""
    shape: dict[str, Any]
    """By topic; empty where none is asked for, or can be made."""


class _FrameMaker:
    """Makes the views of a frame as the node does."""

    def __init__(
        self,
        configuration: Configuration,
        synthesizer: Synthesizer,
        transforms: Transforms,
        shapes: Path | None = None,
    ) -> None:
        self.configuration = configuration
        self._shapes = shapes
        self._engine = Engine(
            synthesizer, transforms, lambda stage, seconds: None, self._leave_out_object
        )
        self._counts: Counter[str] = Counter()
        self._problems: dict[str, str] = {}
        self._maker = ViewMaker(
            self._engine, lambda: configuration, PREFIX, lambda subject, text: tqdm.write(text)
        )

    def views(self, frame: FrameMessages, on_progress: Callable[[float], None]) -> list[_Made]:
        """What is made of each object in the frame; raise what the first one did if there is
        none."""
        made, errors = [], []
        for source in self._engine.sources(frame, self.configuration):
            try:
                made.append(self._made_of(source, on_progress))
            except Exception as error:  # whatever it is: the other objects are not to blame
                errors.append((source.object_id, error))
        if not made:
            raise errors[0][1]
        for object_id, error in errors:
            self._leave_out_object(object_id, error)
        return made

    def remember(self, frame: FrameMessages) -> None:
        """Look at a frame whose views are made already, for those after it."""
        self._engine.sources(frame, self.configuration)

    @property
    def left_out(self) -> str:
        """Which objects were left out of frames that have others, and why; ``''`` when none was."""
        return '; '.join(
            f'object {identity!r} left out of {n} frames, the first time: '
            f'{self._problems[identity]}'
            for identity, n in self._counts.items()
        )

    def _leave_out_object(self, object_id: str, error: Exception) -> None:
        self._counts[object_id] += 1
        if object_id not in self._problems:
            kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
            problem = self._problems[object_id] = f'{kind}{error}'
            tqdm.write(f'object {object_id!r} left out of a frame: {problem}')

    def _made_of(self, source: SourceFrame, on_progress: Callable[[float], None]) -> _Made:
        targets = self._maker.configured_targets(source)
        job = Job(lambda job: None)
        assessed = None
        if self._shapes is not None:
            assessed = self._maker.assessed(job, source, targets)
        views = self._maker.views_with_remark(job, source, targets, on_progress, assessed)
        shape = self._shape_of(job, source, assessed) if assessed else {}
        return _Made(views_message(list(views.values()), source), list(views), shape)

    def _shape_of(
        self, job: Job, source: SourceFrame, assessed: dict[str, AssessedView]
    ) -> dict[str, Any]:
        """Write the shape of an object to files; return its messages by topic."""
        completion = self._maker.shape(job, source, assessed)
        if completion is None:
            return {}
        settings, views = self.configuration.completion, list(assessed.values())
        provenance = {
            **provenance_of(views, settings),
            'stamp_ns': source.stamp_ns,
            'frame': f'object: z up; its pose in {source.header.frame_id} (row by row) '
            + ' '.join(f'{value:.6g}' for value in source.frame_from_upright[:3].ravel()),
            'frames': len(source.frames),
        }
        file = self._shapes / f'{source.stamp_ns}{file_words(source.object_id)}'
        save_cloud(completion.cloud, file.with_suffix('.ply'), provenance)
        save_mesh(completion.surface, file.with_suffix('.obj'), provenance)
        messages = shape_messages(completion, source, views, normals=settings.normals)
        return messages._asdict()
