"""Objects from detections, and what is said where vision_msgs is not installed."""

import array
import math
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import Vector3
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.geometry import inverse
from nvs_ros.messages import objects
from nvs_ros.messages.cameras import pose_from_rigid, rigid_from_pose
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import Placement, check_message, source_frames
from nvs_ros.messages.images import image_from_array
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.settings import ObjectSettings
from nvs_ros.testing.robot import FRAME, LightSynthesizer, Scene, graph

with_vision_msgs = pytest.mark.skipif(objects.Detection3DArray is None, reason='no vision_msgs')


@pytest.mark.skipif(objects.Detection3DArray is not None, reason='vision_msgs is here')
def test_without_vision_msgs_configuring_for_detections_fails_with_the_reason(capfd):
    with graph({'input.objects': 'detections'}) as running:
        assert running.node._state == 'unconfigured'
        assert 'vision_msgs is not installed' in capfd.readouterr().err


def detections(scene, header, **boxes):
    """A message with boxes: id -> (shift to the right in metres, longest side in metres).

    Where vision_msgs is missing, something with its fields.
    """
    if objects.Detection3DArray is None:
        message = SimpleNamespace(header=header, detections=[])
    else:
        message = objects.Detection3DArray(header=header)
    for identity, (shift_m, size_m) in boxes.items():
        camera_from_object = inverse(scene.object_from_camera)
        camera_from_object[0, 3] += shift_m
        box = SimpleNamespace(
            center=pose_from_rigid(camera_from_object), size=Vector3(x=0.0, y=size_m, z=0.0)
        )
        detection = SimpleNamespace(header=header, id=identity.lstrip('_'), bbox=box)
        if objects.Detection3DArray is not None:
            from vision_msgs.msg import Detection3D

            detection = Detection3D(header=header, id=detection.id)
            detection.bbox.center, detection.bbox.size = box.center, box.size
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


def test_one_detection_is_chosen_by_its_id():
    message = detections(Scene(), Header(frame_id=FRAME), cup=(0.0, 0.1), bowl=(0.0, 0.2))
    (seen,) = objects.seen_objects(message, ObjectSettings(id='bowl', label=3))
    assert (seen.id, seen.size_m, seen.label) == ('bowl', 0.2, 3)
    with pytest.raises(ValueError, match="object.id: expected 'fork'"):
        objects.seen_objects(message, ObjectSettings(id='fork'))
    message.detections = []
    with pytest.raises(ValueError, match='expected a detection or more'):
        objects.seen_objects(message, ObjectSettings())


PLACES = {1: (slice(30, 90), slice(20, 60)), 2: (slice(30, 90), slice(100, 140))}
SHIFTS = {1: -0.04, 2: 0.04}  # metres, to the middle of those places


def two_objects(mask, ids=('1', '2'), canonical=None, **settings):
    """Sources of a frame with two objects, and what was left out of it."""
    scene = Scene()
    messages = scene.messages(10**9)
    header = messages['image'].header
    boxes = {f'_{identity}': (SHIFTS[i], 0.06) for i, identity in enumerate(ids, 1)}
    messages['mask'] = mask if isinstance(mask, CompressedImage) else as_message(mask, header)
    messages['detections'] = detections(scene, header, **boxes)
    del messages['object_pose']
    left_out = {}
    sources = source_frames(
        FrameMessages(10**9, messages, 0.0),
        Configuration.from_values({'input.objects': 'detections', **settings}),
        Placement(np.eye(4), None),
        canonical or LightSynthesizer().canonical,
        left_out.__setitem__,
    )
    return sources, left_out


def as_message(mask, header):
    encoding = {'uint8': 'mono8', 'uint16': '16UC1', 'int32': '32SC1'}[mask.dtype.name]
    return image_from_array(mask, encoding, header)


def painted(dtype, **values):
    """A mask with these values in the places of the objects."""
    mask = np.zeros((120, 160), dtype)
    for place, value in values.items():
        mask[PLACES[int(place[1:])]] = value
    return mask


def png(mask):
    _, data = cv2.imencode('.png', mask)
    header = Header(frame_id=FRAME)
    return CompressedImage(header=header, format='png', data=array.array('B', data.tobytes()))


# A mask that does not tell the objects apart, and the ids of the detections.
SHARED = {
    'mono8': (painted(np.uint8, _1=255, _2=255), ('1', '2')),
    'mono8 with values': (painted(np.uint8, _1=1, _2=2), ('1', '2')),
    'mono8 of names': (painted(np.uint8, _1=255, _2=255), ('cup', 'bowl')),
    'PNG': (png(painted(np.uint8, _1=255, _2=255)), ('1', '2')),
    'labels, but names': (painted(np.uint16, _1=1, _2=2), ('cup', 'bowl')),
    'labels, and twice the same': (painted(np.int32, _1=2, _2=2), ('2', '_2')),
}


@pytest.mark.parametrize('name', SHARED)
def test_objects_with_one_mask_are_refused(name):
    mask, ids = SHARED[name]
    with pytest.raises(ValueError, match='expected a mask that tells it from .* labels'):
        two_objects(mask, ids)


