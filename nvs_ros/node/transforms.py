"""Transforms between frames: the one place that knows tf2_ros, and what is left without it."""

from __future__ import annotations

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
        if tf2_ros is None:
            raise UnknownTransform(
                f'expected frame {target!r}, got {source!r}: without tf2_ros poses are taken in '
                'the frame of the image only'
            )
        if not source or not target:
            raise UnknownTransform(f'expected a frame_id, got {source!r} (image: {target!r})')
        if (buffer := self._buffer) is None:
            raise UnknownTransform('transforms are not listened to any more')
        try:
            found = buffer.lookup_transform(
                target, source, Time(nanoseconds=max(stamp_ns, 0)), self._timeout
            )
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
