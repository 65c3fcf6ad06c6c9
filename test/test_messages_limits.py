"""What a peer can make the node allocate: refused over a limit, said and counted."""

import array
import struct
import zlib

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_ros.errors import OverLimit
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import check_message
from nvs_ros.messages.images import image_from_array
from nvs_ros.messages.masks import masked_objects
from nvs_ros.node.diagnostics import MOST_CAUSES
from nvs_ros.settings import LimitSettings
from nvs_ros.testing.robot import Orbit, graph, wait_until


def png(width, height):
    """The first bytes of a PNG that says that it is as large; few bytes make gigabytes of one."""
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + header
    data += struct.pack('>I', zlib.crc32(header)) + struct.pack('>I', 1000) + b'IDAT'
    return CompressedImage(format='png', data=array.array('B', data))


def raw(width, height, step=None):
    image = Image(width=width, height=height, encoding='mono8', step=step or width)
    image.data = array.array('B', bytes(image.step * height))
    return image


def jpeg(width, height):
    _, data = cv2.imencode('.jpg', np.zeros((height, width, 3), np.uint8))
    return CompressedImage(format='jpeg', data=array.array('B', data.tobytes()))


@pytest.mark.parametrize(
    ('message', 'said'),
    [
        (raw(400, 300), r'at most 0.1 MP \(limits.image_mp\), got 400x300'),
        (jpeg(400, 300), r'at most 0.1 MP \(limits.image_mp\), got 400x300'),
        (png(10_000, 10_000), r'at most 0.1 MP \(limits.image_mp\), got 10000x10000'),
        (png(60_000, 60_000), 'expected a smaller picture'),
        (raw(10, 100, step=20_000), r'at most 1 MB of data \(limits.message_mb\), got 2 MB'),
    ],
)
def test_a_picture_over_a_limit_is_refused_before_it_is_decoded(message, said):
    limits = LimitSettings(image_mp=0.1, message_mb=1)
    with pytest.raises(OverLimit, match=said):
        check_message(message, limits=limits)


@pytest.mark.parametrize('message', [raw(300, 300), jpeg(300, 300), png(300, 300)])
def test_a_picture_within_the_limits_passes(message):
    check_message(message, limits=LimitSettings(image_mp=0.1, message_mb=1))


def test_too_many_labels_are_refused():
    labels = image_from_array(np.arange(8, dtype=np.uint16).reshape(2, 4), '16UC1', Header())
    few = Configuration.from_values({'input.objects': 'mask', 'limits.objects': 6})
    with pytest.raises(OverLimit, match=r'at most 6 labels in the mask \(limits.objects\), got 7'):
        masked_objects(labels, few)
    enough = Configuration.from_values({'input.objects': 'mask', 'limits.objects': 7})
    assert len(masked_objects(labels, enough)) == 7


def test_the_node_refuses_says_and_counts():
    """Pictures in the stream, requests by service and action; what is within the limits works."""
    limits = {'limits.image_mp': 0.02, 'limits.orbit_views': 3, 'limits.request_mp': 0.02}
    with graph({**limits, 'views.azimuths_deg': [30.0]}) as running:
        robot = running.robot
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        statuses = robot.subscribe(DiagnosticArray, '/diagnostics')
        large = Viewpoint()
        large.camera_info.width, large.camera_info.height = 200, 200
        large.camera_info.k = [200.0, 0.0, 99.5, 0.0, 200.0, 99.5, 0.0, 0.0, 1.0]
        refused = robot.synthesize(viewpoint=large)
        assert not refused.success and 'limits.request_mp' in refused.message
        assert 'limits.orbit_views' in Orbit(robot, count=4).result().result.message
        assert 'limits.request_mp' in Orbit(robot, count=3, camera_info=large.camera_info).result(
        ).result.message  # fmt: skip
        assert robot.synthesize(viewpoint=Viewpoint(azimuth_rad=0.5)).success
        robot.stamp_ns += 10**8
        messages = robot.scene.messages(robot.stamp_ns)
        messages['image'] = image_from_array(
            np.zeros((200, 200, 3), np.uint8), 'rgb8', messages['image'].header
        )

        def counted():
            robot.publish(messages)
            while not statuses.empty():
                values = {item.key: item.value for item in statuses.get().status[0].values}
                if int(values.get('refused: image', 0)) and 'dropped: refused image' in values:
                    return values['refused: requests'] == '3'

        wait_until(counted, period_s=0.2)
        robot.frames_until_message(views)


def test_causes_that_a_peer_chooses_do_not_pile_up():
    with graph() as running:
        health = running.node._health
        health._is_due('first')
        for i in range(3 * MOST_CAUSES):
            health._is_due(f'object {i} left out')
        assert len(health._warned_at) <= MOST_CAUSES + 1
