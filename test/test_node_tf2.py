"""A camera that moves, look-ups that wait, and what is left of tf2 at cleanup.

Under tf2_ros where there is one, else under a light one that is made of the same ROS parts.
"""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
from geometry_msgs.msg import PoseStamped, Vector3
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.time import Time
from std_msgs.msg import Header

from nvs_interfaces.action import SynthesizeOrbit
from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.geometry import Spherical, inverse, pose_from_spherical, rigid
from nvs_ros.messages import transforms
from nvs_ros.messages.cameras import pose_from_rigid, rigid_from_pose
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.images import image_from_array
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.messages.transforms import UnknownTransform
from nvs_ros.messages.viewpoints import requested_orbit
from nvs_ros.node.transforms import NodeTransforms
from nvs_ros.node.view_node import ViewNode
from nvs_ros.testing import light_tf2
from nvs_ros.testing.robot import (
    DOMAINS,
    FRAME,
    TIMEOUT_S,
    LightSynthesizer,
    Orbit,
    Scene,
    graph,
    wait_until,
)

PERIOD_NS = 100_000_000
"""Between frames of the robot."""
ASKED = pose_from_spherical(Spherical(0.8, np.radians(10), 0.25))
"""Of a camera, in the frame of the object."""


@pytest.fixture(autouse=True)
def tf2(monkeypatch):
    """The real tf2_ros, or the light one in its place."""
    if transforms.tf2_ros is None:
        monkeypatch.setattr(transforms, 'tf2_ros', light_tf2)
    return transforms.tf2_ros


def parts(node):
    """Everything of the graph that a node holds."""
    kinds = ('publishers', 'subscriptions', 'services', 'clients', 'timers', 'waitables')
    return {kind: len(list(getattr(node, kind))) for kind in kinds}


@pytest.fixture
def node():
    """A view node that nobody spins."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=next(DOMAINS))
    made = ViewNode(lambda settings, log: LightSynthesizer(), context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def test_nothing_is_left_of_tf_after_cleanup(node, capfd):
    before = parts(node)
    for _ in range(3):
        node.trigger_configure()
        buffer = weakref.ref(node._transforms._buffer)
        node.trigger_cleanup()
        assert parts(node) == before
        gc.collect()
        assert buffer() is None
    # The clock jumps: nobody is told who has gone.
    for is_simulated in (True, False):
        node.set_parameters([Parameter('use_sim_time', value=is_simulated)])
    assert 'jump' not in capfd.readouterr().err


def test_nothing_is_left_of_tf_when_it_cannot_be_had(node, monkeypatch, tf2):
    def fail(node):
        raise RuntimeError('no broadcaster')

    monkeypatch.setattr(tf2, 'TransformBroadcaster', fail)
    before = parts(node)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert parts(node) == before


@pytest.fixture
def listening(node):
    """Transforms of a node that nobody spins: they are set by hand."""
    made = NodeTransforms(node, TIMEOUT_S)
    yield made
    made.close()


def frame_of_many(count, stamp_ns=PERIOD_NS, frame_id='base'):
    """A frame with detections, in another frame than the camera's; no vision_msgs needed."""
    messages = Scene().messages(stamp_ns)
    pose = messages.pop('object_pose').pose
    header = Header(stamp=messages['image'].header.stamp, frame_id=frame_id)
    labels = np.zeros((120, 160), np.uint16)
    labels[20:100, 20:140] = np.arange(120) % count + 1
    messages['mask'] = image_from_array(labels, '16UC1', messages['image'].header)
    box = SimpleNamespace(center=pose, size=Vector3(x=0.1, y=0.1, z=0.1))
    detections = [SimpleNamespace(header=header, id=str(i + 1), bbox=box) for i in range(count)]
    messages['detections'] = SimpleNamespace(header=header, detections=detections)
    return FrameMessages(stamp_ns, messages, 0.0)


def engine_with(found):
    return Engine(LightSynthesizer(), found, lambda stage, seconds: None)


def count_lookups(found, monkeypatch):
    """Frames and timeouts of the look-ups from now on."""
    real, seen = found._buffer.lookup_transform, []

    def lookup(target, source, time, timeout):
        seen.append((target, source, timeout.nanoseconds * 1e-9))
        return real(target, source, time, timeout)

    monkeypatch.setattr(found._buffer, 'lookup_transform', lookup)
    return seen


