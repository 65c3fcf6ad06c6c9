"""The synthesiser over a bag: what the node makes of the same frames, resumable."""

import math
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

import numpy as np
import rclpy.time
from geometry_msgs.msg import TransformStamped
from rosbags.highlevel import AnyReader
from test_messages_objects import detections, painted
from walk_bag import write_walk

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.bag.frame_maker import FrameMaker
from nvs_ros.bag.inputs import input_topics
from nvs_ros.bag.parameters import read_configuration
from nvs_ros.bag.parts import BagJob
from nvs_ros.bag.process import BagWorker, process
from nvs_ros.bag.reader import Bag
from nvs_ros.bag.transforms import _Known
from nvs_ros.bag.writer import BagWriter
from nvs_ros.cli import main
from nvs_ros.completion.confidence import Evidence
from nvs_ros.errors import UserError
from nvs_ros.messages import transforms
from nvs_ros.messages.cameras import rigid_from_pose
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import Placement, source_frames
from nvs_ros.messages.images import array_from_image, image_from_array
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.testing import robot
from nvs_ros.zero123.profile import ModelProfile

ROOT = Path(__file__).parents[1]
BAG = ROOT / 'demo' / 'mug.mcap'
FRAMES, PER_FRAME = 15, 5
"""Image, camera_info, depth, mask and pose."""


class Synthesizer(robot.LightSynthesizer):
    """Counts batches and can be interrupted before one of them."""

    def __init__(self, interrupted_before=math.inf):
        super().__init__()
        self.interrupted_before = interrupted_before

    def synthesize(self, *arguments, **options):
        if len(self.batches) >= self.interrupted_before:
            raise KeyboardInterrupt
        return super().synthesize(*arguments, **options)


def run(output, bag=BAG, synthesizer=None, **options):
    parameters = options.pop('parameters', {'views.azimuths_deg': '[60.0, 120.0]'})
    synthesizer = synthesizer or Synthesizer()
    process(bag, output, read_configuration(None, parameters), synthesizer=synthesizer, **options)
    return synthesizer


def read(path):
    with Bag(path) as bag:
        return list(bag.messages())


def without_nan(message):
    """NaN (not estimated) is not equal to itself."""
    for view in message.views:
        assert math.isnan(view.confidence)
        view.confidence = -1.0
    return message


def test_the_output_has_the_topics_of_the_node(tmp_path):
    run(tmp_path / 'out.mcap')
    with AnyReader([tmp_path / 'out.mcap']) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    parts = ('image', 'camera_info', 'mask', 'measured')
    expected = {f'/nvs/view_{i}/{part}' for i in range(2) for part in parts} | {'/nvs/views'}
    assert counts == dict.fromkeys(expected, FRAMES)
    for topic, ns, message in read(tmp_path / 'out.mcap'):
        assert ns == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if topic == '/nvs/views':
            assert message.header.frame_id == 'camera_optical_frame'
            assert [view.header.frame_id for view in message.views] == [
                'nvs_view_0_optical_frame',
                'nvs_view_1_optical_frame',
            ]
    assert [file.name for file in tmp_path.iterdir()] == ['out.mcap']


def test_the_views_are_those_of_the_node(tmp_path):
    run(tmp_path / 'out.mcap', every=FRAMES, parameters={'seed': '7'})
    (processed,) = [m for topic, _, m in read(tmp_path / 'out.mcap') if topic == '/nvs/views']
    frame = {topic.lstrip('/'): message for topic, _, message in read(BAG)[:PER_FRAME]}
    del frame['depth']  # not read unless asked for
    with robot.graph({'seed': 7}) as graph:
        received = graph.robot.subscribe(NovelViewArray, '/nvs/views')

        def published():
            graph.robot.publish(frame)
            return not received.empty()

        robot.wait_until(published, period_s=0.1)
        live = received.get()
    assert len(live.views) == 8
    assert without_nan(processed) == without_nan(live)


