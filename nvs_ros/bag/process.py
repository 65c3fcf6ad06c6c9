"""Run the synthesizer over a bag, without a ROS graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from nvs_ros.bag.frame_maker import FrameMaker
from nvs_ros.bag.frames import frames
from nvs_ros.bag.inputs import check_types, matched_frames
from nvs_ros.bag.parts import BagJob, BagReport, Parts, Plan
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.transforms import BagTransforms
from nvs_ros.bag.writer import BagWriter, write_views
from nvs_ros.errors import UserError
from nvs_ros.loading import load_synthesizer
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.synthesizer import Synthesizer


def process(
    bag: Path,
    output: Path,
    configuration: Configuration,
    *,
    remap: Mapping[str, str] | None = None,
    every: int = 1,
    shapes: Path | None = None,
    synthesizer: Synthesizer | None = None,
) -> BagReport:
    """Make the configured views of the frames of a bag.

    They are the same views that the node makes of these frames. Finished frames are kept in a
    folder beside the output, so that the same call continues after an interruption.

    Parameters
    ----------
    bag : Path
    output : Path
        New mcap file, with the topics of a node called ``/nvs``.
    configuration : Configuration
    remap : mapping, optional
        See :func:`nvs_ros.bag.inputs.input_topics`.
    every : int
        1: every frame, 2: every other one, ...
    shapes : Path, optional
        Folder for a cloud (PLY) and a mesh (OBJ) of each object in each frame, in its object frame;
        their topics are written to the output as well.
    synthesizer : Synthesizer, optional
        Loaded according to ``configuration.model`` when omitted.

    Raises
    ------
    UserError
        The bag cannot be used, the output exists, the folder of finished frames belongs to another
        call, or no frame is usable. Also at the end, with the output written, when parts of the bag
        could not be read.
    """
    job = BagJob(bag, output, configuration, remap or {}, every, shapes)
    with BagWorker(lambda: synthesizer or load(configuration)) as worker:
        for todo in worker.plan(job):
            worker.make(job, todo)
        report = worker.finish(job)
    Parts(job).remove()
    tell(report)
    return report


def tell(report: BagReport) -> None:
    """Print what came of a bag.

    Raises
    ------
    UserError
        Something failed.
    """
    if not report.frames:
        raise UserError(report.failure)
    result, without = report.result(), report.without()
    print('\n'.join([*report.notes, f'{result}; {without}' if without else result]))
    if report.failure:
        raise UserError(f'{report.bag}: {report.failure}; {result} all the same')


def load(configuration: Configuration) -> Synthesizer:
    """Load the configured model; raises UserError when that is not possible."""
    try:
        return load_synthesizer(configuration.model, tqdm.write)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


class Range(NamedTuple):
    """A part of a bag: frames that follow each other in the order in which they are complete."""

    start: int
    stop: int
    """Places in :attr:`Plan.order`."""
    missing: int
    """Number of its frames that are not finished."""


class BagWorker:
    """Makes any part of any bag, one after the other; use it as a context manager.

    What comes of a frame does not depend on which worker makes it, nor on what it made before.

    Parameters
    ----------
    load : callable
        Returns the synthesizer; called once, when the first bag has been looked at.
    """

    def __init__(self, load: Callable[[], Synthesizer]) -> None:
        self._load = load
        self._synthesizer: Synthesizer | None = None
        self._opened: _Opened | None = None

    def plan(self, job: BagJob, size: int = 0) -> list[Range]:
        """Find the frames of a bag, unless an interrupted call has.

        Parameters
        ----------
        job : BagJob
        size : int
            Most frames of a range; 0: no limit.

        Returns
        -------
        list of Range
            Those with frames that are not finished.

        Raises
        ------
        UserError
            The bag cannot be used, the output exists, or its parts belong to another job.
        """
        job.topics  # noqa: B018  # raises for inputs that there are not
        if job.output.exists() and not Parts(job).is_joining:
            raise UserError(f'{job.output} is there already')
        opened = self._open(job)
        order = opened.plan.order
        ranges = []
        for start in range(0, len(order), size or max(len(order), 1)):
            places = order[start : start + size if size else None]
            missing = sum(not opened.parts.is_finished(place) for place in places)
            if missing:
                ranges.append(Range(start, start + len(places), missing))
        return ranges

    def make(self, job: BagJob, todo: Range) -> None:
        """Make the frames of a range that are not finished.

        Raises
        ------
        Exception
            Every object of a frame failed for another reason than that the frame is unusable.
        """
        opened = self._open(job)
        maker, parts, order = opened.maker, opened.parts, opened.plan.order
        places = order[todo.start : todo.stop]
        missing = {place for place in places if not parts.is_finished(place)}
        wanted = [place for place in places if place in missing]
        if maker.configuration.memory.frames and missing:
            # Views may need memory of frames before them, from the first one on.
            maker.forget()
            wanted = order[: todo.stop]
        with tqdm(total=len(missing), desc='process', unit='frame') as progress:
            for place, frame in frames(opened.recording, opened.plan.matched, wanted):
                if place in missing:
                    progress.update()
                    _make_frame(maker, parts, place, frame, progress)
                else:
                    maker.remember(frame)

    def finish(self, job: BagJob) -> BagReport:
        """Join the frames of a bag, all of which are finished, to its output.

        The parts are left, so that the caller can note the report before it removes them.

        Raises
        ------
        UserError
            No frame is usable; the parts are removed.
        """
        opened = self._open(job)
        plan, parts = opened.plan, opened.parts
        report = parts.report(plan)
        report.notes = plan.notes
        if not report.frames:
            self.close()
            parts.remove()
            why = '; '.join(filter(None, [report.without(), plan.lost, *plan.notes]))
            raise UserError(f'{job.bag} has no frame that can be used: {why}')
        report.failure = plan.lost
        parts.join()
        _join([file for place in sorted(plan.order) if (file := parts.views(place)).exists()], job)
        return report

    def close(self) -> None:
        """Close the open bag."""
        if self._opened is not None:
            self._opened.recording.close()
        self._opened = None

    def __enter__(self) -> BagWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, job: BagJob) -> _Opened:
        """Open a bag that is not the one opened last."""
        if self._opened is None or self._opened.job != job:
            self.close()
            recording = Bag(job.bag, job.topics.values())
            try:
                self._opened = self._look_at(job, recording)
            except BaseException:
                recording.close()
                raise
        return self._opened

    def _look_at(self, job: BagJob, recording: Bag) -> _Opened:
        check_types(recording, job.topics, job.configuration)
        transforms = BagTransforms(job.bag)
        if self._synthesizer is None:
            self._synthesizer = self._load()
        if job.shapes is not None:
            job.shapes.mkdir(parents=True, exist_ok=True)
        maker = FrameMaker(job.configuration, self._synthesizer, transforms, job.shapes)
        parts = Parts(job)
        if parts.folder.exists():
            parts.open()
        plan = parts.load_plan()
        if plan is None:
            plan = _plan(job, recording, transforms)
            parts.open()
            parts.save_plan(plan)
        return _Opened(job, recording, maker, parts, plan)


class _Opened(NamedTuple):
    job: BagJob
    recording: Bag
    maker: FrameMaker
    parts: Parts
    plan: Plan


def _plan(job: BagJob, recording: Bag, transforms: BagTransforms) -> Plan:
    matched = matched_frames(recording, job.topics, job.configuration)
    order = sorted(
        range(0, len(matched.frames), job.every),
        key=lambda place: (matched.complete_after(place), place),
    )
    lost = '; '.join(filter(None, [recording.shortfall(), *transforms.problems]))
    return Plan(matched, order, lost, [*recording.notes, *transforms.notes])


def _make_frame(
    maker: FrameMaker, parts: Parts, place: int, frame: FrameMessages, progress: tqdm
) -> None:
    """Make the views of a frame and write them, or note why there are none."""
    started = time.monotonic()
    try:
        made = maker.views(frame, lambda share: progress.set_postfix(frame=f'{share:.0%}'))
    except ValueError as error:
        progress.write(f'frame {place} left out: {error}')
        parts.finish(place, time.monotonic() - started, maker.missed, str(error))
        return
    with BagWriter(parts.views(place)) as writer:
        for k, object_ in enumerate(made):
            # Like the node, publish single views only for the first object.
            write_views(writer, frame.stamp_ns, object_.views, [] if k else object_.names)
            for topic, message in object_.shape.items():
                writer.write(f'/nvs/{topic}', frame.stamp_ns, message)
    parts.finish(place, time.monotonic() - started, maker.missed)


def _join(files: list[Path], job: BagJob) -> None:
    with BagWriter(job.output) as writer:
        for file in tqdm(files, 'write', unit='frame'):
            with Bag(file) as bag:
                for topic, recorded_ns, message in bag.messages():
                    writer.write(topic, recorded_ns, message)