def test_a_frame_is_looked_up_once_for_all_its_objects(node, monkeypatch):
    configuration = Configuration.from_values({'reference_frame': 'map'})
    found = NodeTransforms(node, 0.05)
    seen = count_lookups(found, monkeypatch)
    with pytest.raises(UnknownTransform, match='base'):
        engine_with(found).sources(frame_of_many(100), configuration)
    assert [names for *names, _ in seen] == [[FRAME, 'base']]
    for child in ('base', 'map'):
        message = light_tf2.message(FRAME, child, 0, np.eye(4))
        found._buffer.set_transform_static(message, 'test')
    seen.clear()
    engine = engine_with(found)
    frame = frame_of_many(20)
    assert len(engine.sources(frame, configuration)) == 20
    assert [names for *names, _ in seen] == [[FRAME, 'base'], [FRAME, 'map']]
    assert engine.sources(frame, configuration) is engine.sources(frame, configuration)
    assert len(seen) == 2
    found.close()


def wait_in_lookups(found, monkeypatch, seconds):
    """Have look-ups find nothing but the unity, after a wait; return how long they may wait."""
    allowed_s = []

    def lookup(target, source, time, timeout):
        allowed_s.append(timeout.nanoseconds * 1e-9)
        threading.Event().wait(seconds)
        return light_tf2.message(target, source, 0, np.eye(4))

    monkeypatch.setattr(found._buffer, 'lookup_transform', lookup)
    return allowed_s


def test_a_frame_waits_no_longer_than_one_lookup(node, monkeypatch):
    """The frame of the object and the reference frame, each just not there yet."""
    configuration = Configuration.from_values({'reference_frame': 'map'})
    found = NodeTransforms(node, 0.5)
    allowed_s = wait_in_lookups(found, monkeypatch, 0.2)
    engine_with(found).sources(frame_of_many(1), configuration)
    first_s, second_s = allowed_s
    assert first_s <= 0.5
    assert second_s <= 0.3
    allowed_s.clear()
    engine_with(found).sources(frame_of_many(1), configuration)
    assert allowed_s[0] > 0.3  # each frame anew
    found.close()


def test_an_orbit_waits_no_longer_than_one_lookup(node, monkeypatch):
    configuration = Configuration.from_values({})
    found = NodeTransforms(node, 0.2)
    (source,) = engine_with(found).sources(frame_of_many(1, frame_id=FRAME), configuration)
    allowed_s = wait_in_lookups(found, monkeypatch, 0.15)
    pose = PoseStamped(pose=pose_from_rigid(inverse(Scene().object_from_camera) @ ASKED))
    pose.header.frame_id = 'tool'
    viewpoints = [Viewpoint(kind=Viewpoint.POSE, camera_pose=pose)] * 4
    requested_orbit(source, SynthesizeOrbit.Goal(viewpoints=viewpoints), found, '')
    assert allowed_s[1] <= 0.05
    assert allowed_s[2:] == [0.0, 0.0]
    found.close()


@pytest.mark.parametrize('same', [True, False])
def test_nobody_waits_for_the_transforms_of_somebody_else(listening, monkeypatch, same):
    """Two ask, for one frame or for two: both look up at once, and both are served."""
    configuration = Configuration.from_values({})
    engine = engine_with(listening)
    real, together = listening._buffer.lookup_transform, threading.Barrier(3, timeout=TIMEOUT_S)

    def lookup(*arguments):
        together.wait()
        return real(*arguments)

    monkeypatch.setattr(listening._buffer, 'lookup_transform', lookup)
    first = frame_of_many(2)
    frames = (first, first if same else frame_of_many(2, 2 * PERIOD_NS))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(engine.sources, frame, configuration) for frame in frames]
        together.wait()
        message = light_tf2.message(FRAME, 'base', 0, np.eye(4))
        listening._buffer.set_transform_static(message, 'test')
        answers = [future.result() for future in asked]
    for frame, sources in zip(frames, answers, strict=True):
        assert [source.stamp_ns for source in sources] == [frame.stamp_ns] * 2
    assert (answers[0] is answers[1]) == same


