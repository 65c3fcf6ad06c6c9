"""Transforms between frames: the one place that knows tf2_ros, and what is left without it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import Pose, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

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
    """Looks transforms up and publishes those of virtual cameras.

    Parameters
    ----------
    node : rclpy.node.Node
    timeout_s : float
        How long a look-up waits for a transform that is not there yet.
    """

    _deadline_s: float | None = None

    def __init__(self, node: Node, timeout_s: float) -> None:
        self._node = node
        self._timeout = Duration(nanoseconds=round(timeout_s * 1e9))
        self._buffer = self._listener = self._broadcaster = None
        if tf2_ros is None:
            return
        try:
            self._buffer = tf2_ros.Buffer(node=node)
            self._listener = tf2_ros.TransformListener(self._buffer, node)
            self._broadcaster = tf2_ros.TransformBroadcaster(node)
        except Exception:
            self.close()
            raise

    @property
    def available(self) -> bool:
        """Whether tf2_ros is installed."""
        return tf2_ros is not None

    def close(self) -> None:
        """Stop listening and publishing, and destroy what tf2_ros has made on the node.

        Of its three classes only the listener does so itself.
        """
        buffer, listener, broadcaster = self._buffer, self._listener, self._broadcaster
        self._buffer = self._listener = self._broadcaster = None
        if listener is not None:
            listener.unregister()
        if broadcaster is not None:
            self._node.destroy_publisher(broadcaster.pub_tf)
        if buffer is not None:
            # First: the clock knows its callbacks by address, and the service keeps the buffer.
            if (jumps := getattr(buffer, 'jump_handle', None)) is not None:  # none in Humble
                jumps.unregister()
            self._node.destroy_service(buffer.srv)

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

    def publish(self, cameras: list[tuple[Header, str, Pose]]) -> None:
        """Publish camera poses on /tf; does nothing without tf2_ros.

        Parameters
        ----------
        cameras : list of (Header, str, Pose)
            Header of the source image, frame of the virtual camera, its pose in the former.
        """
        if (broadcaster := self._broadcaster) is None:
            return
        messages = []
        for header, child, pose in cameras:
            message = TransformStamped(header=header, child_frame_id=child)
            shift = pose.position
            message.transform.translation = Vector3(x=shift.x, y=shift.y, z=shift.z)
            message.transform.rotation = pose.orientation
            messages.append(message)
        broadcaster.sendTransform(messages)


def _time(stamp_ns: int) -> Time:
    if stamp_ns < 0:
        raise UnknownTransform(f'expected a stamp of 0 or above, got {stamp_ns * 1e-9} s')
    return Time(nanoseconds=stamp_ns)
