"""Transforms between frames: the one place that knows tf2_ros, and what is left without it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time

from nvs_ros.geometry import rigid_from_quaternion

try:
    import tf2_ros
except ImportError:  # not on PyPI; every ROS installation has it
    tf2_ros = None


SAME_TIME_NS = 1_000_000
"""Stamps less apart are taken for one: some have been seconds in floating point."""


class UnknownTransform(ValueError):
    """Two frames are not connected, or not at that time."""


class Transforms:
    """Looks transforms up in a buffer of tf2.

    Parameters
    ----------
    buffer : tf2_ros.Buffer or None
        None where tf2_ros is missing: then frames of one name are the only ones that are connected.
    timeout_s : float
        How long a look-up waits for a transform that is not there yet.
    """

    _deadline_s: float | None = None

    def __init__(self, buffer: Any, timeout_s: float = 0.0) -> None:
        self._buffer = buffer
        self._timeout = Duration(nanoseconds=round(timeout_s * 1e9))

    @property
    def available(self) -> bool:
        """Whether tf2_ros is installed."""
        return tf2_ros is not None

    def together(self) -> Transforms:
        """The same for look-ups that belong together: from now on, all wait as long as one."""
        shared = copy.copy(self)
        shared._deadline_s = time.monotonic() + self._timeout.nanoseconds * 1e-9
        return shared

    @property
    def _left(self) -> Duration:
        """How long a look-up may wait."""
        if self._deadline_s is None:
            return self._timeout
        return Duration(seconds=max(0.0, self._deadline_s - time.monotonic()))

    def lookup(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        """``target_from_source`` (4, 4) at a time.

        Raises
        ------
        UnknownTransform
            The frames are not connected at that time, or tf2_ros is missing and they differ.
        """
        target, source = target.lstrip('/'), source.lstrip('/')
        if target == source:
            return np.eye(4)
        return self._found(
            target,
            source,
            lambda buffer: buffer.lookup_transform(target, source, _time(stamp_ns), self._left),
        )

    def lookup_between(
        self, target: str, target_ns: int, source: str, source_ns: int, fixed: str
    ) -> np.ndarray:
        """``target_from_source`` (4, 4), each of them where it was at a time of its own.

        Parameters
        ----------
        target, source : str
        target_ns, source_ns : int
            Frames that move are in two places at two times, also one and the same.
        fixed : str
            Frame that stands still meanwhile, ``''`` if none is known.

        Raises
        ------
        UnknownTransform
            The frames are not connected at their times, or nobody knows what stood still.
        """
        if abs(target_ns - source_ns) < SAME_TIME_NS:
            return self.lookup(target, source, target_ns)
        target, source, fixed = (name.lstrip('/') for name in (target, source, fixed))
        if not fixed and tf2_ros is not None:
            seconds = abs(target_ns - source_ns) * 1e-9
            order = 'before' if source_ns < target_ns else 'after'
            raise UnknownTransform(
                f'expected a pose of the time of the image, got one in {source!r} {seconds:.3f} s '
                f'{order} the image: what has moved meanwhile is not known. Set fixed_frame (or '
                'reference_frame), or give the pose as of the stamp of the image (stamp 0)'
            )
        if min(target_ns, source_ns) <= 0:  # to tf2 zero is "the latest", whenever that was
            raise UnknownTransform(
                f'expected stamps above 0, got {target_ns * 1e-9} s for the image and '
                f'{source_ns * 1e-9} s for the pose'
            )
        if fixed == source:
            return self.lookup(target, source, target_ns)
        if fixed == target:
            return self.lookup(target, source, source_ns)
        return self._found(
            target,
            source,
            lambda buffer: buffer.lookup_transform_full(
                target, _time(target_ns), source, _time(source_ns), fixed, self._left
            ),
        )

    def _found(self, target: str, source: str, look_up: Callable[[Any], Any]) -> np.ndarray:
        """What is looked up in the buffer, as a matrix."""
        if tf2_ros is None:
            raise UnknownTransform(
                f'expected frame {target!r}, got {source!r}: without tf2_ros poses are taken in '
                'the frame of the image only'
                if target != source
                else f'expected a pose in {source!r} of the time of the image (or with stamp 0), '
                'got one of another: without tf2_ros it is not known what has moved meanwhile'
            )
        if not source or not target:
            raise UnknownTransform(f'expected a frame_id, got {source!r} (image: {target!r})')
        if (buffer := self._buffer) is None:
            raise UnknownTransform('transforms are not listened to any more')
        try:
            found = look_up(buffer)
        except tf2_ros.TransformException as error:
            raise UnknownTransform(f'no transform from {source!r} to {target!r}: {error}') from None
        shift, turn = found.transform.translation, found.transform.rotation
        return rigid_from_quaternion(
            (shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w), f'{source} in {target}'
        )


def _time(stamp_ns: int) -> Time:
    if stamp_ns < 0:
        raise UnknownTransform(f'expected a stamp of 0 or above, got {stamp_ns * 1e-9} s')
    return Time(nanoseconds=stamp_ns)
