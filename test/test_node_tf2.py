"""Look-ups that wait, and what is left of tf2 at cleanup.

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

import light_tf2
import rclpy
from geometry_msgs.msg import PoseStamped, Vector3
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from robot import DOMAINS, FRAME, TIMEOUT_S, LightSynthesizer, Scene, graph, wait_until
from std_msgs.msg import Header

from nvs_interfaces.msg import Viewpoint
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.geometry import Spherical, inverse, pose_from_spherical
from nvs_ros.node import transforms
from nvs_ros.node.cameras import pose_from_rigid
from nvs_ros.node.conversions import image_from_array
from nvs_ros.node.engine import Engine
from nvs_ros.node.intake import FrameMessages
from nvs_ros.node.parameters import Configuration
from nvs_ros.node.transforms import UnknownTransform
from nvs_ros.node.view_node import ViewNode

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
    made = transforms.Transforms(node, TIMEOUT_S)
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
    detections = [SimpleNamespace(id=str(i + 1), bbox=box) for i in range(count)]
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
    found = transforms.Transforms(node, 0.05)
    seen = count_lookups(found, monkeypatch)
    with pytest.raises(UnknownTransform, match='base'):
        engine_with(found).sources(frame_of_many(100), configuration)
    assert seen == [(FRAME, 'base', 0.05)]
    for child in ('base', 'map'):
        message = light_tf2.message(FRAME, child, 0, np.eye(4))
        found._buffer.set_transform_static(message, 'test')
    seen.clear()
    engine = engine_with(found)
    frame = frame_of_many(20)
    assert len(engine.sources(frame, configuration)) == 20
    assert seen == [(FRAME, 'base', 0.05), (FRAME, 'map', 0.05)]
    assert engine.sources(frame, configuration) is engine.sources(frame, configuration)
    assert len(seen) == 2
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
        robot.frames_until(lambda: running.node._session.intake.newest)
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