def test_how_long_a_transform_is_waited_for_is_a_parameter(monkeypatch):
    with graph({'tf_timeout_s': 10.0, 'enabled': False}) as running:
        robot = running.robot
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        found = running.node._transforms
        seen = count_lookups(found, monkeypatch)
        pose = PoseStamped(pose=pose_from_rigid(inverse(robot.scene.object_from_camera) @ ASKED))
        pose.header.frame_id = 'tool'
        answer = robot.view_client.call_async(
            SynthesizeView.Request(viewpoint=Viewpoint(kind=Viewpoint.POSE, camera_pose=pose))
        )
        wait_until(lambda: seen)
        assert seen == [(FRAME, 'tool', 10.0)]
        found._buffer.set_transform_static(light_tf2.message(FRAME, 'tool', 0, np.eye(4)), 'test')
        response = robot.result(answer)
        assert response.success, response.message


class Moving:
    """A robot whose camera, and whose tool, go through the world; a transform for each frame.

    Parameters
    ----------
    robot : Robot
    """

    CAMERA_M_S = np.array([1.0, 0.2, 0.0])
    TOOL_M_S = np.array([0.0, -0.7, 0.3])

    def __init__(self, robot) -> None:
        self._scene = robot.scene
        self._messages = robot.scene.messages
        self._broadcaster = transforms.tf2_ros.TransformBroadcaster(robot.node)
        robot.scene.messages = self.messages

    def world_from(self, frame, stamp_ns):
        """Where a frame is at a time."""
        shift = rigid(np.eye(3), stamp_ns * 1e-9 * self.CAMERA_M_S)
        return {
            'world': np.eye(4),
            FRAME: shift @ self._scene.object_from_camera,
            'tool': rigid(np.eye(3), [0.1, 0.2, 0.3] + stamp_ns * 1e-9 * self.TOOL_M_S),
        }[frame]

    def send(self, stamp_ns):
        """Publish where everything is at a time."""
        made = [
            light_tf2.message('world', frame, stamp_ns, self.world_from(frame, stamp_ns))
            for frame in (FRAME, 'tool')
        ]
        self._broadcaster.sendTransform(made)

    def messages(self, stamp_ns):
        self.send(stamp_ns)
        return self._messages(stamp_ns)

    def request(self, frame, stamp_ns, camera_ns, **fields):
        """:data:`ASKED` at the time of the image, said in a frame as it is at another time."""
        world_from_asked = self.world_from(FRAME, camera_ns) @ self.expected()
        pose = inverse(self.world_from(frame, stamp_ns)) @ world_from_asked
        made = PoseStamped(header=Header(frame_id=frame), pose=pose_from_rigid(pose))
        made.header.stamp.sec, made.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        return Viewpoint(kind=Viewpoint.POSE, camera_pose=made, **fields)

    def expected(self):
        """``frame_from_camera`` of the answer: the object goes along with the camera."""
        return inverse(self._scene.object_from_camera) @ ASKED


def moving_frame(running):
    """A camera that has moved for some frames, and the stamp of the newest; /tf goes on."""
    moving = Moving(running.robot)
    synchronizer = running.node._session.synchronizer
    buffer = running.node._transforms._buffer

    def is_known(stamp_ns):
        try:
            buffer.lookup_transform('world', FRAME, Time(nanoseconds=stamp_ns))
        except transforms.tf2_ros.TransformException:
            return False
        return True

    running.robot.frames_until(
        lambda: synchronizer.newest and is_known(synchronizer.newest.stamp_ns - PERIOD_NS)
    )
    image_ns = running.robot.stamp_ns
    moving.send(image_ns + PERIOD_NS)
    wait_until(lambda: is_known(image_ns + PERIOD_NS) and is_known(image_ns - PERIOD_NS))
    wait_until(lambda: synchronizer.newest.stamp_ns == image_ns)
    return moving, image_ns


def assert_is(view, moving):
    np.testing.assert_allclose(
        rigid_from_pose(view.camera_pose, 'pose'), moving.expected(), atol=1e-6
    )


