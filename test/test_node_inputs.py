"""What is published decides what is subscribed to, where an input may have several types."""

import contextlib
import os

import pytest

pytest.importorskip('rclpy')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped, TransformStamped
from sensor_msgs.msg import CompressedImage
from test_bag_frames import other_pose

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.testing import robot
from nvs_ros.testing.robot import PERIOD_S, Spinning, graph, wait_until

DOMAIN = 101 + os.getpid() % 100


def pose_of(kind, message):
    if kind is PoseStamped:
        return message
    return PoseArray(header=message.header) if kind is PoseArray else other_pose(kind, message)


@pytest.fixture
def running(monkeypatch):
    """A node that is not started, and no publisher of a pose beside it."""
    # Types differ between participants only; these see each other over the loopback device.
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setattr(robot, 'DOMAINS', iter([DOMAIN]))
    with graph({'on_demand': False}, start=False) as running:
        mine = running.robot
        for publisher in mine.publishers.values():
            mine.node.destroy_publisher(publisher)
        yield running


@contextlib.contextmanager
def camera(**kinds):
    """A camera in a participant of its own, whose inputs may have other types."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    other = type('Camera', (robot.Robot,), {'KINDS': robot.Robot.KINDS | kinds})(context)
    plain = other.scene.messages

    def messages(stamp_ns):
        made = plain(stamp_ns)
        if 'object_pose' in kinds:
            made['object_pose'] = pose_of(kinds['object_pose'], made['object_pose'])
        if kinds.get('mask') is CompressedImage:
            made['mask'] = CompressedImage(header=made['mask'].header)
        return made

    other.scene.messages = messages
    with Spinning(other):
        yield other
    context.try_shutdown()


@pytest.mark.parametrize('kind', [PoseWithCovarianceStamped, TransformStamped])
@pytest.mark.parametrize('first', ['node', 'publisher'])
def test_a_pose_of_another_type_is_used(kind, first, running):
    views = running.robot.subscribe(NovelViewArray, '/nvs/views')
    if first == 'node':
        running.node.start()
    with camera(object_pose=kind) as other:
        if first == 'publisher':
            name = '/object_pose'
            wait_until(lambda: running.node.get_publishers_info_by_topic(name))
            running.node.start()
        other.frames_until_message(views)


def test_the_type_may_change_while_the_node_runs(running):
    views = running.robot.subscribe(NovelViewArray, '/nvs/views')
    running.node.start()
    for kind in (PoseStamped, TransformStamped, PoseStamped):
        while not views.empty():
            views.get()
        with camera(object_pose=kind) as other:
            other.frames_until_message(views)


@pytest.mark.parametrize(
    ('kinds', 'sentence'),
    [
        (
            {'object_pose': PoseArray},
            'expected geometry_msgs/msg/PoseStamped or geometry_msgs/msg/PoseWithCovarianceStamped '
            'or geometry_msgs/msg/TransformStamped on /object_pose, its publishers have '
            'geometry_msgs/msg/PoseArray',
        ),
        (
            {'mask': CompressedImage},
            'expected sensor_msgs/msg/Image on /mask, its publishers have '
            'sensor_msgs/msg/CompressedImage',
        ),
    ],
)
def test_what_cannot_be_used_is_named(kinds, sentence, running):
    received = running.robot.subscribe(DiagnosticArray, '/diagnostics')
    running.node.start()
    with camera(**kinds) as other:

        def explained():
            other.publish_frame()
            while not received.empty():
                if received.get().status[0].message == sentence:
                    return True

        wait_until(explained, period_s=PERIOD_S)
