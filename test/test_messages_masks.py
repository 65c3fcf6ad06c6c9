"""Objects without a pose: a mask and depth are enough."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.geometry import Camera, Spherical, inverse
from nvs_ros.messages.cameras import message_from_camera, pose_from_rigid, rigid_from_pose
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import Placement, source_frames
from nvs_ros.messages.images import image_from_array
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.scenes.categories import make_object
from nvs_ros.testing import robot
from nvs_ros.testing.robot import FRAME, graph

CAMERA = Camera(160, 120, [[150, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])
PARAMETERS = {'input.objects': 'mask', 'views.azimuths_deg': [0.0, 90.0]}


class Table:
    """A can on a table, before a camera that also measures depth."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self.seen = table_scene(
            make_object('can', rng), Spherical(0.4, 0.5, 1.8), rng, camera=CAMERA
        )
        self.frame = self.seen.frame
        self.mask, self.mask_encoding = self.frame.mask, 'mono8'
        self.depth_m = self.frame.depth_m

    def messages(self, stamp_ns):
        header = Header(frame_id=FRAME)
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
        made = {
            'image': image_from_array(self.frame.image, 'rgb8', header),
            'camera_info': message_from_camera(CAMERA, header),
            'mask': image_from_array(self.mask, self.mask_encoding, header),
        }
        if self.depth_m is not None:
            made['depth'] = image_from_array(self.depth_m, '32FC1', header)
        return made


@pytest.fixture
def table(monkeypatch):
    """What every robot of a test sees; nobody publishes a pose."""
    kinds = {**robot.Robot.KINDS, 'depth': Image}
    del kinds['object_pose']
    monkeypatch.setattr(robot.Robot, 'KINDS', kinds)
    scene = Table()
    monkeypatch.setattr(robot, 'Scene', lambda: scene)
    return scene


def off_m(view, frame):
    """How far the centre of the object is off the true one."""
    centre = rigid_from_pose(view.object_pose, 'object_pose')[:3, 3]
    return np.linalg.norm(centre - inverse(frame.object_from_camera)[:3, 3])


def labels(table, **boxes):
    """A label image: the object with one label, and boxes of others beside it."""
    painted = np.where(table.frame.mask > 0, 7, 0)
    for name, (rows, columns) in boxes.items():
        painted[rows, columns] = int(name[1:])
    return painted


def test_a_mask_and_depth_are_enough(table):
    with graph(PARAMETERS) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        array = running.robot.frames_until_message(views)
        assert array.object_id == '' and len(array.views) == 2
        size_m = table.frame.object_size_m
        for view in array.views:
            assert off_m(view, table.frame) < 0.06 * size_m
            assert view.object_size_m == pytest.approx(size_m, rel=0.06)
            up = rigid_from_pose(view.object_pose, 'object_pose')[:3, 2]
            assert up @ table.seen.up > np.cos(np.radians(1))
            said = '; '.join(view.warnings)
            assert 'pose and size taken from mask and depth' in said
            assert 'far side is assumed' in said
            assert 'up taken from the plane' in said


@pytest.mark.parametrize('encoding', ['16UC1', '32SC1', 'mono8'])
def test_each_label_is_an_object(encoding, table):
    """One without depth to speak of is left out with the reason; the others are not to blame."""
    dtype = {'16UC1': np.uint16, '32SC1': np.int32, 'mono8': np.uint8}[encoding]
    table.mask_encoding = encoding
    table.mask = labels(table, _9=(slice(2, 5), slice(2, 5))).astype(dtype)
    values = 'labels' if encoding == 'mono8' else 'auto'
    with graph({**PARAMETERS, 'input.mask_values': values}) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        received = running.robot.subscribe(DiagnosticArray, '/diagnostics')
        array = running.robot.frames_until_message(views)
        assert array.object_id == '7'
        assert off_m(array.views[0], table.frame) < 0.06 * table.frame.object_size_m

        def counted():
            values = received.get(timeout=10).status[0].values
            return any(v.key == 'objects left out' and int(v.value) for v in values)

        robot.wait_until(counted)
        assert "expected one of ['7'], got '9'" in running.robot.synthesize(object_id='9').message