@pytest.mark.parametrize('setting', ['fixed_frame', 'reference_frame'])
def test_a_pose_of_another_time_than_the_image(setting):
    with graph({setting: 'world', 'enabled': False}) as running:
        moving, image_ns = moving_frame(running)
        earlier_ns, later_ns = image_ns - PERIOD_NS, image_ns + PERIOD_NS // 2
        for frame in ('world', 'tool', FRAME):
            for stamp_ns in (earlier_ns, image_ns, later_ns):
                viewpoint = moving.request(frame, stamp_ns, image_ns)
                response = running.robot.synthesize(viewpoint=viewpoint)
                assert response.success, response.message
                assert_is(response.view, moving)
        viewpoints = [moving.request('tool', ns, image_ns) for ns in (earlier_ns, later_ns)]
        result = Orbit(running.robot, viewpoints=viewpoints).result().result
        assert result.success, result.message
        for view in result.views.views:
            assert_is(view, moving)


def test_a_pose_of_another_time_is_refused_where_no_frame_is_known_to_stand_still():
    with graph({'enabled': False}) as running:
        moving, image_ns = moving_frame(running)
        for frame in ('world', 'tool', FRAME):
            viewpoint = moving.request(frame, image_ns - PERIOD_NS, image_ns)
            response = running.robot.synthesize(viewpoint=viewpoint)
            assert not response.success
            assert 'fixed_frame' in response.message
            assert '0.100 s before the image' in response.message
            viewpoint = moving.request(frame, image_ns, image_ns)
            for stamp in (viewpoint.camera_pose.header.stamp, None):
                viewpoint.camera_pose.header.stamp = stamp or type(Header().stamp)()
                response = running.robot.synthesize(viewpoint=viewpoint)
                assert response.success, response.message
                assert_is(response.view, moving)


@pytest.mark.parametrize(
    ('fixed', 'stamp_s', 'complaint'),
    [('nowhere', 0.0, 'nowhere'), ('world', 1e6, "'tool'"), ('world', -5.0, 'above 0')],
)
def test_times_and_frames_that_are_not_known_are_refused(fixed, stamp_s, complaint):
    with graph({'fixed_frame': fixed, 'enabled': False}) as running:
        moving, image_ns = moving_frame(running)
        viewpoint = moving.request('tool', image_ns - PERIOD_NS, image_ns)
        if stamp_s:
            viewpoint.camera_pose.header.stamp.sec = int(stamp_s)
        response = running.robot.synthesize(viewpoint=viewpoint)
        assert not response.success
        assert complaint in response.message


def test_an_object_that_was_seen_a_little_before_the_image():
    """Its pose is in the frame of the camera, which has moved since."""
    lead_ns = 30_000_000
    settings = {'fixed_frame': 'world', 'sync.slop_s': 0.04, 'views.azimuths_deg': [0.0]}
    with graph(settings) as running:
        moving = Moving(running.robot)
        made = running.robot.scene.messages

        def messages(stamp_ns):
            moving.send(stamp_ns - lead_ns)
            messages = made(stamp_ns)
            stamp = messages['object_pose'].header.stamp = type(Header().stamp)()
            stamp.sec, stamp.nanosec = divmod(stamp_ns - lead_ns, 10**9)
            return messages

        running.robot.scene.messages = messages
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        view = running.robot.frames_until_message(views).views[0]
    stamp_ns = view.source_header.stamp.sec * 10**9 + view.source_header.stamp.nanosec
    frame_from_frame_then = inverse(moving.world_from(FRAME, stamp_ns)) @ moving.world_from(
        FRAME, stamp_ns - lead_ns
    )
    np.testing.assert_allclose(
        rigid_from_pose(view.object_pose, 'pose'),
        frame_from_frame_then @ inverse(running.robot.scene.object_from_camera),
        atol=1e-6,
    )


@pytest.mark.parametrize('fixed', ['', FRAME])
def test_without_tf2_a_pose_of_another_time_is_refused_unless_the_camera_stands_still(
    monkeypatch, fixed
):
    monkeypatch.setattr(transforms, 'tf2_ros', None)
    with graph({'enabled': False, 'fixed_frame': fixed}) as running:
        robot = running.robot
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        pose = PoseStamped(pose=pose_from_rigid(inverse(robot.scene.object_from_camera) @ ASKED))
        pose.header.frame_id, pose.header.stamp.nanosec = FRAME, 5
        viewpoint = Viewpoint(kind=Viewpoint.POSE, camera_pose=pose)
        response = robot.synthesize(viewpoint=viewpoint)
        assert response.success == bool(fixed)
        if not fixed:
            assert 'stamp 0' in response.message
            assert 'without tf2_ros' in response.message
