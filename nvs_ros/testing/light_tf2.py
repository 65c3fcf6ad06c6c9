"""What the node uses of tf2_ros, for machines without it (it is not on PyPI).

Tests take the real one where there is one. What is made on the node is as real as there: a service,
a jump callback of the clock, subscriptions, a publisher. Transforms are interpolated linearly.
"""

from __future__ import annotations

import bisect
import threading

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from std_srvs.srv import Trigger

from nvs_ros.geometry import inverse, quaternion_from_rigid, rigid_from_quaternion


class TransformException(Exception):
    """Two frames are not connected, or not at that time."""


def matrix(transform):
    shift, turn = transform.translation, transform.rotation
    return rigid_from_quaternion(
        (shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w), 'transform'
    )


def message(parent, child, stamp_ns, parent_from_child):
    """TransformStamped of a (4, 4) matrix."""
    made = TransformStamped(child_frame_id=child)
    made.header.frame_id = parent
    made.header.stamp.sec, made.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    shift, turn = made.transform.translation, made.transform.rotation
    shift.x, shift.y, shift.z = map(float, parent_from_child[:3, 3])
    turn.x, turn.y, turn.z, turn.w = map(float, quaternion_from_rigid(parent_from_child))
    return made


class Buffer:
    """A tree of frames over time, as long as tf2 keeps it."""

    def __init__(self, cache_time=None, node=None):
        self._cache_ns = 10**10 if cache_time is None else cache_time.nanoseconds
        self._frames = {}
        self._changed = threading.Condition()
        if node is not None:
            self.srv = node.create_service(Trigger, 'tf2_frames', lambda request, answer: answer)
            self.clock = node.get_clock()
            threshold = JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
            )
            self.jump_handle = self.clock.create_jump_callback(threshold, post_callback=self._clear)

    def _clear(self, jump):
        self._frames.clear()

    def set_transform(self, transform, authority):
        self._keep(transform, False)

    def set_transform_static(self, transform, authority):
        self._keep(transform, True)

    def _keep(self, transform, is_static):
        stamp = transform.header.stamp
        with self._changed:
            parent, times, known = transform.header.frame_id, [], []
            if not is_static and transform.child_frame_id in self._frames:
                parent, times, known, _ = self._frames[transform.child_frame_id]
            stamp_ns = stamp.sec * 10**9 + stamp.nanosec
            index = bisect.bisect(times, stamp_ns)
            times.insert(index, stamp_ns)
            known.insert(index, matrix(transform.transform))
            while times[-1] - times[0] > self._cache_ns:
                del times[0], known[0]
            self._frames[transform.child_frame_id] = (parent, times, known, is_static)
            self._changed.notify_all()

    def lookup_transform(self, target, source, time, timeout=Duration()):  # noqa: B008
        return self._wait(timeout, lambda: self._find(target, source, time.nanoseconds))

    def lookup_transform_full(
        self,
        target,
        target_time,
        source,
        source_time,
        fixed,
        timeout=Duration(),  # noqa: B008
    ):
        return self._wait(
            timeout,
            lambda: (
                self._find(target, fixed, target_time.nanoseconds)
                @ self._find(fixed, source, source_time.nanoseconds)
            ),
        )

    def _wait(self, timeout, find):
        """What is found, as soon as it is; else the exception after the timeout."""
        problem = None

        def found():
            nonlocal problem
            try:
                return find()
            except TransformException as error:
                problem = error

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, timeout.nanoseconds * 1e-9)
            if (transform := found()) is None:
                raise problem
        return message('', '', 0, transform)

    def _find(self, target, source, stamp_ns):
        (target_root, root_from_target), (source_root, root_from_source) = (
            self._to_root(name, stamp_ns) for name in (target, source)
        )
        if target_root != source_root:
            raise TransformException(f'no tree holds both {source!r} and {target!r}')
        return inverse(root_from_target) @ root_from_source

    def _to_root(self, name, stamp_ns):
        if name not in self._frames and name not in {f[0] for f in self._frames.values()}:
            raise TransformException(f'frame {name!r} does not exist')
        transform = np.eye(4)
        while name in self._frames:
            parent, times, known, is_static = self._frames[name]
            transform = (
                self._at(name, times, known, is_static or not stamp_ns, stamp_ns) @ transform
            )
            name = parent
        return name, transform

    @staticmethod
    def _at(name, times, known, is_latest, stamp_ns):
        if is_latest:
            return known[-1]
        if not times[0] <= stamp_ns <= times[-1]:
            raise TransformException(
                f'{name!r}: extrapolation to {stamp_ns}, known from {times[0]} to {times[-1]}'
            )
        index = bisect.bisect_left(times, stamp_ns)
        if times[index] == stamp_ns:
            return known[index]
        before, after = known[index - 1 : index + 1]
        assert np.array_equal(before[:3, :3], after[:3, :3]), 'turns are not interpolated here'
        share = (stamp_ns - times[index - 1]) / (times[index] - times[index - 1])
        return (1 - share) * before + share * after


class TransformListener:
    """Fills a buffer from /tf, here one transform a message."""

    def __init__(self, buffer, node):
        self.node = node
        self._subscriptions = [
            node.create_subscription(TransformStamped, topic, lambda m, k=keep: k(m, 'topic'), 100)
            for topic, keep in (
                ('/tf', buffer.set_transform),
                ('/tf_static', buffer.set_transform_static),
            )
        ]

    def unregister(self):
        for subscription in self._subscriptions:
            self.node.destroy_subscription(subscription)


class TransformBroadcaster:
    """Publishes transforms on /tf, here one a message."""

    def __init__(self, node):
        self.pub_tf = node.create_publisher(TransformStamped, '/tf', 100)

    def sendTransform(self, transforms):
        for transform in transforms:
            self.pub_tf.publish(transform)