def test_views_under_the_least_confidence_are_left_out(tmp_path):
    """The light views of all seeds agree, so the confidence is 1: first as much is asked, then no
    view can have as much."""
    least = {'completion.min_confidence': '1.0'}
    run(tmp_path / 'all.mcap', every=FRAMES, parameters=least)
    (message,) = [m for topic, _, m in read(tmp_path / 'all.mcap') if topic == '/nvs/views']
    assert [view.confidence for view in message.views] == [1.0] * 8
    doubted = Synthesizer()
    weights = dict.fromkeys(Evidence._fields, 0.0)
    doubted.components.profile = ModelProfile(confidence={'bias': 0.0, **weights})
    run(tmp_path / 'none.mcap', every=FRAMES, parameters=least, synthesizer=doubted)
    ((topic, _, message),) = read(tmp_path / 'none.mcap')
    assert topic == '/nvs/views' and not message.views


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path):
    run(tmp_path / 'whole.mcap')
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'out.mcap', synthesizer=Synthesizer(interrupted_before=4))
    assert not (tmp_path / 'out.mcap').exists()
    again = run(tmp_path / 'out.mcap')
    assert len(again.batches) == FRAMES - 4
    whole, resumed = read(tmp_path / 'whole.mcap'), read(tmp_path / 'out.mcap')
    assert [(topic, ns) for topic, ns, _ in whole] == [(topic, ns) for topic, ns, _ in resumed]
    for (topic, _, a), (_, _, b) in zip(whole, resumed, strict=True):
        if topic == '/nvs/views':
            a, b = without_nan(a), without_nan(b)
        assert a == b


def test_parts_of_another_run_are_not_mixed_in(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'out.mcap', synthesizer=Synthesizer(interrupted_before=1))
    with pytest.raises(UserError, match='other parameters'):
        run(tmp_path / 'out.mcap', parameters={'seed': '3'})


def test_every_third_frame(tmp_path):
    assert len(run(tmp_path / 'out.mcap', every=3).batches) == 5
    stamps = [
        m.header.stamp.nanosec for t, _, m in read(tmp_path / 'out.mcap') if t == '/nvs/views'
    ]
    assert stamps == [0, 600_000_000, 200_000_000, 800_000_000, 400_000_000]


def test_topics_of_other_names(tmp_path):
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for topic, ns, message in read(BAG)[:PER_FRAME]:
            writer.write('/camera/image_raw' if topic == '/image' else topic, ns, message)
    with pytest.raises(UserError, match='no topic /image; it has /camera/image_raw'):
        run(tmp_path / 'out.mcap', tmp_path / 'in.mcap')
    run(tmp_path / 'out.mcap', tmp_path / 'in.mcap', remap={'image': 'camera/image_raw'})
    assert any(topic == '/nvs/views' for topic, _, _ in read(tmp_path / 'out.mcap'))


def test_compressed_topics_are_named_as_image_transport_does():
    configuration = read_configuration(
        None, {'input.image_transport': 'compressed', 'input.depth': 'true'}
    )
    topics = input_topics(configuration, {'image': '/left/image', 'depth': 'left/depth'})
    assert topics == {
        'image': '/left/image/compressed',
        'camera_info': '/camera_info',
        'mask': '/mask',
        'object_pose': '/object_pose',
        'depth': '/left/depth',
    }
    with pytest.raises(UserError, match="among image, .* got 'picture'"):
        input_topics(configuration, {'picture': '/x'})


def test_bad_messages_are_left_out_and_the_rest_is_made(tmp_path, capsys):
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for i, (topic, ns, message) in enumerate(read(BAG)[: 3 * PER_FRAME]):
            if i == 0:
                message.step += 1  # malformed image of the first frame
            if i == PER_FRAME + 3:
                message.data = type(message.data)('B', bytes(len(message.data)))  # an empty mask
            writer.write(topic, ns, message)
    assert run(tmp_path / 'out.mcap', tmp_path / 'in.mcap').batches == [2]
    said = capsys.readouterr().out
    assert 'malformed message on /image' in said
    assert 'frame 0 left out: expected a pixel above 0 in the mask' in said


class Maker:
    """Makes views of frames with objects 1, 2 and 5, of which the mask shows the first two.

    Without a bag: vision_msgs, whose messages such a bag holds, is not everywhere.
    """

    def __init__(self, **settings):
        values = {'input.objects': 'detections', 'views.azimuths_deg': [0.0], **settings}
        self.synthesizer = Synthesizer()
        self.maker = FrameMaker(
            Configuration.from_values(values),
            self.synthesizer,
            _Known(),
        )

    def ids(self):
        scene = robot.Scene()
        messages = scene.messages(10**9)
        header = messages['image'].header
        mask = painted(np.uint16, _1=1, _2=2)
        messages['mask'] = image_from_array(mask, '16UC1', header)
        messages['detections'] = detections(
            scene, header, _1=(-0.04, 0.06), _2=(0.04, 0.06), _5=(0.0, 0.05)
        )
        del messages['object_pose']
        frame = FrameMessages(10**9, messages, 0.0)
        made = self.maker.views(frame, lambda share: None)
        return [each.views.object_id for each in made]


