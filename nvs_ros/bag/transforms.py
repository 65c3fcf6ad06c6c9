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
"""Nothing in a bag is too old: stamps of messages span 4.3e9 s, and tf2 adds both in 63 bits."""


class _Known(transforms.Transforms):
    """Looks up what it was told; listens to nothing and waits for nothing."""

    def __init__(self) -> None:
        cache = Duration(seconds=CACHE_S)
        super().__init__(transforms.tf2_ros.Buffer(cache_time=cache) if self.available else None)


class BagTransforms(_Known):
    """Looks up what ``/tf`` and ``/tf_static`` of a bag say; publishes nothing.

    Parameters
    ----------
    path : Path
        The bag.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.problems: list[str] = []
        """What could not be read of them, in words."""
        self.notes: list[str] = []
        """What is odd about them, in words."""
        self._static = _Known()
        if self.available:
            self._fill(recorded_transforms(path, self.problems.append))

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """See :meth:`nvs_ros.messages.transforms.Transforms.lookup`.

        Without a stamp only what never moves is known: the latest time that tf2 would take is the
        end of the bag, which is not the time of the frame.
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
        # In one buffer each kind throws away what the other has said of a frame, all times of it.
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
    """Whether tf2 takes it; tf2 itself tells the console alone."""
    shift, turn = transform.transform.translation, transform.transform.rotation
    parent, child = transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/')
    squared = turn.x**2 + turn.y**2 + turn.z**2 + turn.w**2
    return (
        '' != parent != child != ''
        and all(map(math.isfinite, (shift.x, shift.y, shift.z)))
        and abs(squared - 1) < 0.01
    )


def _said(transform: TransformStamped) -> tuple[str, Transform]:
    """What a transform says, without its stamp."""
    return transform.header.frame_id.lstrip('/'), transform.transform


def recorded_transforms(
    path: Path, tell: Callable[[str], None]
) -> Iterator[tuple[TransformStamped, bool]]:
    """The transforms of a bag, and whether each is static.

    Frames may need none of them, so that they cannot be read is told and spoils nothing.

    Parameters
    ----------
    path : Path
    tell : callable
        Takes what is wrong with them, in words.
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
