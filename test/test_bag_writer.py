"""What is written reads back, with rosbags alone and with definitions in the file."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseWithCovariance
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, Image
from shape_msgs.msg import SolidPrimitive

from nvs_interfaces.msg import NovelView, NovelViewArray, Viewpoint
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.writer import BagWriter


def novel_view():
    view = NovelView(seed=-3, model_id='m', confidence=0.5, synthetic=True, warnings=['a', 'b'])
    view.image.data.frombytes(b'\x01\x02')
    view.camera_info.k = np.arange(9.0)
    view.camera_pose.position.x = 1.5
    return view


def test_own_messages_come_back_without_ros(tmp_path):
    with BagWriter(tmp_path / 'x.mcap') as writer:
        writer.write('/views', 7, NovelViewArray(object_id='mug', views=[novel_view()] * 2))
    with AnyReader([tmp_path / 'x.mcap']) as reader:  # knows the definitions in the file alone
        ((connection, ns, data),) = reader.messages()
        message = reader.deserialize(data, connection.msgtype)
    assert (connection.topic, ns, message.object_id) == ('/views', 7, 'mug')
    view = message.views[1]
    assert (view.seed, view.model_id, view.synthetic, view.warnings) == (-3, 'm', True, ['a', 'b'])
    assert view.camera_info.k.tolist() == list(range(9))
    assert view.camera_pose.position.x == 1.5


@pytest.mark.parametrize(
    'message',
    [
        novel_view(),
        Viewpoint(kind=Viewpoint.POSE, azimuth_rad=0.5),
        CameraInfo(width=3, d=[0.5, 0.25], p=np.arange(12.0)),
        Image(height=1, width=2, step=2, data=[1, 2], encoding='mono8'),
        SolidPrimitive(type=2, dimensions=[0.5, 0.25]),  # a sequence with a limit
        PoseWithCovariance(covariance=np.arange(36.0)),
        DiagnosticArray(status=[DiagnosticStatus(level=b'\x01', values=[KeyValue(key='k')])]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_any_message_comes_back(message, tmp_path):
    with BagWriter(tmp_path / 'x.mcap') as writer:
        writer.write('/topic', 7, message)
    with Bag(tmp_path / 'x.mcap') as bag:
        assert list(bag.messages()) == [('/topic', 7, message)]


def test_the_definition_in_the_file_is_that_of_the_build(tmp_path):
    """Equal type hashes (REP-2011): equal names, types and order of all fields, nested ones too."""
    described = Path(sys.prefix, 'share/nvs_interfaces/msg/NovelView.json')
    if not described.exists():
        pytest.skip('nvs_interfaces is installed elsewhere')
    hashes = {
        entry['type_name']: entry['hash_string']
        for entry in json.loads(described.read_text())['type_hashes']
    }
    with BagWriter(tmp_path / 'x.mcap') as writer:
        writer.write('/view', 7, novel_view())
    with AnyReader([tmp_path / 'x.mcap']) as reader:
        for name, expected in hashes.items():
            assert reader.typestore.hash_rihs01(name) == expected


def test_an_unfinished_file_does_not_appear(tmp_path):
    with pytest.raises(KeyError), BagWriter(tmp_path / 'x.mcap') as writer:
        writer.write('/topic', 7, CameraInfo())
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_an_older_file_is_replaced(tmp_path):
    (tmp_path / 'x.mcap').write_text('old')
    with BagWriter(tmp_path / 'x.mcap') as writer:
        writer.write('/topic', 7, CameraInfo())
    with Bag(tmp_path / 'x.mcap') as bag:
        assert bag.message_count == 1
    assert [file.name for file in tmp_path.iterdir()] == ['x.mcap']
