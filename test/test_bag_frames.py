"""Which messages of a bag make a frame, and what is said of the others."""

import copy
import gc

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped, TransformStamped
from sensor_msgs.msg import CompressedImage
from test_bag_process import BAG, PER_FRAME, read, run

from nvs_ros.bag import frames as frames_module
from nvs_ros.bag.frames import frames, match_frames
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.writer import BagWriter
from nvs_ros.errors import UserError
from nvs_ros.messages.frames import stamp_ns
from nvs_ros.testing import robot

SECOND = 10**9
NAMES = {f'/{name}': name for name in robot.Robot.KINDS}


def write(path, frames_, late_ns=None, change=lambda i, name, message: message):
    """A bag of frames of a small scene; return it.

    ``frames_`` are stamps and the inputs that there are, ``late_ns`` says how long after its stamp
    an input is recorded.
    """
    scene, items = robot.Scene(), []
    for i, (ns, inputs) in enumerate(frames_):
        for place, (name, message) in enumerate(scene.messages(ns).items()):
            if name in inputs:
                recorded_ns = i * SECOND // 30 + (late_ns or {}).get(name, 0) + place
                items.append((recorded_ns, name, change(i, name, message)))
    with BagWriter(path) as writer:
        for recorded_ns, name, message in sorted(items, key=lambda item: item[0]):
            writer.write(f'/{name}', recorded_ns, message)
    return path


def slow_detector(path, late_ns=2 * SECOND, number=90):
    """30 images a second, one mask and pose a second, as late as that."""
    stream = [
        (7 * SECOND + i * SECOND // 30, NAMES.values() if i % 30 == 0 else ('image', 'camera_info'))
        for i in range(number)
    ]
    return write(path, stream, {'mask': late_ns, 'object_pose': late_ns})


def pairs(path, slop_s=0.01, **options):
    """Stamps of image and mask of each frame, in nanoseconds; and what was found."""
    with Bag(path) as bag:
        matched = match_frames(bag, NAMES, slop_s, lambda message: None)
        taken = dict(frames(bag, matched, range(len(matched.frames)), **options))
    assert sorted(taken) == list(range(len(matched.frames)))
    stamps = [
        tuple(stamp_ns(taken[i].messages[name].header) for name in ('image', 'mask'))
        for i in sorted(taken)
    ]
    return stamps, matched


@pytest.mark.parametrize('late_ns', [0, 2 * SECOND, 1000 * SECOND])
def test_a_partner_may_come_as_late_as_it_likes(late_ns, tmp_path):
    stamps, matched = pairs(slow_detector(tmp_path / 'x.mcap', late_ns))
    assert stamps == [((7 + i) * SECOND,) * 2 for i in range(3)]
    assert matched.images == 90
    assert matched.dropped == {'no mask and object_pose of its stamp': 87}


def test_the_views_of_a_slow_detector_are_made_and_the_rest_is_counted(tmp_path, capsys):
    run(tmp_path / 'out.mcap', slow_detector(tmp_path / 'in.mcap'))
    views = [m for topic, _, m in read(tmp_path / 'out.mcap') if topic == '/nvs/views']
    assert [m.header.stamp.sec for m in views] == [7, 8, 9]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'views of 3 frames in {tmp_path / "out.mcap"}; '
        '87 of 90 images left out: no mask and object_pose of its stamp'
    )


def test_no_frame_is_lost_for_want_of_room(tmp_path):
    """All masks after all images, and room for two frames: the bag is read several times."""
    path = write(
        tmp_path / 'x.mcap',
        [((1 + i) * SECOND, NAMES.values()) for i in range(7)],
        {'mask': 100 * SECOND},
    )
    stamps, _ = pairs(path, held_bytes=100_000)
    assert stamps == [((1 + i) * SECOND,) * 2 for i in range(7)]


def test_messages_are_let_go_with_their_frame(tmp_path):
    path = write(tmp_path / 'x.mcap', [((1 + i) * SECOND, NAMES.values()) for i in range(30)])
    with Bag(path) as bag:
        matched = match_frames(bag, NAMES, 0.01, lambda message: None)
        for i, _ in frames(bag, matched, range(30)):
            if i == 29:
                held = sum(type(o) is frames_module.Record for o in gc.get_objects())
    assert 0 < held < 10


@pytest.mark.parametrize('slop_s', [0.01, 0.9])
def test_a_mask_is_of_the_closest_image_and_of_no_other(slop_s, tmp_path):
    """The images between have none, however wide the slop."""
    stamps, _ = pairs(slow_detector(tmp_path / 'x.mcap'), slop_s)
    assert stamps == [((7 + i) * SECOND,) * 2 for i in range(3)]


