"""Frames in, views out: the node through real rclpy and DDS."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CameraInfo, Image

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.geometry import Spherical, inverse, pose_from_spherical
from nvs_ros.messages.cameras import camera_from_message, rigid_from_pose
from nvs_ros.messages.images import array_from_image
from nvs_ros.messages.synchronizer import SUPERSEDED
from nvs_ros.messages.views import measured_share, sheet_message
from nvs_ros.testing.robot import FRAME, RED, graph

VIEWS = {'views.azimuths_deg': [0.0, 90.0, -30.0], 'views.elevations_deg': [0.0, 10.0, 0.0]}


@pytest.fixture(scope='module')
def running():
    with graph(VIEWS) as running:
        yield running


def stamp(header):
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def test_views_carry_the_camera_that_would_have_taken_them(running):
    views = running.robot.subscribe(NovelViewArray, '/nvs/views')
    message = running.robot.frames_until_message(views)
    assert message.header.frame_id == FRAME
    assert len(message.views) == 3
    scene = running.robot.scene
    source = Spherical(0.3, np.radians(20), 0.2)
    for i, (azimuth_deg, elevation_deg) in enumerate([(0, 0), (90, 10), (-30, 0)]):
        view = message.views[i]
        assert view.header.frame_id == f'nvs_view_{i}_optical_frame'
        assert view.source_header == message.header
        for part in (view.image, view.mask, view.camera_info):
            assert part.header == view.header
        assert stamp(view.header) == stamp(message.header)
        assert view.azimuth_rad == pytest.approx(math.radians(azimuth_deg))
        assert view.elevation_rad == pytest.approx(math.radians(elevation_deg))
        assert view.distance_m == pytest.approx(0.0, abs=1e-9)
        expected = pose_from_spherical(
            Spherical(
                source.azimuth_rad + math.radians(azimuth_deg),
                source.elevation_rad + math.radians(elevation_deg),
                source.radius,
            )
        )
        camera_from_target = inverse(scene.object_from_camera) @ expected
        np.testing.assert_allclose(
            rigid_from_pose(view.camera_pose, 'pose'), camera_from_target, atol=1e-6
        )
        np.testing.assert_allclose(
            rigid_from_pose(view.object_pose, 'pose'), inverse(scene.object_from_camera), atol=1e-6
        )
        camera = camera_from_message(view.camera_info)
        assert (camera.width, camera.height) == (view.image.width, view.image.height) == (64, 64)
        # The object's centre is where this camera sees it.
        centre = camera.project(inverse(expected)[:3, 3])
        np.testing.assert_allclose(centre, [31.5, 31.5], atol=1e-3)
        assert view.synthetic is True
        assert math.isnan(view.confidence)
        assert (view.preset, view.model_id, view.seed) == ('zero-to-hero', 'light', 0)
    picture, mask = (
        array_from_image(message.views[0].image),
        array_from_image(message.views[0].mask),
    )
    assert tuple(picture[32, 32]) == RED
    assert tuple(picture[0, 0]) == (255, 255, 255)
    assert (mask[32, 32], mask[0, 0]) == (255, 0)


def test_single_topics_agree_with_one_another(running):
    robot = running.robot
    queues = {
        name: robot.subscribe(kind, f'/nvs/view_1/{name}')
        for name, kind in {'image': Image, 'camera_info': CameraInfo, 'mask': Image}.items()
    }
    first = {name: robot.frames_until_message(received) for name, received in queues.items()}
    newest = max(stamp(message.header) for message in first.values())
    for name, received in queues.items():
        message = first[name]
        while stamp(message.header) < newest:
            message = robot.frames_until_message(received)
        first[name] = message
    assert len({stamp(message.header) for message in first.values()}) == 1
    assert {m.header.frame_id for m in first.values()} == {'nvs_view_1_optical_frame'}


def test_contact_sheet(running):
    sheets = running.robot.subscribe(Image, '/nvs/contact_sheet')
    sheet = running.robot.frames_until_message(sheets)
    assert sheet.header.frame_id == FRAME
    assert array_from_image(sheet).shape[2] == 3
    assert min(sheet.width, sheet.height) > 2 * 192


def test_the_contact_sheet_tells_measured_from_imagined_where_anything_was_measured(running):
    received = running.robot.subscribe(NovelViewArray, '/nvs/views')
    message = running.robot.frames_until_message(received)
    source = SimpleNamespace(
        canonical=SimpleNamespace(image=array_from_image(message.views[0].image)),
        header=message.header,
    )
    plain = sheet_message(message.views, source)
    message.views[1].measured = message.views[1].mask
    assert measured_share(message.views[1]) == 1
    assert sheet_message(message.views, source).height > 1.8 * plain.height


def test_nothing_is_computed_for_topics_nobody_listens_to():
    with graph(VIEWS) as running:
        robot, node = running.robot, running.node
        robot.frames_until(lambda: node._session.counts().get('dropped: nobody listens', 0) >= 3)
        assert running.synthesizer.batches == []
        images = robot.subscribe(Image, '/nvs/view_2/image')
        robot.frames_until_message(images)
        assert set(running.synthesizer.batches) == {1}


def test_without_on_demand_everything_is_computed():
    with graph({**VIEWS, 'on_demand': False}) as running:
        running.robot.frames_until(lambda: running.synthesizer.batches)
        assert running.synthesizer.batches[0] == 3


def test_an_impossible_view_is_left_out_and_the_others_made():
    with graph({'views.azimuths_deg': [0.0, 10.0], 'views.elevations_deg': [80.0, 0.0]}) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        message = running.robot.frames_until_message(views)
        assert [view.header.frame_id for view in message.views] == ['nvs_view_1_optical_frame']


def test_the_newest_frame_wins_while_the_sampler_is_busy():
    """Every published view belongs to a frame not older than the previous inference."""
    with graph(VIEWS) as running:
        robot, synthesizer = running.robot, running.synthesizer
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        synthesizer.gate.clear()
        synthesizer.sampling.clear()
        robot.frames_until(synthesizer.sampling.is_set)
        synchronizer = running.node._session.synchronizer
        robot.frames_until(lambda: synchronizer.statistics.dropped[SUPERSEDED] >= 5)
        newest = synchronizer.newest.stamp_ns
        while not views.empty():
            views.get()
        synthesizer.gate.set()
        stamps = [stamp(views.get(timeout=10).header) for _ in range(2)]
        assert stamps[0] < newest <= stamps[1]
        running.node.stop(10)
        counts = synchronizer.statistics
        assert counts.images == counts.used + counts.dropped.total() + synchronizer.waiting()