def test_a_binary_mask_of_many_values_is_one_object(table):
    """8 bits without the setting: above 0 is the object, as it always was."""
    table.mask = np.where(labels(table) > 0, 3, 0).astype(np.uint8)
    table.mask[60:] //= 3
    with graph(PARAMETERS) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        array = running.robot.frames_until_message(views)
        assert array.object_id == ''
        assert off_m(array.views[0], table.frame) < 0.06 * table.frame.object_size_m


def no_depth_there(table):
    table.depth_m = np.full_like(table.depth_m, np.nan)


def no_plane(table):
    table.depth_m = np.where(table.frame.mask > 0, table.depth_m, np.nan).astype(np.float32)


def empty_mask(table):
    table.mask = np.zeros_like(table.mask)


def few_pixels(table):
    table.mask = np.zeros_like(table.mask)
    table.mask[58:62, 78:82] = 255


BAD = {
    no_depth_there: 'expected depth inside the mask, got none',
    no_plane: 'expected a plane that the object stands on in the depth about the mask',
    empty_mask: 'expected a pixel above 0 in the mask, got none',
    few_pixels: 'expected depth in at least 60 pixels of the mask',
}


@pytest.mark.parametrize('spoil', BAD)
def test_what_cannot_be_used_is_said_and_the_node_goes_on(spoil, table, capfd):
    whole = dict(vars(table))
    spoil(table)
    with graph(PARAMETERS) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        session = running.node._session
        running.robot.frames_until(lambda: session.counts().get('dropped: unusable'))
        assert BAD[spoil] in running.robot.synthesize().message
        assert f'frame dropped: {BAD[spoil]}' in capfd.readouterr().err
        vars(table).update(whole)
        running.robot.frames_until_message(views)


def test_depth_that_never_comes_is_asked_for(table):
    table.depth_m = None
    with graph(PARAMETERS) as running:
        received = running.robot.subscribe(DiagnosticArray, '/diagnostics')

        def asked():
            running.robot.publish_frame()
            while not received.empty():
                if 'nothing on /depth yet' in received.get().status[0].message:
                    return True

        robot.wait_until(asked, period_s=0.1)