def test_a_mask_with_a_stamp_of_its_own_is_said_to_have_one(tmp_path):
    def later(i, name, message):
        if name == 'mask':
            message.header = copy.deepcopy(message.header)
            message.header.stamp.nanosec += 16_000_000
        return message

    stream = [(SECOND + i * SECOND // 30, NAMES.values()) for i in range(3)]
    path = write(tmp_path / 'x.mcap', stream, change=later)
    with pytest.raises(UserError) as caught:
        run(tmp_path / 'out.mcap', path)
    message = str(caught.value)
    assert '3 of 3 images left out: no mask of its stamp' in message
    assert 'image and mask are 0.016 s apart at best: a message has to carry the stamp' in message
    assert 'camera_info' not in message


def test_messages_without_stamps_are_matched_by_their_recording(tmp_path):
    colours = []

    def bare(i, name, message):
        message.header.frame_id = f'camera {i}'
        return message

    path = write(tmp_path / 'x.mcap', [(0, NAMES.values())] * 4, {'mask': 3}, change=bare)
    with Bag(path) as bag:
        matched = match_frames(bag, NAMES, 0.01, lambda message: None)
        for _, frame in frames(bag, matched, range(4)):
            colours.append([message.header.frame_id for message in frame.messages.values()])
    assert colours == [[f'camera {i}'] * 4 for i in range(4)]
    (reason,) = matched.reasons
    assert reason.startswith('no stamps on image, camera_info, mask, object_pose')


def test_a_partner_that_never_comes_is_named(tmp_path):
    others = set(NAMES.values()) - {'mask'}
    stream = [(SECOND, others), (2 * SECOND, others), (20 * SECOND, ['mask'])]
    path = write(tmp_path / 'x.mcap', stream)
    with pytest.raises(UserError, match='2 of 2 images left out: no mask of its stamp; the stamps'):
        run(tmp_path / 'out.mcap', path)


def test_malformed_messages_are_counted_with_the_first_reason(tmp_path):
    def broken(i, name, message):
        if name == 'object_pose':
            message.pose.orientation.w = 9.0
        return message

    stream = [((1 + i) * SECOND, NAMES.values()) for i in range(3)]
    with pytest.raises(UserError) as caught:
        run(tmp_path / 'out.mcap', write(tmp_path / 'x.mcap', stream, change=broken))
    message = str(caught.value)
    assert '3 of 3 images left out: no object_pose of its stamp' in message
    assert '3 of 3 messages on /object_pose are malformed, the first: ' in message
    assert 'unit quaternion' in message
    assert 'apart' not in message


def test_one_broken_message_is_one_malformed_message(tmp_path):
    """Bytes that are none of the type, as a transport that lost some leaves them."""
    path = write(tmp_path / 'x.mcap', [((1 + i) * SECOND, NAMES.values()) for i in range(3)])
    with Bag(path) as bag:
        records = list(bag.records())
        first = next(i for i, record in enumerate(records) if record.topic == '/mask')
        records[first] = records[first]._replace(data=records[first].data[:30])
        bag.records = lambda: iter(records)
        matched = match_frames(bag, NAMES, 0.01, lambda message: None)
    assert len(matched.frames) == 2
    assert matched.malformed == {'mask': 1}


@pytest.mark.parametrize(
    ('remap', 'complaint'),
    [
        ({'camera_info': 'image'}, 'got /image for image and camera_info'),
        ({'mask': '/camera_info'}, 'got /camera_info for camera_info and mask'),
        (
            {'mask': '/other'},
            'mask: expected sensor_msgs/msg/Image on /other, got geometry_msgs/msg/PoseArray',
        ),
        (
            {'object_pose': 'other'},
            'object_pose: expected geometry_msgs/msg/PoseStamped or .* on /other, got '
            'geometry_msgs/msg/PoseArray',
        ),
        (
            {'image': 'packed'},
            'expected sensor_msgs/msg/Image on /packed, got sensor_msgs/msg/CompressedImage',
        ),
    ],
)
def test_inputs_of_a_wrong_type_are_one_line(remap, complaint, tmp_path):
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for topic, ns, message in read(BAG)[:PER_FRAME]:
            writer.write(topic, ns, message)
        writer.write('/other', ns, PoseArray())
        writer.write('/packed', ns, CompressedImage())
    with pytest.raises(UserError, match=complaint) as caught:
        run(tmp_path / 'out.mcap', tmp_path / 'in.mcap', remap=remap)
    assert '\n' not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ['in.mcap']


def other_pose(kind, message):
    """A pose in a message of another type."""
    if kind is PoseWithCovarianceStamped:
        result = PoseWithCovarianceStamped(header=message.header)
        result.pose.pose = message.pose
        return result
    result = TransformStamped(header=message.header, child_frame_id='object')
    for axis in 'xyz':
        setattr(result.transform.translation, axis, getattr(message.pose.position, axis))
    result.transform.rotation = message.pose.orientation
    return result


@pytest.mark.parametrize('kind', [PoseWithCovarianceStamped, TransformStamped])
def test_the_views_are_those_of_the_same_pose(kind, tmp_path):
    for name in ('plain', 'other'):
        with BagWriter(tmp_path / f'{name}.mcap') as writer:
            for topic, ns, message in read(BAG)[:PER_FRAME]:
                if name == 'other' and isinstance(message, PoseStamped):
                    message = other_pose(kind, message)
                writer.write(topic, ns, message)
        run(tmp_path / f'{name} out.mcap', tmp_path / f'{name}.mcap')
    plain, other = (read(tmp_path / f'{name} out.mcap') for name in ('plain', 'other'))
    assert len(plain) == len(other) > 1
    for (_, _, a), (_, _, b) in zip(plain[1:], other[1:], strict=True):
        assert a == b


def test_what_the_bag_promises_and_does_not_hold_is_said_after_the_views(tmp_path, monkeypatch):
    """The views of what is there are kept, and the command fails."""
    path = write(tmp_path / 'in.mcap', [((1 + i) * SECOND, NAMES.values()) for i in range(3)])
    promise = Bag._describe

    def more(bag, name):
        topic = promise(bag, name)
        return topic._replace(count=topic.count + (2 if name == '/mask' else 0))

    monkeypatch.setattr(Bag, '_describe', more)
    with pytest.raises(UserError, match=r'lack 2 of 5 messages on /mask .*; views of 3 frames in'):
        run(tmp_path / 'out.mcap', path)
    assert any(topic == '/nvs/views' for topic, _, _ in read(tmp_path / 'out.mcap'))