def test_a_bag_without_poses(tmp_path, capsys):
    """Mask and depth say where the mug is; the node finds it in the same place."""
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for i, (topic, ns, message) in enumerate(read(BAG)[: 2 * PER_FRAME]):
            if topic == '/mask' and i >= PER_FRAME:
                message.data = type(message.data)('B', bytes(len(message.data)))  # an empty one
            if topic != '/object_pose':
                writer.write(topic, ns, message)
    with pytest.raises(UserError, match='no topic /object_pose'):
        run(tmp_path / 'out.mcap', tmp_path / 'in.mcap')
    parameters = {'input.objects': 'mask', 'views.azimuths_deg': '[60.0]'}
    run(tmp_path / 'out.mcap', tmp_path / 'in.mcap', parameters=parameters)
    assert 'frame 1 left out: expected a pixel above 0 in the mask' in capsys.readouterr().out
    (found,) = [m for topic, _, m in read(tmp_path / 'out.mcap') if topic == '/nvs/views']
    frame = {topic.lstrip('/'): message for topic, _, message in read(BAG)[:PER_FRAME]}
    truth = rigid_from_pose(frame['object_pose'].pose, 'object_pose')
    (view,) = found.views
    off_m = rigid_from_pose(view.object_pose, 'object_pose')[:3, 3] - truth[:3, 3]
    assert np.linalg.norm(off_m) < 0.15 * view.object_size_m
    assert 'pose and size taken from mask and depth' in ' '.join(view.warnings)
    (source,) = source_frames(
        FrameMessages(found.header.stamp.nanosec, frame, 0.0),
        read_configuration(None, parameters),
        Placement(np.eye(4), None),
        Synthesizer().canonical,
    )
    np.testing.assert_allclose(rigid_from_pose(view.object_pose, 'p'), source.frame_from_object)


def test_occluders_of_a_bag(tmp_path):
    """Compressed as the mask is, and each of one image."""
    parameters = {'input.occluders': 'true', 'views.azimuths_deg': '[60.0]'}
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for topic, ns, message in read(BAG)[: 2 * PER_FRAME]:
            if topic == '/mask':
                pixels = array_from_image(message)
                right = np.arange(pixels.shape[1]) > np.nonzero(pixels.any(0))[0].mean()
                shown = pixels * ~right
                message.data = image_from_array(shown, 'mono8', message.header).data
                hiding = np.where(right, pixels, 0).astype(np.uint8)
                occluders = image_from_array(hiding, 'mono8', message.header)
                writer.write('/occluders', ns, occluders)
            writer.write(topic, ns, message)
    run(tmp_path / 'out.mcap', tmp_path / 'in.mcap', parameters=parameters)
    found = [m for topic, _, m in read(tmp_path / 'out.mcap') if topic == '/nvs/views']
    assert len(found) == 2
    assert all('something hides the object' in ' '.join(m.views[0].warnings) for m in found)
    compressed = {**parameters, 'input.mask_transport': 'compressed'}
    topics = input_topics(read_configuration(None, compressed), {'occluders': 'arm'})
    assert topics['occluders'] == '/arm/compressed'


def test_an_object_without_pixels_is_left_out_and_said(capsys):
    made = Maker()
    assert [made.ids() for _ in range(2)] == [['1', '2']] * 2
    assert list(made.maker.missed) == ['5'] and made.maker.missed['5'].startswith('expected')
    assert capsys.readouterr().out.count("object '5' left out of a frame: expected") == 1


@pytest.mark.parametrize('error', [ValueError('no view'), RuntimeError('out of memory')])
def test_an_object_that_fails_costs_no_other(error):
    made = Maker()

    def fail_next(seed):
        made.synthesizer.error = error if len(made.synthesizer.batches) % 2 else None

    made.synthesizer.on_end = fail_next
    assert made.ids() == ['1']
    kind = '' if isinstance(error, ValueError) else 'RuntimeError: '
    assert made.maker.missed['2'] == f'{kind}{error}'
    made.synthesizer.error = error
    with pytest.raises(type(error), match=str(error)):  # nothing is left of the frame
        made.ids()


def test_a_bag_whose_stamps_never_match_says_so(tmp_path):
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for topic, ns, message in read(BAG)[: 2 * PER_FRAME]:
            if topic == '/mask':
                message.header.stamp.nanosec += 50_000_000
            writer.write(topic, ns, message)
    with pytest.raises(UserError, match=r'image and mask are 0\.05 s apart'):
        run(tmp_path / 'out.mcap', tmp_path / 'in.mcap')
    assert [file.name for file in tmp_path.iterdir()] == ['in.mcap']


