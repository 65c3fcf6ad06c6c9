"""Requests: one view, an orbit, the switch; and refusals that come at once and say what to do."""

import math
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from action_msgs.msg import GoalStatus
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.geometry import Camera, inverse, rigid
from nvs_ros.messages.cameras import message_from_camera, pose_from_rigid, rigid_from_pose
from nvs_ros.messages.images import array_from_image
from nvs_ros.node import requests
from nvs_ros.testing.robot import FRAME, RED, TIMEOUT_S, Orbit, graph, wait_until

REFUSAL_S = 0.1


@pytest.fixture(scope='module')
def running():
    with graph({'requests.batch': 2}) as running:
        running.robot.frames_until(lambda: running.node._session.synchronizer.newest)
        yield running


@pytest.fixture
def robot(running):
    return running.robot


def test_a_view_by_angles(robot):
    response = robot.synthesize(
        viewpoint=Viewpoint(azimuth_rad=0.5, elevation_rad=-0.1, distance_m=0.02), seed=17
    )
    assert response.success, response.message
    view = response.view
    assert (view.azimuth_rad, view.elevation_rad, view.distance_m) == pytest.approx(
        (0.5, -0.1, 0.02)
    )
    assert (view.seed, view.preset, view.synthetic) == (17, 'zero-to-hero', True)
    assert view.source_header.frame_id == FRAME
    assert tuple(array_from_image(view.image)[32, 32]) == RED


def test_a_view_by_pose_with_its_own_intrinsics(robot):
    """Camera rolled and aimed off centre: the answer is the picture of exactly that camera."""
    camera = Camera(120, 90, [[150, 0, 50], [0, 140, 50], [0, 0, 1]])
    turn = np.radians(15)
    roll = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    camera_from_target = rigid(roll, [0.0, 0.0, 0.01])
    response = robot.synthesize(
        viewpoint=Viewpoint(
            kind=Viewpoint.POSE,
            camera_pose=PoseStamped(
                header=Header(frame_id=FRAME), pose=pose_from_rigid(camera_from_target)
            ),
            camera_info=message_from_camera(camera, Header()),
        )
    )
    assert response.success, response.message
    view = response.view
    assert (view.image.width, view.image.height) == (120, 90)
    assert (view.camera_info.width, view.camera_info.k[0]) == (120, 150.0)
    np.testing.assert_allclose(
        rigid_from_pose(view.camera_pose, 'pose'), camera_from_target, atol=1e-6
    )
    assert view.distance_m == pytest.approx(-0.01)
    centre = camera.project((inverse(camera_from_target) @ [0, 0, 0.2, 1])[:3])
    x, y = np.round(centre).astype(int)
    assert tuple(array_from_image(view.image)[y, x]) == RED
    ys, xs = np.nonzero(array_from_image(view.mask) > 127)
    np.testing.assert_allclose([xs.mean(), ys.mean()], centre, atol=2.0)


def test_the_preset_of_a_request(running, robot):
    response = robot.synthesize(preset='hourglass')
    assert response.view.preset == 'hourglass'
    assert not running.synthesizer.settings.filtering


def viewpoint(pose=None, frame_id=FRAME, **fields):
    """A viewpoint by pose."""
    stamped = PoseStamped(header=Header(frame_id=frame_id), pose=pose or Pose())
    return Viewpoint(kind=Viewpoint.POSE, camera_pose=stamped, **fields)


CAMERA = {'width': 64, 'height': 48, 'k': [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]}
HUGE = {**CAMERA, 'width': 30000, 'height': 9999}
REFUSALS = {
    'NaN angle': ({'viewpoint': Viewpoint(azimuth_rad=math.nan)}, 'finite'),
    'infinite distance': ({'viewpoint': Viewpoint(distance_m=math.inf)}, 'finite'),
    'over the pole': ({'viewpoint': Viewpoint(elevation_rad=1.5)}, 'straight above'),
    'inside the object': ({'viewpoint': Viewpoint(distance_m=-0.19)}, 'outside the object'),
    'unknown kind': ({'viewpoint': Viewpoint(kind=7)}, 'kind: expected ANGLES'),
    'NaN pose': ({'viewpoint': viewpoint(Pose(position=Point(x=math.nan)))}, 'finite'),
    'no rotation': (
        {'viewpoint': viewpoint(Pose(orientation=Quaternion(w=0.0)))},
        'camera_pose: expected a unit quaternion',
    ),
    'unknown frame': ({'viewpoint': viewpoint(frame_id='moon')}, "'moon'"),
    'no frame': ({'viewpoint': viewpoint(frame_id='')}, 'frame'),
    'object behind': (
        {'viewpoint': viewpoint(Pose(orientation=Quaternion(y=1.0, w=0.0)))},
        'behind',
    ),
    'zero width': (
        {'viewpoint': Viewpoint(camera_info=CameraInfo(**{**CAMERA, 'width': 0}))},
        'width: expected 1',
    ),
    'no calibration': (
        {'viewpoint': Viewpoint(camera_info=CameraInfo(width=64, height=48))},
        'calibrated',
    ),
    'huge picture': (
        {'viewpoint': Viewpoint(camera_info=CameraInfo(**HUGE))},
        'at most',
    ),
    'unknown preset': ({'preset': 'best'}, "'best'"),
    'unknown object': ({'object_id': 'teapot'}, "got 'teapot'"),
}


