"""Transforms that were recorded in a bag."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.duration import Duration

from nvs_ros.bag.reader import Bag, recorded_topics
from nvs_ros.errors import UserError
from nvs_ros.messages import transforms
from nvs_ros.messages.input_types import type_name

TOPICS = ('/tf', '/tf_static')
CACHE_S = 5e9
"""Cache time in seconds that keeps all transforms of a bag: stamps of messages span 4.3e9 s, and
the sum of both still fits into tf2's 63 bits of nanoseconds."""


class _Known(transforms.Transforms):
    """Looks up transforms that were put into its buffer; neither listens nor waits."""

    def __init__(self) -> None:
        cache = Duration(seconds=CACHE_S)
        super().__init__(transforms.tf2_ros.Buffer(cache_time=cache) if self.available else None)


class BagTransforms(_Known):
    """Looks up the transforms on ``/tf`` and ``/tf_static`` of a bag.

    Parameters
    ----------
    path : Path
        The bag.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.problems: list[str] = []
        """What of them could not be read, as sentences."""
        self.notes: list[str] = []
        """Oddities that lose nothing that is needed, as sentences."""
        self._static = _Known()
        if self.available:
            self._fill(recorded_transforms(path, self.problems.append))

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """See :meth:`nvs_ros.messages.transforms.Transforms.lookup`.

        With stamp 0 only static transforms are known: tf2 would take the latest ones, which are
        those at the end of the bag and not at the time of the frame.

        Raises
        ------
        UnknownTransform
            The transform is not in the bag, or not at that time.
        """
        if stamp_ns > 0 or not self.available:
            return super().lookup(target, source, stamp_ns)
        try:
            return self._static.lookup(target, source, stamp_ns)
        except transforms.UnknownTransform as error:
            text = f'{error} (from /tf_static alone, since the stamp is {stamp_ns * 1e-9:g})'
            raise transforms.UnknownTransform(text) from None

    def _fill(self, recorded: Iterable[tuple[TransformStamped, bool]]) -> None:
        static: dict[str, TransformStamped] = {}
        moving, changing, malformed = set(), set(), 0
        for transform, is_static in recorded:
            child = transform.child_frame_id.lstrip('/')
            if not _is_usable(transform):
                malformed += 1
            elif not is_static:
                moving.add(child)
                self._buffer.set_transform(transform, 'bag')
            else:
                if _said(static.setdefault(child, transform)) != _said(transform):
                    changing.add(child)
                static[child] = transform
        # In one buffer, static and moving transforms of the same child frame replace each other.
        for child in static.keys() - moving:
            for known in (self, self._static):
                known._buffer.set_transform_static(static[child], 'bag')
        both = moving & static.keys()
        for text, found in (
            ('on /tf and on /tf_static: where it moves is taken from /tf, for', both),
            ('several transforms on /tf_static: the last is taken, for', changing - both),
        ):
            if found:
                self.notes.append(f'{text} {", ".join(sorted(found))}')
        if malformed:
            self.notes.append(f'{malformed} malformed transforms left out')


def _is_usable(transform: TransformStamped) -> bool:
    """Whether tf2 accepts a transform; tf2 itself only prints an error."""
    shift, turn = transform.transform.translation, transform.transform.rotation
    parent, child = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
    squared = turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2
    return (
        '' != parent != child != ''
        and all(map(math.isfinite, (shift.x, shift.y, shift.z)))
        and abs(squared - 1) < 0.01
    )


def _said(transform: TransformStamped) -> tuple[str, Transform]:
    """Parent frame and value of a transform, without its stamp."""
    return transform.header.frame_id.lstrip('/'), transform.transform


def recorded_transforms(
    path: Path, tell: Callable[[str], None]
) -> Iterator[tuple[TransformStamped, bool]]:
    """The transforms of a bag, and whether each is static.

    Transforms that cannot be read are reported but raise nothing, because they may not be needed.

    Parameters
    ----------
    path : Path
    tell : callable
        Called with a sentence for each problem.

    Raises
    ------
    UserError
        The bag cannot be opened.
    """
    for topic in sorted(recorded_topics(path) & set(TOPICS)):
        try:
            with Bag(path, [topic]) as bag:
                if not hasattr(bag.topics[topic].kind, 'transforms'):
                    name = type_name(bag.topics[topic].kind)
                    tell(f'expected tf2_msgs/msg/TFMessage on {topic}, got {name}')
                    continue
                for _, _, message in bag.messages():
                    for transform in message.transforms:
                        yield transform, topic == '/tf_static'
        except UserError as error:
            tell(str(error))