def test_a_finished_output_is_not_overwritten(tmp_path):
    (tmp_path / 'out.mcap').write_text('precious')
    with pytest.raises(UserError, match='there already'):
        run(tmp_path / 'out.mcap')
    assert (tmp_path / 'out.mcap').read_text() == 'precious'


def test_parameters_come_from_the_file_and_the_command_line(tmp_path):
    file = tmp_path / 'nvs.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    seed: 4\n    use_sim_time: true\n'
        '    sync: {slop_s: 0.1}\n    views: {azimuths_deg: [10.0, 20.0]}\n'
        '    sampler: {guidance_scale: 2.0}\n'
        '/nvs:\n  ros__parameters:\n    sync.slop_s: 0.5\n'
        '/other:\n  ros__parameters:\n    preset: hourglass\n'
    )
    configuration = read_configuration(file, {'seed': '5', 'preset': 'zero123'})
    assert configuration.node.seed == 5
    assert configuration.node.preset == 'zero123'
    assert configuration.sync.slop_s == 0.5
    assert configuration.views.azimuths_deg == (10.0, 20.0)
    assert configuration.sampler().guidance_scale == 2.0
    assert read_configuration(ROOT / 'config' / 'nvs.yaml', {}) == read_configuration(None, {})
    file.write_text('/other:\n  ros__parameters:\n    seed: 4\n')
    with pytest.raises(UserError, match='expected parameters of'):
        read_configuration(file, {})


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['out.txt'], 'ending in .mcap'),
        (['out.mcap', '--every', '0'], '--every'),
        (['out.mcap', '-p', 'seed'], 'name:=value'),
        (['out.mcap', '-p', 'seed:=many'], 'seed: expected int'),
        (['out.mcap', '-p', 'seeds:=3'], 'no such parameter: seeds'),
        (['out.mcap', '-p', 'preset:=best'], "got 'best'"),
        (
            ['out.mcap', '-p', 'views.azimuths_deg:=[1'],
            'expected a value in YAML',
        ),
        (['out.mcap', '--params-file', 'missing.yaml'], 'cannot read missing.yaml'),
        (['out.mcap', '--params-file', __file__], 'not a ROS parameter file'),
        (['out.mcap', '--remap', 'picture:=/x'], "got 'picture'"),
        (['out.mcap', '-p', 'model.source:=/nowhere/at_all'], '/nowhere/at_all'),
    ],
)
def test_wrong_arguments_get_one_line_and_code_2(
    arguments, complaint, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert main(['process', str(BAG), *arguments]) == 2
    errors = capsys.readouterr().err
    assert complaint in errors
    assert errors.count('\n') == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(transforms.tf2_ros is None, reason='no tf2_ros')
@pytest.mark.parametrize('topic', ['/tf', '/tf_static'])
def test_a_pose_in_another_frame_goes_through_the_recorded_transforms(topic, tmp_path):
    from tf2_msgs.msg import TFMessage

    def transform(ns):
        """The base lies 1 m to the left of the camera, turned half round its optical axis."""
        found = TransformStamped(child_frame_id='base')
        found.header.frame_id = 'camera_optical_frame'
        found.header.stamp.sec, found.header.stamp.nanosec = divmod(ns, 10**9)
        found.transform.translation.x = -1.0
        found.transform.rotation.z, found.transform.rotation.w = 1.0, 0.0
        return TFMessage(transforms=[found])

    with BagWriter(tmp_path / 'in.mcap') as writer:
        for name, ns, message in read(BAG)[:PER_FRAME]:
            if name == '/object_pose':
                place, turn = message.pose.position, message.pose.orientation
                place.x, place.y = -(place.x + 1.0), -place.y
                # (0, 0, 1, 0) conjugated, times the turn
                turn.x, turn.y, turn.z, turn.w = turn.y, -turn.x, -turn.w, turn.z
                message.header.frame_id = 'base'
            writer.write(name, ns, message)
        # Recorded after the frame, about times before and after it.
        for seconds in (-1, 1):
            writer.write(topic, ns + 10**9, transform(ns + seconds * 10**9))
    run(tmp_path / 'out.mcap', tmp_path / 'in.mcap')
    run(tmp_path / 'direct.mcap', every=FRAMES)
    ((_, _, found), *_), ((_, _, expected), *_) = (
        [item for item in read(tmp_path / name) if item[0] == '/nvs/views']
        for name in ('out.mcap', 'direct.mcap')
    )
    for a, b in zip(found.views, expected.views, strict=True):
        np.testing.assert_allclose(
            rigid_from_pose(a.camera_pose, 'a'), rigid_from_pose(b.camera_pose, 'b'), atol=1e-9
        )


@pytest.mark.skipif(transforms.tf2_ros is not None, reason='tf2_ros is here')
def test_a_pose_in_another_frame_is_explained_without_tf2(tmp_path):
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for name, ns, message in read(BAG)[:PER_FRAME]:
            if name == '/object_pose':
                message.header.frame_id = 'base'
            writer.write(name, ns, message)
    with pytest.raises(UserError, match="got 'base': without tf2_ros"):
        run(tmp_path / 'out.mcap', tmp_path / 'in.mcap')


def test_frames_are_remembered_and_an_interrupted_run_ends_the_same(tmp_path, monkeypatch):
    """The camera goes round an object that stands still in the frame called world."""
    bag = write_walk(tmp_path / 'in.mcap', monkeypatch, 5)
    parameters = {'fixed_frame': 'world', 'memory.frames': '3', 'views.azimuths_deg': '[60.0]'}
    options = {'bag': bag, 'parameters': parameters}
    run(tmp_path / 'whole.mcap', **options)
    whole = [m for topic, _, m in read(tmp_path / 'whole.mcap') if topic == '/nvs/views']
    assert [view.frames for array in whole for view in array.views] == [1, 2, 3, 4, 4]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'out.mcap', synthesizer=Synthesizer(interrupted_before=3), **options)
    again = run(tmp_path / 'out.mcap', **options)
    assert len(again.batches) == 2
    resumed = [m for topic, _, m in read(tmp_path / 'out.mcap') if topic == '/nvs/views']
    assert list(map(without_nan, resumed)) == list(map(without_nan, whole))


