"""The bundled bag replayed by the command line, heard by rclpy over real DDS."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rosbags import rosbag1
from rosbags.typesys import Stores, get_typestore

pytest.importorskip('rclpy')

import rclpy
import rclpy.executors
from geometry_msgs.msg import PoseStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from test_bag_storage import broken

from nvs_ros.bag.reader import Bag
from nvs_ros.cli import main

BAG = Path(__file__).parents[1] / 'demo' / 'mug.mcap'
DOMAIN = 100 - os.getpid() % 50
PATIENCE_S = 30.0


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node('listener', context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.fixture
def replay():
    """Start ``python -m nvs_ros replay``, which hears the test's nodes alone."""
    processes = []

    def start(*arguments):
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(DOMAIN)}
        environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        command = [sys.executable, '-m', 'nvs_ros', 'replay', *map(str, arguments)]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def found_by_other_processes(monkeypatch):
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def listen(node, kind, topic, **qos):
    received = []
    profile = QoSProfile(depth=200, **qos)
    node.create_subscription(kind, topic, received.append, profile)
    return received


def spin_until(node, done):
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, 'nothing came in time'
        executor.spin_once(timeout_sec=0.1)
    executor.remove_node(node)


def test_everything_arrives_in_order_and_unchanged(node, replay):
    heard = {
        '/image': listen(node, Image, 'image'),
        '/camera_info': listen(node, CameraInfo, 'camera_info'),
        '/depth': listen(node, Image, 'depth'),
        '/mask': listen(node, Image, 'mask'),
        '/object_pose': listen(node, PoseStamped, 'object_pose'),
    }
    with Bag(BAG) as bag:
        counts = {topic: description.count for topic, description in bag.topics.items()}
        sent = {topic: [] for topic in counts}
        for topic, _, message in bag.messages():
            sent[topic].append(message)
    process = replay(BAG, '--rate', '4', '--wait', PATIENCE_S)
    spin_until(node, lambda: all(len(heard[topic]) >= n for topic, n in counts.items()))
    assert process.wait(PATIENCE_S) == 0
    assert heard == sent


def test_pace_clock_and_remapping(node, replay):
    images, published_s = [], []
    node.create_subscription(
        Image,
        'camera/image_raw',
        lambda message, info: (
            images.append(message),
            published_s.append(info['source_timestamp'] * 1e-9),
        ),
        20,
    )
    ticks = listen(node, Clock, '/clock')
    process = replay(
        BAG,
        '--topics',
        '/image',
        '--clock',
        '50',
        '--rate',
        '2',
        '--remap',
        'image:=camera/image_raw',
    )
    spin_until(node, lambda: len(images) == 15)
    # 2.8 s between the first and the last frame, at twice the speed; longer on a busy machine.
    assert 1.2 < published_s[-1] - published_s[0] < 5
    assert process.wait(PATIENCE_S) == 0
    times = [tick.clock.sec * 10**9 + tick.clock.nanosec for tick in ticks]
    assert times == sorted(times)
    assert len(times) > 30
    stamps = [image.header.stamp for image in images]
    assert times[0] >= stamps[0].sec * 10**9 and times[-1] > times[0] + 2.5e9


def test_latched_topics_reach_late_subscribers(node, replay, tmp_path):
    types = get_typestore(Stores.ROS1_NOETIC)
    string = types.types['std_msgs/msg/String']
    info = types.types['sensor_msgs/msg/RegionOfInterest'](1, 2, 3, 4, False)
    with rosbag1.Writer(tmp_path / 'x.bag') as writer:
        for topic, message, ns in (('/map', string('here'), 0), ('/roi', info, 10**11)):
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=types, latching=1)
            writer.write(connection, ns, types.serialize_ros1(message, kind))
    replay(tmp_path / 'x.bag', '--wait', '0')
    spin_until(node, lambda: node.count_publishers('/map'))
    received = listen(
        node,
        String,
        '/map',
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        reliability=ReliabilityPolicy.RELIABLE,
    )
    spin_until(node, lambda: received)
    assert received[0].data == 'here'


def test_loop_goes_on_until_interrupted(node, replay):
    poses = listen(node, PoseStamped, 'object_pose')
    process = replay(BAG, '--topics', '/object_pose', '--rate', '20', '--loop')
    spin_until(node, lambda: len(poses) > 40)
    stamps = [pose.header.stamp.nanosec + pose.header.stamp.sec * 10**9 for pose in poses]
    assert sum(b < a for a, b in zip(stamps, stamps[1:], strict=False)) >= 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert 'Traceback' not in errors


def test_loop_goes_on_past_a_message_that_cannot_be_decoded(node, replay, tmp_path):
    heard = listen(node, String, '/word')
    process = replay(broken(tmp_path / 'x'), '--rate', '20', '--loop', '--wait', PATIENCE_S)
    spin_until(node, lambda: len(heard) >= 6)
    assert [message.data for message in heard[:6]] == ['0', '2', '3'] * 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['missing.mcap'], 'no such bag'),
        ([BAG, '--topics', '/colour'], 'no topic /colour'),
        ([BAG, '--rate', '0'], '--rate'),
        ([BAG, '--rate', 'nan'], '--rate'),
        ([BAG, '--wait', '-1'], '--wait'),
        ([BAG, '--remap', 'image'], 'from:=to'),
        ([BAG, '--remap', 'image:=a b'], 'from:=to'),
    ],
)
def test_wrong_arguments_get_one_line_and_code_2(arguments, complaint, capfd):
    assert main(['replay', *map(str, arguments)]) == 2
    errors = capfd.readouterr().err
    assert complaint in errors
    assert errors.count('\n') == 1
