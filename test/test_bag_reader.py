"""Bags of all kinds, read as messages of the installed ROS 2."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.serialization import serialize_message
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from nvs_ros.bag.reader import Bag
from nvs_ros.errors import UserError

ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS2 = get_typestore(Stores.ROS2_HUMBLE)
D, K = [0.1, -0.2, 0.003, 0.004, 0.05], [300.0, 0, 159.5, 0, 301.0, 119.5, 0, 0, 1]
PIXELS = np.arange(24, dtype=np.uint8)


def header(types, number):
    time = types.types['builtin_interfaces/msg/Time'](5, 600)
    arguments = (77, time, 'camera') if types is ROS1 else (time, 'camera')
    return types.types['std_msgs/msg/Header'](*arguments)


def messages(types):
    """Message by type; its numbers come back in :func:`check`."""
    roi = types.types['sensor_msgs/msg/RegionOfInterest'](1, 2, 4, 3, True)
    info = types.types['sensor_msgs/msg/CameraInfo'](
        header(types, 1),
        240,
        320,
        'plumb_bob',
        np.array(D),
        np.array(K),
        np.eye(3).ravel(),
        np.arange(12.0),
        2,
        3,
        roi,
    )
    image = types.types['sensor_msgs/msg/Image'](
        header(types, 2), 2, 4, 'rgb8', 0, 12, PIXELS.copy()
    )
    pair = types.types['diagnostic_msgs/msg/KeyValue']('key', 'value')
    status = types.types['diagnostic_msgs/msg/DiagnosticStatus'](2, 'a', 'b', 'c', [pair, pair])
    array = types.types['diagnostic_msgs/msg/DiagnosticArray'](header(types, 3), [status])
    return {'/info': info, '/image': image, '/diagnostics': array}


def write_ros1(path):
    with rosbag1.Writer(path) as writer:
        for i, (topic, message) in enumerate(messages(ROS1).items()):
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=ROS1, latching=int(i == 0))
            writer.write(connection, 1000 + i, ROS1.serialize_ros1(message, kind))
    return path


def write_ros2(folder, plugin, file=True):
    with rosbag2.Writer(folder, version=8, storage_plugin=plugin) as writer:
        for i, (topic, message) in enumerate(messages(ROS2).items()):
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=ROS2)
            writer.write(connection, 1000 + i, ROS2.serialize_cdr(message, kind))
    return next(folder.glob('*.[md][cb]*')) if file else folder


MAKERS = {
    'ros1': lambda folder: write_ros1(folder / 'x.bag'),
    'mcap': lambda folder: write_ros2(folder / 'x', rosbag2.StoragePlugin.MCAP),
    'sqlite3': lambda folder: write_ros2(folder / 'x', rosbag2.StoragePlugin.SQLITE3),
    'folder': lambda folder: write_ros2(folder / 'x', rosbag2.StoragePlugin.MCAP, file=False),
}


@pytest.mark.parametrize('kind', MAKERS)
def test_every_field_comes_back(kind, tmp_path):
    with Bag(MAKERS[kind](tmp_path)) as bag:
        assert bag.message_count == 3
        assert bag.start_ns == 1000
        assert bag.topics['/info'].latched == (kind == 'ros1')
        assert not bag.topics['/image'].latched
        read = list(bag.messages())
    assert [(topic, ns) for topic, ns, _ in read] == [
        ('/info', 1000),
        ('/image', 1001),
        ('/diagnostics', 1002),
    ]
    info, image, diagnostics = (message for _, _, message in read)
    assert (info.header.stamp.sec, info.header.stamp.nanosec) == (5, 600)
    assert info.header.frame_id == 'camera'
    assert (list(info.d), info.k.tolist(), info.p.tolist()) == (D, K, list(range(12)))
    assert (info.height, info.binning_y, info.roi.height, info.roi.do_rectify) == (240, 3, 4, True)
    assert (image.step, bytes(image.data)) == (12, PIXELS.tobytes())
    (status,) = diagnostics.status
    assert (status.level, [pair.key for pair in status.values]) == (b'\x02', ['key', 'key'])
    for _, _, message in read:
        serialize_message(message)  # what rclpy does when it publishes


def test_only_chosen_topics(tmp_path):
    with Bag(MAKERS['mcap'](tmp_path), ['/image']) as bag:
        assert bag.message_count == 1
        assert [topic for topic, _, _ in bag.messages()] == ['/image']


def test_unknown_topic_is_named_with_those_there_are(tmp_path):
    with pytest.raises(UserError, match=r'no topic /colour; it has /diagnostics, /image, /info'):
        Bag(MAKERS['mcap'](tmp_path), ['/colour'])


def test_unknown_type_is_named_and_can_be_left_out(tmp_path):
    types = get_typestore(Stores.ROS2_HUMBLE)
    types.register(get_types_from_msg('int32 x', 'private_msgs/msg/Odd'))
    odd = types.types['private_msgs/msg/Odd'](3)
    with rosbag2.Writer(
        tmp_path / 'x', version=8, storage_plugin=rosbag2.StoragePlugin.MCAP
    ) as writer:
        for topic, message in {'/odd': odd, **messages(types)}.items():
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, 1, types.serialize_cdr(message, kind))
    with pytest.raises(UserError, match='private_msgs/msg/Odd of /odd is not installed'):
        Bag(tmp_path / 'x', ['/odd'])
    with Bag(tmp_path / 'x') as bag:
        assert sorted(bag.topics) == ['/diagnostics', '/image', '/info']
        assert 'private_msgs/msg/Odd' in bag.left_out['/odd']
    with Bag(tmp_path / 'x', ['/image']) as bag:
        assert len(list(bag.messages())) == 1


@pytest.mark.parametrize('kind', ['ros1', 'mcap', 'sqlite3'])
@pytest.mark.parametrize('kept', [0, 1, 300])
def test_broken_files_are_named(kind, kept, tmp_path):
    path = MAKERS[kind](tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match='cannot read') as caught:
        Bag(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_damage_in_the_middle_is_named(tmp_path):
    path = MAKERS['mcap'](tmp_path)
    content = path.read_bytes()
    at = content.index(PIXELS.tobytes()) - 40
    path.write_bytes(content[:at] + b'\xff' * 30 + content[at + 30 :])
    read = []
    with Bag(path) as bag, pytest.raises(UserError, match='1 messages on /image cannot be decoded'):
        for topic, _, _ in bag.messages():
            read.append(topic)
    assert read == ['/info', '/diagnostics']


@pytest.mark.parametrize(
    ('name', 'complaint'),
    [
        ('missing.mcap', 'no such bag'),
        ('photo.png', 'expected a bag'),
        ('empty_folder', 'cannot read'),
    ],
)
def test_what_is_no_bag_is_refused(name, complaint, tmp_path):
    (tmp_path / 'photo.png').touch()
    (tmp_path / 'empty_folder').mkdir()
    with pytest.raises(UserError, match=complaint):
        Bag(tmp_path / name)


def test_a_bag_without_messages_is_refused(tmp_path):
    with rosbag2.Writer(tmp_path / 'x', version=8) as writer:
        writer.add_connection('/image', 'sensor_msgs/msg/Image', typestore=ROS2)
    with pytest.raises(UserError, match='no messages'):
        Bag(tmp_path / 'x')