def test_a_bag_made_in_parts_and_out_of_order_is_the_same(tmp_path, monkeypatch):
    """Each part by a worker of its own, the last first; what is remembered runs along the bag, and
    one frame is unusable."""

    def broken(i, messages):
        if i == 2:
            messages['mask'].data = type(messages['mask'].data)(
                'B', bytes(len(messages['mask'].data))
            )

    bag = write_walk(tmp_path / 'in.mcap', monkeypatch, 6, broken)
    parameters = {'fixed_frame': 'world', 'memory.frames': '3', 'views.azimuths_deg': '[60.0]'}
    run(tmp_path / 'whole.mcap', bag, parameters=parameters)
    job = BagJob(bag, tmp_path / 'out.mcap', read_configuration(None, parameters))
    parts = BagWorker(Synthesizer).plan(job, 2)
    assert [part[:2] for part in parts] == [(0, 2), (2, 4), (4, 6)]
    for part in parts[::-1]:
        BagWorker(Synthesizer).make(job, part)
    report = BagWorker(Synthesizer).finish(job)
    assert report.frames == 5 and sum(report.dropped.values()) == 1
    whole, joined = read(tmp_path / 'whole.mcap'), read(tmp_path / 'out.mcap')
    assert [view.frames for t, _, m in whole if t == '/nvs/views' for view in m.views][-1] == 4
    assert list(map(repr, whole)) == list(map(repr, joined))


def test_shapes_are_written_beside_the_views(tmp_path):
    """As files in the object frame, and as the topics of the node."""
    (tmp_path / 'shapes').mkdir()
    parameters = {'views.azimuths_deg': '[90.0, 180.0]', 'completion.normals': 'true'}
    options = {'every': 8, 'parameters': parameters | {'input.depth': 'true'}}
    run(tmp_path / 'out.mcap', shapes=tmp_path / 'shapes', **options)
    messages = {}
    for topic, _, message in read(tmp_path / 'out.mcap'):
        messages.setdefault(topic, []).append(message)
    clouds, meshes = messages['/nvs/completed_cloud'], messages['/nvs/completed_mesh']
    assert len(clouds) == len(meshes) == len(messages['/nvs/next_best_view']) == 2
    assert len(messages['/nvs/views']) == len(messages['/nvs/view_1/measured']) == 2
    stamps = [rclpy.time.Time.from_msg(cloud.header.stamp).nanoseconds for cloud in clouds]
    names = sorted(file.name for file in (tmp_path / 'shapes').iterdir())
    assert names == sorted(f'{ns}{end}' for ns in stamps for end in ('.obj', '.ply'))
    assert clouds[0].header.frame_id == meshes[0].header.frame_id == 'camera_optical_frame'
    text = (tmp_path / 'shapes' / f'{stamps[0]}.obj').read_text()
    corners = [line for line in text.splitlines() if line.startswith('f ')]
    assert len(meshes[0].points) == 3 * len(corners) and 'nvs_ros:stamp_ns' in text
    plain = run(tmp_path / 'plain.mcap', **options)
    assert len(plain.batches) == 2, 'a shape that nobody wants is not made'