@pytest.mark.parametrize('mask', [painted(np.uint16, _1=1, _2=2), png(painted('u2', _1=1, _2=2))])
def test_each_object_has_its_own_instance(mask):
    sources, left_out = two_objects(mask)
    assert [source.object_id for source in sources] == ['1', '2']
    assert left_out == {}
    for number, source in enumerate(sources, 1):
        expected = painted(np.uint8, **{f'_{number}': 255})
        np.testing.assert_array_equal(source.measured.mask, expected)


def test_a_label_of_zero_is_no_instance():
    """Zero is the background: the object of that id would be all of them."""
    sources, left_out = two_objects(painted(np.uint16, _1=1, _2=2), ('1', '0'))
    assert [source.object_id for source in sources] == ['1']
    assert "expected a mask that tells it from '1'" in str(left_out['0'])


def test_an_object_that_is_asked_for_may_have_a_mask_of_its_own():
    (source,), left_out = two_objects(painted(np.uint8, _1=255), **{'object.id': '1'})
    np.testing.assert_array_equal(source.measured.mask, painted(np.uint8, _1=255))
    assert left_out == {}
    for mask in (painted(np.uint8, _1=255, _2=255), painted(np.uint8, _2=255)):
        with pytest.raises(ValueError, match="'1': expected a mask that tells it from '2'"):
            two_objects(mask, **{'object.id': '1'})


def test_the_only_detection_has_the_whole_mask():
    ((source,), _) = two_objects(painted(np.uint8, _1=255), ids=('cup',))
    assert source.object_id == 'cup'
    np.testing.assert_array_equal(source.measured.mask, painted(np.uint8, _1=255))


def test_a_detection_that_is_malformed_leaves_the_others():
    scene, left_out = Scene(), {}
    message = detections(scene, Header(frame_id=FRAME), _1=(0.0, 0.1), _2=(0.0, 0.1))
    message.detections[0].bbox.center.position.x = math.nan
    check_message(message)
    seen = objects.seen_objects(message, ObjectSettings(), left_out.__setitem__)
    assert [each.id for each in seen] == ['2']
    assert "detection '1'" in str(left_out['1'])
    with pytest.raises(ValueError, match="detection '1'"):
        objects.seen_objects(message, ObjectSettings(id='1'))
    message.detections[1].bbox.size.x = -1.0
    with pytest.raises(ValueError, match="detection '1'"):
        check_message(message)


@pytest.mark.parametrize(
    ('frame_id', 'second', 'expected'),
    [
        ('base', 5, "expected frame 'camera_optical_frame' .* got 'base'"),
        (FRAME, 6, 'expected the stamp of all detections, 5.0 s, .* got 6.0 s'),
    ],
)
def test_a_detection_of_another_frame_or_time_than_its_message_is_left_out(
    frame_id, second, expected
):
    """Its box would be taken for one in the frame of the message: metres away."""
    header, left_out = Header(frame_id=FRAME), {}
    header.stamp.sec = 5
    message = detections(Scene(), header, _1=(0.0, 0.1), _2=(0.0, 0.1))
    message.detections[0].header = Header(frame_id=frame_id)
    message.detections[0].header.stamp.sec = second
    (seen,) = objects.seen_objects(message, ObjectSettings(), left_out.__setitem__)
    assert seen.id == '2'
    assert re.search(expected, str(left_out['1']))
    message.detections[1].header = message.detections[0].header
    with pytest.raises(ValueError, match=expected):
        check_message(message)


def test_a_detection_needs_no_header_of_its_own():
    header = Header(frame_id=FRAME)
    header.stamp.sec = 5
    message = detections(Scene(), header, _1=(0.0, 0.1), _2=(0.0, 0.1))
    message.detections[0].header = Header()
    message.detections[1].header = Header(stamp=header.stamp, frame_id='/' + FRAME)
    assert [seen.id for seen in objects.seen_objects(message, ObjectSettings())] == ['1', '2']


@pytest.mark.parametrize('error', [ValueError('odd'), RuntimeError('of a library')])
def test_an_object_that_cannot_be_prepared_leaves_the_others(error):
    failing = {1}

    def canonical(frame):
        if any(frame.mask[PLACES[number]].any() for number in failing):
            raise error
        return LightSynthesizer().canonical(frame)

    mask = painted(np.uint16, _1=1, _2=2)
    sources, left_out = two_objects(mask, canonical=canonical)
    assert [source.object_id for source in sources] == ['2']
    assert left_out == {'1': error}
    failing.add(2)
    with pytest.raises(type(error), match=str(error)):  # nothing is left of the frame
        two_objects(mask, canonical=canonical)


def test_a_malformed_detection_still_has_a_part_in_a_shared_mask():
    scene = Scene()
    message = detections(scene, Header(frame_id=FRAME), _1=(0.0, 0.1), _2=(0.0, 0.1))
    message.detections[0].bbox.center.position.x = math.nan
    (seen,) = objects.seen_objects(message, ObjectSettings())
    assert [other.id for other in seen.unseparated(has_labels=False)] == ['1']
    assert seen.unseparated(has_labels=True) == ()