@pytest.mark.parametrize('name', REFUSALS)
def test_refusals_come_at_once_and_say_why(robot, name):
    fields, reason = REFUSALS[name]
    assert robot.view_client.wait_for_service(TIMEOUT_S)
    elapsed_s = []
    for _ in range(5):  # the fastest counts: other processes may hold the processor
        started = time.monotonic()
        response = robot.synthesize(**fields)
        elapsed_s.append(time.monotonic() - started)
        assert not response.success
        assert reason in response.message
    assert min(elapsed_s) < REFUSAL_S


def test_requests_before_any_frame_are_refused():
    with graph() as running:
        response = running.robot.synthesize()
        assert not response.success
        assert 'no complete frame yet: nothing on /image yet (1 publishers)' in response.message


def test_requests_to_an_inactive_node_are_refused():
    with graph({'autostart': False}) as running:
        running.node.trigger_configure()
        response = running.robot.synthesize()
        assert not response.success
        assert 'not active' in response.message


def test_a_full_queue_refuses_while_those_before_are_served():
    with graph({'requests.queue': 2}) as running:
        robot, synthesizer = running.robot, running.synthesizer
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        assert robot.view_client.wait_for_service(TIMEOUT_S)
        synthesizer.gate.clear()
        request = SynthesizeView.Request()
        futures = [robot.view_client.call_async(request)]
        assert synthesizer.sampling.wait(TIMEOUT_S)
        futures += [robot.view_client.call_async(request) for _ in range(2)]
        worker = running.node._session.worker
        wait_until(lambda: len(worker._jobs) == 2)
        response = robot.synthesize()
        assert not response.success
        assert 'busy: 2 requests wait' in response.message
        synthesizer.gate.set()
        assert all(robot.result(future).success for future in futures)


def test_a_failure_of_the_model_is_answered_and_the_next_request_served():
    with graph() as running:
        robot, synthesizer = running.robot, running.synthesizer
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        synthesizer.error = RuntimeError('CUDA out of memory')
        response = robot.synthesize()
        assert not response.success
        assert 'CUDA out of memory' in response.message
        synthesizer.error = None
        assert robot.synthesize().success


def test_deactivation_answers_waiting_requests():
    with graph() as running:
        robot, synthesizer = running.robot, running.synthesizer
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        assert robot.view_client.wait_for_service(TIMEOUT_S)
        synthesizer.gate.clear()
        futures = [robot.view_client.call_async(SynthesizeView.Request()) for _ in range(3)]
        assert synthesizer.sampling.wait(TIMEOUT_S)
        worker = running.node._session.worker
        wait_until(lambda: len(worker._jobs) == 2)
        running.node.trigger_deactivate()
        for future in futures:
            response = robot.result(future)
            assert not response.success
            assert 'deactivated' in response.message


def test_enable_switches_the_stream_but_not_requests():
    with graph() as running:
        robot = running.robot
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        response = robot.call(robot.enable_client, SetBool.Request(data=False))
        assert response.success
        assert running.node.get_parameter('enabled').value is False
        session = running.node._session
        robot.frames_until(lambda: session.counts().get('dropped: disabled', 0) >= 3)
        batches = len(running.synthesizer.batches)
        assert robot.synthesize().success
        assert len(running.synthesizer.batches) == batches + 1
        robot.call(robot.enable_client, SetBool.Request(data=True))
        robot.frames_until(lambda: len(running.synthesizer.batches) > batches + 1)


def test_an_orbit_gives_each_finished_view_and_all_in_the_end(running, robot):
    running.synthesizer.batches.clear()
    running.synthesizer.evaluation_s = 0.06
    orbit = Orbit(robot, count=5, elevation_rad=0.2, seed=3)
    answer = orbit.result()
    running.synthesizer.evaluation_s = 0.0
    assert answer.status == GoalStatus.STATUS_SUCCEEDED
    assert answer.result.success, answer.result.message
    views = answer.result.views.views
    turns = [view.azimuth_rad - i * math.tau / 5 for i, view in enumerate(views)]
    np.testing.assert_allclose([math.remainder(t, math.tau) for t in turns], [0] * 5, atol=1e-8)
    assert {view.seed for view in views} == {3}
    assert len({view.header.frame_id for view in views}) == 5
    assert running.synthesizer.batches == [2, 2, 1]
    wait_until(lambda: sum(len(f.views) for f in orbit.feedback) == 5)
    shown = [view.header.frame_id for f in orbit.feedback for view in f.views]
    assert shown == [view.header.frame_id for view in views]
    progress = [f.progress for f in orbit.feedback]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert any(not f.views for f in orbit.feedback)
    assert {f.total for f in orbit.feedback} == {5}