def hide_a_half(table):
    """A box before the left half, in image and depth; return its pixels."""
    whole = table.frame.mask > 0
    columns = np.nonzero(whole.any(0))[0]
    box = np.zeros_like(whole)
    box[:, : (columns[0] + columns[-1]) // 2] = True
    box[: np.nonzero(whole.any(1))[0][0] - 5] = False
    table.mask = np.where(whole & ~box, 255, 0).astype(np.uint8)
    table.depth_m = np.where(box, np.float32(0.2), table.depth_m)
    return box


@pytest.mark.parametrize('objects', ['mask', 'pose'])
@pytest.mark.parametrize('given', ['occluders', 'labels'])
def test_what_hides_an_object_is_unknown(given, objects, table, monkeypatch):
    box = hide_a_half(table)
    parameters = {'input.objects': objects, 'input.depth': True, 'views.azimuths_deg': [0.0]}
    kinds = dict(robot.Robot.KINDS)
    messages = table.messages
    if given == 'labels':
        table.mask = np.where(box, 2, table.mask // 255).astype(np.uint16)
        table.mask_encoding = '16UC1'
        parameters['object.label'] = 1
    else:
        parameters['input.occluders'] = True
        kinds['occluders'] = Image
    if objects == 'pose':
        kinds['object_pose'] = PoseStamped

    def more(stamp_ns):
        made = messages(stamp_ns)
        header = made['image'].header
        if given == 'occluders':
            made['occluders'] = image_from_array(box.astype(np.uint8), 'mono8', header)
        if objects == 'pose':
            pose = pose_from_rigid(inverse(table.frame.object_from_camera))
            made['object_pose'] = PoseStamped(header=header, pose=pose)
        return made

    table.messages = more
    monkeypatch.setattr(robot.Robot, 'KINDS', kinds)
    with graph(parameters) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        (view,) = running.robot.frames_until_message(views).views
        assert 'something hides the object along' in ' '.join(view.warnings)
        assert off_m(view, table.frame) < 0.2 * table.frame.object_size_m
        source = running.node._session.newest_source()
        np.testing.assert_array_equal(source.measured.unknown, box)
        np.testing.assert_array_equal(source.measured.mask > 0, (table.frame.mask > 0) & ~box)


def test_occluders_are_waited_for_and_may_be_none(table, monkeypatch):
    monkeypatch.setattr(robot.Robot, 'KINDS', {**robot.Robot.KINDS, 'occluders': Image})
    with graph({**PARAMETERS, 'input.occluders': True}) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        received = running.robot.subscribe(DiagnosticArray, '/diagnostics')

        def asked():
            running.robot.publish_frame()
            while not received.empty():
                if 'nothing on /occluders yet' in received.get().status[0].message:
                    return True

        robot.wait_until(asked, period_s=0.1)
        messages, size = table.messages, [(120, 160)]

        def more(stamp_ns):
            made = messages(stamp_ns)
            nothing = np.zeros(size[0], np.uint8)
            made['occluders'] = image_from_array(nothing, 'mono8', made['image'].header)
            return made

        table.messages = more
        view = running.robot.frames_until_message(views).views[0]
        assert 'something hides' not in ' '.join(view.warnings)
        size[0] = 60, 80
        session = running.node._session
        running.robot.frames_until(lambda: session.counts().get('dropped: unusable'))
        said = 'expected (120, 160) like the mask, got (60, 80)'
        assert said in running.robot.synthesize().message


def sources(table, placed=None, **settings):
    """Sources of a frame by id, and what was left out of it."""
    left_out = {}
    found = source_frames(
        FrameMessages(10**9, table.messages(10**9), 0.0),
        Configuration.from_values({'input.objects': 'mask', **settings}),
        placed or Placement(np.eye(4), None),
        robot.LightSynthesizer().canonical,
        left_out.__setitem__,
    )
    return {source.object_id: source for source in found}, left_out


def test_what_nobody_names_as_an_occluder_is_found_in_the_depth(table):
    box = hide_a_half(table)
    messages = table.messages

    def more(stamp_ns):
        made = messages(stamp_ns)
        pose = pose_from_rigid(inverse(table.frame.object_from_camera))
        return {**made, 'object_pose': PoseStamped(header=made['image'].header, pose=pose)}

    table.messages = more
    settings = {'input.objects': 'pose', 'input.depth': True}
    found = sources(table, **settings)[0]['']
    assert (found.measured.unknown & box).sum() > 0.95 * box.sum()
    assert 'something hides the object along' in ' '.join(found.canonical.assumptions)
    as_given = sources(table, **settings, **{'input.reconcile': False})[0]['']
    assert as_given.measured.unknown is None
    assert 'something hides' not in ' '.join(as_given.canonical.assumptions)


def test_objects_stand_in_the_axes_of_the_reference_frame(table):
    frame_from_reference = inverse(table.frame.object_from_camera)
    placed = Placement(np.eye(4), frame_from_reference)
    found, _ = sources(table, placed)
    source = found['']
    for pose in (source.frame_from_upright, source.frame_from_object):
        np.testing.assert_allclose(pose[:3, :3], frame_from_reference[:3, :3], atol=1e-9)
    assert 'up taken from' not in ' '.join(source.canonical.assumptions)


def test_one_label_is_chosen(table):
    table.mask = labels(table, _9=(slice(2, 5), slice(2, 5))).astype(np.uint16)
    table.mask_encoding = '16UC1'
    found, left_out = sources(table)
    assert set(found) == {'7'} and 'at least 60 pixels' in str(left_out['9'])
    for chosen in ({'object.label': 7}, {'object.id': '7'}):
        found, left_out = sources(table, **chosen)
        assert set(found) == {'7'} and not left_out
    for missing in ({'object.label': 3}, {'object.id': 'cup'}):
        with pytest.raises(ValueError, match=r'expected .* in the mask, got \[7, 9\]'):
            sources(table, **missing)
    found, _ = sources(table, **{'input.mask_values': 'binary'})
    assert set(found) == {''}
    table.mask[:1, :120] = np.arange(101, 221)
    with pytest.raises(ValueError, match='at most 100 labels'):
        sources(table)


def test_a_size_that_is_given_stays(table):
    found, _ = sources(table, **{'object.diameter_m': 0.3})
    assert found[''].canonical.unit_m == 0.3


def test_a_jpeg_has_no_labels(table):
    _, data = cv2.imencode('.jpg', table.mask)
    made = table.messages(10**9)
    made['mask'] = CompressedImage(header=made['mask'].header, format='jpeg', data=data.tobytes())
    table.messages = lambda stamp_ns: made
    assert set(sources(table)[0]) == {''}
    with pytest.raises(ValueError, match='expected labels in a PNG, got a JPEG'):
        sources(table, **{'input.mask_values': 'labels'})
