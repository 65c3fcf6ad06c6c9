"""What is kept of a bag that is being processed: its frames, and what came of each of them."""

from __future__ import annotations

import array
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nvs_ros.bag.frames import Matched, Stamped
from nvs_ros.bag.inputs import input_topics, left_out
from nvs_ros.bag.storage import is_bag_file
from nvs_ros.errors import UserError
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.synchronizer import IMAGE
from nvs_ros.replacing import replacing


@dataclass(frozen=True)
class BagJob:
    """A bag to process.

    Parameters
    ----------
    bag : Path
    output : Path
        New mcap file.
    configuration : Configuration
    remap : mapping
        See :func:`nvs_ros.bag.inputs.input_topics`.
    every : int
        1: every frame, 2: every other one, ...
    shapes : Path, optional
        Folder for clouds and meshes.
    """

    bag: Path
    output: Path
    configuration: Configuration
    remap: Mapping[str, str] = field(default_factory=dict)
    every: int = 1
    shapes: Path | None = None

    @property
    def topics(self) -> dict[str, str]:
        """Input of a frame -> topic of the bag; raises UserError, see :func:`input_topics`."""
        return input_topics(self.configuration, self.remap)

    def described(self) -> dict[str, Any]:
        """Everything that the output depends on, as JSON has it."""
        files = (
            [file for file in self.bag.iterdir() if is_bag_file(file)]
            if (self.bag.is_dir())
            else [self.bag]
        )
        return {
            'bag': str(self.bag.resolve()),
            'bytes': sum(file.stat().st_size for file in files),
            'topics': self.topics,
            'every': self.every,
            'shapes': None if self.shapes is None else str(self.shapes.resolve()),
            'parameters': dataclasses.asdict(self.configuration),
        }


@dataclass
class Plan:
    """The frames of a bag and in which order they are made, and what is said of the bag."""

    matched: Matched
    order: list[int]
    """Indices of ``matched.frames`` that are made, in the order in which they are complete."""
    lost: str
    """What of the bag could not be read, as a sentence; ``''`` if nothing."""
    notes: list[str]
    """Oddities that lose nothing, as sentences."""