def test_an_orbit_through_given_viewpoints(robot):
    viewpoints = [Viewpoint(azimuth_rad=a) for a in (0.1, -0.4)]
    result = Orbit(robot, viewpoints=viewpoints).result().result
    assert [v.azimuth_rad for v in result.views.views] == pytest.approx([0.1, -0.4])


def test_cancel_takes_effect_within_an_evaluation_and_keeps_what_is_finished(running, robot):
    synthesizer = running.synthesizer
    synthesizer.evaluation_s = 0.05
    try:
        orbit = Orbit(robot, count=20)
        wait_until(lambda: any(f.views for f in orbit.feedback))
        robot.result(orbit.handle.cancel_goal_async())
        answer = orbit.result()
    finally:
        synthesizer.evaluation_s = 0.0
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert not answer.result.success
    assert 2 <= len(answer.result.views.views) < 20
    assert robot.synthesize().success


def test_a_waiting_orbit_is_cancelled_at_once(running, robot):
    synthesizer = running.synthesizer
    synthesizer.gate.clear()
    synthesizer.sampling.clear()
    try:
        first = robot.view_client.call_async(SynthesizeView.Request())
        assert synthesizer.sampling.wait(TIMEOUT_S)
        orbit = Orbit(robot, count=3)
        robot.result(orbit.handle.cancel_goal_async())
        answer = orbit.result()
        assert answer.status == GoalStatus.STATUS_CANCELED
        assert 'cancelled' in answer.result.message
    finally:
        synthesizer.gate.set()
    assert robot.result(first).success


def test_an_orbit_is_cancelled_at_any_moment(running, robot):
    """Also before it has a job, and before rclpy has noted the cancel that it told us of."""
    synthesizer = running.synthesizer
    synthesizer.gate.clear()
    try:
        for _ in range(20):
            orbit = Orbit(robot, count=3)
            cancelled = robot.result(orbit.handle.cancel_goal_async())
            answer = orbit.result()
            assert len(cancelled.goals_canceling) == 1
            assert answer.status == GoalStatus.STATUS_CANCELED
            assert answer.result.message == 'cancelled by the client'
    finally:
        synthesizer.gate.set()
    assert not running.node._requests._goals


def test_a_cancel_ends_the_job_itself(running, robot, monkeypatch):
    """Nobody looks from time to time whether there was one."""
    monkeypatch.setattr(requests, 'CANCEL_POLL_S', 60.0, raising=False)
    running.synthesizer.gate.clear()
    try:
        orbit = Orbit(robot, count=3)
        robot.result(orbit.handle.cancel_goal_async())
        assert orbit.result().status == GoalStatus.STATUS_CANCELED
    finally:
        running.synthesizer.gate.set()


@pytest.mark.parametrize('transition', ['trigger_shutdown', 'deactivate and cleanup'])
def test_who_waits_is_answered_before_the_services_go(transition):
    with graph() as running:
        robot, node = running.robot, running.node
        robot.frames_until(lambda: node._session.synchronizer.newest)
        assert robot.view_client.wait_for_service(TIMEOUT_S)
        running.synthesizer.gate.clear()
        orbit = Orbit(robot, count=3)
        result = orbit.handle.get_result_async()
        assert running.synthesizer.sampling.wait(TIMEOUT_S)
        futures = [robot.view_client.call_async(SynthesizeView.Request()) for _ in range(3)]
        worker = node._session.worker
        wait_until(lambda: len(worker._jobs) == 3)
        if transition == 'trigger_shutdown':
            node.trigger_shutdown()
        else:
            node.trigger_deactivate()
            node.trigger_cleanup()
        for future in futures:
            assert 'the node is being' in robot.result(future).message
        answer = robot.result(result)
        assert answer.status == GoalStatus.STATUS_ABORTED
        assert 'the node is being' in answer.result.message


def test_a_parameter_of_a_type_that_there_is_not_ends_nothing():
    """What rclpy raises into its executor by itself; the node's own one goes on."""
    errors = []
    with graph(on_error=errors.append) as running:
        robot = running.robot
        client = robot.node.create_client(SetParameters, '/nvs/set_parameters')
        assert client.wait_for_service(TIMEOUT_S)
        odd = ParameterMessage(name='seed', value=ParameterValue(type=77))
        client.call_async(SetParameters.Request(parameters=[odd]))
        wait_until(lambda: errors)
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        assert robot.synthesize().success


@pytest.mark.parametrize(
    ('goal', 'reason'),
    [
        ({}, 'expected viewpoints, or a count'),
        ({'count': 10**6}, 'expected at most 1000 views of an orbit'),
        ({'count': 3, 'elevation_rad': 3.0}, 'viewpoint 0'),
        ({'viewpoints': [Viewpoint(), Viewpoint(distance_m=math.nan)]}, 'viewpoint 1'),
        ({'count': 3, 'preset': 'best'}, "'best'"),
    ],
)
def test_impossible_orbits_are_aborted_with_a_reason(robot, goal, reason):
    answer = Orbit(robot, **goal).result()
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert not answer.result.success
    assert reason in answer.result.message
