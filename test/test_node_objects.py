"""Objects from detections, and what is said where vision_msgs is not installed."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from robot import FRAME, graph
from sensor_msgs.msg import Image

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.geometry import inverse
from nvs_ros.node import objects
from nvs_ros.node.cameras import pose_from_rigid, rigid_from_pose
from nvs_ros.node.conversions import image_from_array
from nvs_ros.settings import ObjectSettings

with_vision_msgs = pytest.mark.skipif(objects.Detection3DArray is None, reason='no vision_msgs')


@pytest.mark.skipif(objects.Detection3DArray is not None, reason='vision_msgs is here')
def test_without_vision_msgs_configuring_for_detections_fails_with_the_reason(capfd):
    with graph({'input.objects': 'detections'}) as running:
        assert running.node._state == 'unconfigured'
        assert 'vision_msgs is not installed' in capfd.readouterr().err


def detections(scene, header, **boxes):
    """A message with boxes: id -> (shift to the right in metres, longest side in metres)."""
    from vision_msgs.msg import Detection3D

    message = objects.Detection3DArray(header=header)
    for identity, (shift_m, size_m) in boxes.items():
        detection = Detection3D(header=header, id=identity.lstrip('_'))
        camera_from_object = inverse(scene.object_from_camera)
        camera_from_object[0, 3] += shift_m
        detection.bbox.center = pose_from_rigid(camera_from_object)
        detection.bbox.size.y = size_m
        message.detections.append(detection)
    return message


@with_vision_msgs
def test_each_detection_gets_its_views():
    with graph({'input.objects': 'detections', 'views.azimuths_deg': [0.0]}) as running:
        robot = running.robot
        publisher = robot.node.create_publisher(objects.Detection3DArray, 'detections', 5)
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        images = robot.subscribe(Image, '/nvs/view_0/image')
        labels = np.zeros((120, 160), np.uint16)
        labels[30:90, 20:60], labels[30:90, 100:140] = 7, 9

        def publish_frame():
            robot.stamp_ns += 100_000_000
            messages = robot.scene.messages(robot.stamp_ns)
            header = messages['image'].header
            messages['mask'] = image_from_array(labels, '16UC1', header)
            robot.publish(messages)
            publisher.publish(
                detections(robot.scene, header, _7=(-0.04, 0.08), _9=(0.04, 0.06), _5=(0.0, 0.05))
            )

        robot.publish_frame = publish_frame
        first = robot.frames_until_message(views)
        second = views.get(timeout=10)
        arrays = {array.object_id: array for array in (first, second)}
        # Object 5 has no pixels in the mask: it alone is left out.
        assert set(arrays) == {'7', '9'}
        assert arrays['7'].header.stamp == arrays['9'].header.stamp
        assert arrays['9'].views[0].object_size_m == pytest.approx(0.06)
        pose = rigid_from_pose(arrays['7'].views[0].object_pose, 'object')
        assert pose[0, 3] == pytest.approx(inverse(robot.scene.object_from_camera)[0, 3] - 0.04)
        assert arrays['9'].views[0].header.frame_id == 'nvs_9_view_0_optical_frame'
        # The topics of single views carry the first object.
        assert images.get(timeout=10).header.frame_id == 'nvs_7_view_0_optical_frame'
        assert robot.synthesize(object_id='9').view.object_id == '9'
        response = robot.synthesize(object_id='5')
        assert "expected one of ['7', '9'], got '5'" in response.message


@with_vision_msgs
def test_one_detection_is_chosen_by_its_id():
    from robot import Scene
    from std_msgs.msg import Header

    message = detections(Scene(), Header(frame_id=FRAME), cup=(0.0, 0.1), bowl=(0.0, 0.2))
    (seen,) = objects.seen_objects(message, ObjectSettings(id='bowl', label=3))
    assert (seen.id, seen.size_m, seen.label) == ('bowl', 0.2, 3)
    with pytest.raises(ValueError, match="object.id: expected 'fork'"):
        objects.seen_objects(message, ObjectSettings(id='fork'))
    message.detections = []
    with pytest.raises(ValueError, match='expected 1 to'):
        objects.seen_objects(message, ObjectSettings())
