"""Poses in other frames through tf2, and what is said where tf2_ros is not installed."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.time import Time

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_ros.geometry import Spherical, inverse, pose_from_spherical, rigid
from nvs_ros.messages import transforms
from nvs_ros.messages.cameras import pose_from_rigid, rigid_from_pose
from nvs_ros.testing.robot import FRAME, TIMEOUT_S, graph

tf2_ros = transforms.tf2_ros
with_tf2 = pytest.mark.skipif(tf2_ros is None, reason='no tf2_ros')


@pytest.mark.skipif(tf2_ros is not None, reason='tf2_ros is here')
def test_without_tf2_another_frame_is_refused_and_the_reason_said(capfd):
    with graph() as running:
        robot = running.robot
        robot.subscribe(NovelViewArray, '/nvs/views')
        messages = robot.scene.messages

        def elsewhere(stamp_ns):
            made = messages(stamp_ns)
            made['object_pose'].header.frame_id = 'base_link'
            return made

        robot.scene.messages = elsewhere
        session = running.node._session
        robot.frames_until(lambda: session.counts().get('dropped: frame not in TF'))
        response = robot.synthesize()
        assert "expected frame 'camera_optical_frame', got 'base_link'" in response.message
        assert 'without tf2_ros' in response.message
        robot.scene.messages = messages
        robot.frames_until(lambda: session.counts()['frames used'])


@with_tf2
def test_poses_in_other_frames():
    """Object pose in the base frame, up from it, a request in a third frame; all on /tf."""
    settings = {'reference_frame': 'base_link', 'views.azimuths_deg': [90.0]}
    with graph(settings) as running:
        robot = running.robot
        # The object lies on its side: its own z axis is no help.
        base_from_object = rigid([[1, 0, 0], [0, 0, -1], [0, 1, 0]], [0.5, 0.1, 0.3])
        base_from_upright = rigid(np.eye(3), base_from_object[:3, 3])
        source = Spherical(0.3, np.radians(20), 0.2)
        base_from_camera = base_from_upright @ pose_from_spherical(source)
        broadcaster = tf2_ros.StaticTransformBroadcaster(robot.node)
        base_from_tool = rigid(np.eye(3), [0.0, 0.0, 1.0])
        static = []
        for child, transform in ((FRAME, base_from_camera), ('tool', base_from_tool)):
            message = TransformStamped(child_frame_id=child)
            message.header.frame_id = 'base_link'
            pose = pose_from_rigid(transform)
            for axis in 'xyz':
                setattr(message.transform.translation, axis, getattr(pose.position, axis))
            message.transform.rotation = pose.orientation
            static.append(message)
        broadcaster.sendTransform(static)
        messages = robot.scene.messages

        def in_base(stamp_ns):
            made = messages(stamp_ns)
            pose = made['object_pose']
            pose.header.frame_id, pose.pose = 'base_link', pose_from_rigid(base_from_object)
            return made

        robot.scene.messages = in_base
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        view = robot.frames_until_message(views).views[0]
        expected = (
            inverse(base_from_camera)
            @ base_from_upright
            @ pose_from_spherical(
                Spherical(source.azimuth_rad + np.pi / 2, source.elevation_rad, source.radius)
            )
        )
        np.testing.assert_allclose(rigid_from_pose(view.camera_pose, 'pose'), expected, atol=1e-6)
        np.testing.assert_allclose(
            rigid_from_pose(view.object_pose, 'pose'),
            inverse(base_from_camera) @ base_from_object,
            atol=1e-6,
        )
        # The virtual camera is a frame on /tf.
        buffer = tf2_ros.Buffer()
        tf2_ros.TransformListener(buffer, robot.node)
        frame_id = view.header.frame_id
        robot.frames_until(lambda: buffer.can_transform('base_link', frame_id, Time()))
        asked = inverse(base_from_tool) @ base_from_camera @ expected
        request = Viewpoint(
            kind=Viewpoint.POSE,
            camera_pose=PoseStamped(pose=pose_from_rigid(asked)),
        )
        request.camera_pose.header.frame_id = 'tool'
        response = robot.synthesize(TIMEOUT_S, viewpoint=request)
        assert response.success, response.message
        assert response.view.azimuth_rad == pytest.approx(np.pi / 2)
        np.testing.assert_allclose(
            rigid_from_pose(response.view.camera_pose, 'pose'), expected, atol=1e-6
        )