@dataclass
class BagReport:
    """What came of a bag."""

    bag: str
    output: str
    images: int = 0
    frames: int = 0
    """Frames in the output."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> number of images that are not in the output."""
    objects_left_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Object -> ``frames`` with other objects that it was left out of, and ``first``, why."""
    seconds: float = 0.0
    """Time in which its frames were made, of all workers together."""
    notes: list[str] = field(default_factory=list)
    """Oddities of the bag that lose nothing, as sentences."""
    remarks: list[str] = field(default_factory=list)
    """What else is to be said of the inputs, as sentences."""
    failure: str = ''
    """Why there is no output, or what of the bag could not be read; ``''`` if nothing failed."""

    def without(self) -> str:
        """What is not in the output and why, in a sentence; ``''`` if nothing is missing."""
        images = left_out(self.images, self.dropped, self.remarks)
        objects = [
            f'object {identity!r} left out of {told["frames"]} frames, the first time: '
            f'{told["first"]}'
            for identity, told in self.objects_left_out.items()
        ]
        return '; '.join(filter(None, [images, *objects]))

    def result(self) -> str:
        """What there is, in a sentence."""
        return f'views of {self.frames} frames in {self.output}'


class Parts:
    """Folder beside an output, with what is finished of it.

    For each frame there is ``000012.json``, which says what came of it, and before it
    ``000012.mcap`` if it has views. Several processes may write to it, each other frames.

    Parameters
    ----------
    job : BagJob
    """

    def __init__(self, job: BagJob) -> None:
        self._job = job
        self.folder = job.output.with_name(f'{job.output.name}.parts')
        self._plan = self.folder / 'plan.json'
        self._joining = self.folder / 'joining'

    def open(self) -> None:
        """Make the folder, or go on with that of an interrupted same job.

        Raises
        ------
        UserError
            The folder was left by another job.
        """
        text = json.dumps(self._job.described(), indent=1)
        described = self.folder / 'job.json'
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            with replacing(described) as file:
                file.write_text(text)
        elif not described.exists() or described.read_text() != text:
            raise UserError(
                f'{self.folder} belongs to another bag or other parameters: remove it, or go on'
            )

    def views(self, place: int) -> Path:
        """File with the messages of a frame."""
        return self.folder / f'{place:06}.mcap'

    def is_finished(self, place: int) -> bool:
        """Whether it is known what came of a frame."""
        return self._outcome(place).exists()

    def finish(
        self, place: int, seconds: float, missed: Mapping[str, str], dropped: str = ''
    ) -> None:
        """Note what came of a frame.

        Parameters
        ----------
        place : int
            Index of the frame.
        seconds : float
            Time that it took.
        missed : mapping
            Object that was left out -> why.
        dropped : str
            Why the frame has no views; ``''`` if it has.
        """
        outcome = {'seconds': round(seconds, 4), 'missed': dict(missed), 'dropped': dropped}
        with replacing(self._outcome(place)) as file:
            file.write_text(json.dumps(outcome))

    def save_plan(self, plan: Plan) -> None:
        """Write the plan, for other processes and for the next call."""
        inputs = list(plan.matched.frames[0]) if plan.matched.frames else []
        numbers = [[frame[name].number for name in inputs] for frame in plan.matched.frames]
        stamps = [frame[IMAGE].stamp_ns for frame in plan.matched.frames]
        with replacing(self._plan.with_suffix('.npz')) as file, file.open('wb') as stream:
            np.savez(
                stream,
                numbers=np.array(numbers, np.int64),
                stamps_ns=np.array(stamps, np.int64),
                recorded_ns=np.array(plan.matched.recorded_ns, np.int64),
            )
        told = {
            'inputs': inputs,
            'order': plan.order,
            'images': plan.matched.images,
            'dropped': plan.matched.dropped,
            'reasons': plan.matched.reasons,
            'lost': plan.lost,
            'notes': plan.notes,
        }
        with replacing(self._plan) as file:
            file.write_text(json.dumps(told))

    def load_plan(self) -> Plan | None:
        """The plan, without what only :func:`match_frames` needs; None if there is none yet."""
        if not self._plan.exists():
            return None
        told = json.loads(self._plan.read_text())
        with np.load(self._plan.with_suffix('.npz'), allow_pickle=False) as arrays:
            recorded_ns = array.array('q', arrays['recorded_ns'].tobytes())
            rows = zip(arrays['stamps_ns'].tolist(), arrays['numbers'].tolist(), strict=True)
        frames = [
            {
                name: Stamped(stamp_ns, recorded_ns[number], number)
                for name, number in zip(told['inputs'], numbers, strict=True)
            }
            for stamp_ns, numbers in rows
        ]
        matched = Matched(
            frames,
            told['images'],
            Counter(told['dropped']),
            reasons=told['reasons'],
            recorded_ns=recorded_ns,
        )
        return Plan(matched, told['order'], told['lost'], told['notes'])

    @property
    def is_joining(self) -> bool:
        """Whether all frames are finished, so that an output that is there was made of them."""
        return self._joining.exists()

    def join(self) -> None:
        """Note that all frames are finished and their views are being written to the output."""
        self._joining.touch()

    def report(self, plan: Plan) -> BagReport:
        """What came of the bag, from the outcomes of its frames."""
        report = BagReport(
            str(self._job.bag),
            str(self._job.output),
            plan.matched.images,
            remarks=[*plan.matched.reasons],
        )
        dropped = Counter(plan.matched.dropped)
        for place in sorted(plan.order):
            if not self.is_finished(place):  # the bag has become unreadable since it was matched
                dropped['it cannot be read any more'] += 1
                continue
            outcome = json.loads(self._outcome(place).read_text())
            report.seconds += outcome['seconds']
            if outcome['dropped']:
                dropped[outcome['dropped']] += 1
            else:
                report.frames += 1
            for identity, problem in outcome['missed'].items():
                told = report.objects_left_out.setdefault(identity, {'frames': 0, 'first': problem})
                told['frames'] += 1
        report.dropped = dict(dropped)
        report.seconds = round(report.seconds, 3)
        return report

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _outcome(self, place: int) -> Path:
        return self.folder / f'{place:06}.json'
