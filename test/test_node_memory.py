"""Frames of an object that stood still are remembered while the camera goes round it."""

import queue

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.geometry import Camera, Spherical, inverse, pose_from_spherical, rigid
from nvs_ros.messages import transforms
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.messages.memory import Memory
from nvs_ros.settings import MemorySettings
from nvs_ros.synthesizer import Frame
from nvs_ros.testing import light_tf2
from nvs_ros.testing.robot import FRAME, graph

PLACE = rigid([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [0.4, -0.2, 0.8])
"""Of the object in the fixed frame."""


def seen(azimuth_deg, place=PLACE, identity='', elevation_deg=20.0, error=None):
    """A frame from a side; what the pose says of the object may have an error."""
    picture = np.full((2, 2, 3), azimuth_deg % 256, np.uint8)
    pose = pose_from_spherical(Spherical(np.radians(azimuth_deg), np.radians(elevation_deg), 0.5))
    upright = place if error is None else place @ error
    measured = Frame(picture, picture[..., 0], Camera.canonical(2), inverse(upright) @ place @ pose)
    return SourceFrame(None, 0, identity, measured, None, None, None, upright)


def sides(source):
    return [int(frame.image[0, 0, 0]) for frame in source.remembered]


def test_frames_from_other_sides_are_remembered():
    memory, settings = Memory(), MemorySettings(frames=4, least_angle_deg=30.0)
    for azimuth_deg in range(0, 101, 5):
        source = memory.joined(seen(azimuth_deg), settings)
        # Elevation 20: the angle between two cameras is less than that of their azimuths.
        expected = [a for a in (0, 35, 70) if azimuth_deg - a >= 35]
        assert sides(source) == expected
    assert memory.size == 3


def test_remembered_frames_stand_where_the_camera_was():
    """Joined by how the camera moved, not by what the pose of the object says in each."""
    memory, settings = Memory(), MemorySettings(frames=4)
    error = rigid([[1, 0, 0], [0, 0.9998, -0.02], [0, 0.02, 0.9998]], [0.003, 0, 0.002])
    memory.joined(seen(0, error=error), settings)
    (frame,) = memory.joined(seen(90), settings).remembered
    np.testing.assert_allclose(
        frame.object_from_camera, seen(0).measured.object_from_camera, atol=1e-12
    )


@pytest.mark.parametrize(
    ('moved', 'is_still'),
    [
        (rigid(np.eye(3), [0.009, 0, 0]), True),
        (rigid(np.eye(3), [0.011, 0, 0]), False),
        (pose_from_spherical(Spherical(0, 0, 1)), False),
    ],
)
def test_what_moved_is_forgotten(moved, is_still):
    memory, settings = Memory(), MemorySettings(frames=4)
    memory.joined(seen(0), settings)
    assert len(memory.joined(seen(90, PLACE @ moved), settings).remembered) == is_still
    assert memory.size == 1 + is_still


def test_the_turn_of_a_round_object_may_be_left_aside():
    memory = Memory()
    settings = MemorySettings(frames=4, still_deg=180.0)
    turned = rigid([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], [0, 0, 0])
    memory.joined(seen(0), settings)
    assert memory.joined(seen(90, error=turned), settings).remembered


def test_what_overlaps_most_goes_first():
    memory, settings = Memory(), MemorySettings(frames=3)
    for azimuth_deg in (0, 100, 130, 220):
        memory.joined(seen(azimuth_deg), settings)
    assert sides(memory.joined(seen(60), settings)) == [0, 130, 220]


def test_objects_are_told_apart_and_those_not_seen_for_long_are_forgotten():
    memory, settings = Memory(), MemorySettings(frames=2)
    for i in range(settings.objects + 1):
        assert not memory.joined(seen(0, identity=str(i)), settings).remembered
    assert memory.size == settings.objects
    assert not memory.joined(seen(90, identity='0'), settings).remembered
    assert memory.joined(seen(90, identity=str(settings.objects)), settings).remembered


def test_forgetting():
    memory, settings = Memory(), MemorySettings(frames=2)
    for identity in 'abc':
        memory.joined(seen(0, identity=identity), settings)
    assert memory.forget('b') == 1 and memory.forget('b') == 0
    assert memory.size == 2 and memory.forget() == 2 and memory.size == 0
    assert not memory.joined(seen(90, identity='a'), settings).remembered


def test_nothing_is_remembered_without_being_asked_for():
    memory = Memory()
    source = seen(0)
    assert memory.joined(source, MemorySettings()) is source and not memory.size


def test_a_frame_that_stands_still_is_needed():
    with pytest.raises(ValueError, match='memory.frames: expected 0 .* set fixed_frame'):
        Configuration.from_values({'memory.frames': 2})
    Configuration.from_values({'memory.frames': 2, 'reference_frame': 'map'})


class Walk:
    """The camera of a robot goes round its object, which stands in a frame called world."""

    def __init__(self, robot) -> None:
        self.scene, self.robot = robot.scene, robot
        self.place, self.azimuth_rad = PLACE, 0.0
        self._messages = robot.scene.messages
        self._broadcaster = transforms.tf2_ros.TransformBroadcaster(robot.node)
        robot.scene.messages = self.messages

    def messages(self, stamp_ns):
        self.scene.object_from_camera = pose_from_spherical(
            Spherical(self.azimuth_rad, np.radians(20), 0.2)
        )
        world_from_camera = self.place @ self.scene.object_from_camera
        self._broadcaster.sendTransform(
            [light_tf2.message('world', FRAME, stamp_ns, world_from_camera)]
        )
        return self._messages(stamp_ns)

    def frames_of(self, views, azimuth_deg, count):
        """Go to a side and wait for views that are made of so many frames."""
        self.azimuth_rad = np.radians(azimuth_deg)

        def made():
            while True:
                try:
                    array = views.get(timeout=0.05)
                except queue.Empty:
                    return False
                if {view.frames for view in array.views} == {count}:
                    return True

        self.robot.frames_until(made)


@pytest.fixture(autouse=True)
def tf2(monkeypatch):
    """The real tf2_ros, or the light one in its place."""
    if transforms.tf2_ros is None:
        monkeypatch.setattr(transforms, 'tf2_ros', light_tf2)


def test_the_node_remembers_and_forgets():
    parameters = {'fixed_frame': 'world', 'memory.frames': 4, 'tf_timeout_s': 1.0}
    with graph(parameters) as running:
        walk = Walk(running.robot)
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        for azimuth_deg, count in ((0, 1), (90, 2), (180, 3), (270, 4)):
            walk.frames_of(views, azimuth_deg, count)
        forget = running.robot.node.create_client(Trigger, '/nvs/forget')
        response = running.robot.call(forget, Trigger.Request())
        assert response.success and response.message == 'forgotten: 4 frames'
        walk.frames_of(views, 200, 1)
        walk.frames_of(views, 0, 2)
        walk.place = walk.place @ rigid(np.eye(3), [0.05, 0, 0])
        walk.frames_of(views, 90, 1)
        running.node.set_parameters([Parameter('memory.frames', value=0)])
        walk.frames_of(views, 180, 1)


def test_the_node_remembers_while_nobody_listens():
    parameters = {'fixed_frame': 'world', 'memory.frames': 4, 'tf_timeout_s': 1.0}
    with graph(parameters) as running:
        walk, memory = Walk(running.robot), running.node._session.engine.memory
        for i, azimuth_deg in enumerate((0, 60, 120)):
            walk.azimuth_rad = np.radians(azimuth_deg)
            running.robot.frames_until(lambda i=i: memory.size == i + 1)
        response = running.robot.synthesize()
        assert response.success and response.view.frames == 3


def test_forgetting_needs_an_active_node():
    with graph({'autostart': False}) as running:
        running.node.trigger_configure()
        forget = running.robot.node.create_client(Trigger, '/nvs/forget')
        response = running.robot.call(forget, Trigger.Request())
        assert not response.success and 'not active' in response.message


def test_a_remembered_frame_that_does_not_fit_any_more_is_forgotten():
    """The object is said to be larger now than one of the cameras was far away."""
    parameters = {'fixed_frame': 'world', 'memory.frames': 4, 'tf_timeout_s': 1.0}
    with graph(parameters) as running:
        walk, session = Walk(running.robot), running.node._session
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        walk.frames_of(views, 0, 1)
        observe = running.synthesizer.observe

        def refuse(frames, measurement=None):
            if len(frames) > 1:
                raise ValueError('too close')
            return observe(frames, measurement)

        running.synthesizer.observe = refuse
        walk.azimuth_rad = np.radians(90)
        running.robot.frames_until(lambda: session.synchronizer.statistics.dropped['unusable'])
        walk.frames_of(views, 90, 1)
        assert session.synchronizer.statistics.dropped['unusable'] == 1
