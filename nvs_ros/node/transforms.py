"""Transforms of the graph: listened to, and those of virtual cameras published."""

from __future__ import annotations

from geometry_msgs.msg import Pose, TransformStamped, Vector3
from rclpy.node import Node
from std_msgs.msg import Header

from nvs_ros.messages import transforms


class NodeTransforms(transforms.Transforms):
    """Looks up what a node hears, and publishes where virtual cameras are.

    Parameters
    ----------
    node : rclpy.node.Node
    timeout_s : float
        How long a look-up waits for a transform that is not there yet.
    """

    def __init__(self, node: Node, timeout_s: float) -> None:
        super().__init__(None, timeout_s)
        self._node = node
        self._listener = self._broadcaster = None
        tf2_ros = transforms.tf2_ros
        if tf2_ros is None:
            return
        try:
            self._buffer = tf2_ros.Buffer(node=node)
            self._listener = tf2_ros.TransformListener(self._buffer, node)
            self._broadcaster = tf2_ros.TransformBroadcaster(node)
        except Exception:
            self.close()
            raise

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
