"""The completed cloud and the next best view, over DDS."""

import numpy as np
import pytest
from completion_scene import SIZE_M, Seen, box
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_ros.completion.cloud import all_measured_points, completed_cloud
from nvs_ros.completion.confidence import Evidence
from nvs_ros.completion.hull import Grid, carve
from nvs_ros.completion.surface import hull_surface
from nvs_ros.geometry import rigid
from nvs_ros.messages.shapes import POINT, cloud_message, mesh_message
from nvs_ros.testing.robot import FRAME, graph
from nvs_ros.zero123.profile import ModelProfile

POINT_STEP = 28
VIEWS = {'views.azimuths_deg': [90.0, 180.0], 'completion.cells': 32}


def read_bytes(message):
    """Points as a planner reads them: by the offsets it documents, from the bytes."""
    data = bytes(message.data)
    records = [data[i : i + message.point_step] for i in range(0, len(data), message.point_step)]
    points = np.array([np.frombuffer(r[:12], '<f4') for r in records])
    colors = np.array([[r[14], r[13], r[12]] for r in records])
    synthetic = np.array([int.from_bytes(r[16:20], 'little') for r in records])
    confidence = np.array([np.frombuffer(r[20:24], '<f4')[0] for r in records])
    views = np.array([int.from_bytes(r[24:28], 'little', signed=True) for r in records])
    return points, colors, synthetic, confidence, views


def test_the_cloud_lies_where_the_object_is():
    with graph(VIEWS) as g:
        clouds = g.robot.subscribe(PointCloud2, '/nvs/completed_cloud')
        poses = g.robot.subscribe(PoseStamped, '/nvs/next_best_view')
        cloud = g.robot.frames_until_message(clouds)
        pose = g.robot.frames_until_message(poses)
    assert cloud.header.frame_id == FRAME and cloud.header.stamp.sec > 0
    assert (cloud.height, cloud.point_step, cloud.is_bigendian) == (1, POINT_STEP, False)
    assert cloud.is_dense and cloud.row_step == len(cloud.data) == POINT_STEP * cloud.width
    layout = [(f.name, f.offset) for f in cloud.fields]
    assert layout == list(zip([name for name, *_ in POINT], range(0, POINT_STEP, 4), strict=True))
    points, colors, synthetic, confidence, views = read_bytes(cloud)
    assert np.isfinite(points).all() and np.isfinite(confidence).all()
    # The object is a square of 0.1 m, 0.2 m before the camera and in the middle of its picture.
    assert np.abs(np.median(points, 0) - (0, 0, 0.2)).max() < 0.02
    assert np.abs(points[:, :2]).max() < 0.08
    assert synthetic.all()
    assert confidence.min() >= 0 and confidence.max() <= 1
    assert set(np.unique(views)) <= {-2, -1, 0, 1} and (views == -1).any()
    red = np.array([200, 30, 10])
    assert (np.abs(colors - red).max(1) < 20).mean() > 0.9
    # The camera goes to the side or behind, as far away as this one.
    position = np.array([pose.pose.position.x, pose.pose.position.y, pose.pose.position.z])
    assert pose.header.frame_id == FRAME
    assert np.linalg.norm(position - (0, 0, 0.2)) == pytest.approx(0.2, abs=1e-3)
    assert np.linalg.norm(position) > 0.2


def made_shape():
    """A cloud of measured and imagined points and its surface, in another frame."""
    seen = Seen(box())
    grid, confidences = Grid(SIZE_M, 32), [0.8] * len(seen.estimates)
    occupancy = carve(grid, [seen.frame], seen.estimates, confidences)
    points, colors = all_measured_points([seen.frame])
    surface = hull_surface(grid, occupancy, [seen.source], seen.estimates, confidences, points)
    pose = rigid(np.eye(3), (0.1, -0.2, 0.7))
    return completed_cloud(points, colors, surface).moved(pose), surface.moved(pose)


def test_the_bytes_are_those_of_the_cloud():
    cloud, _ = made_shape()
    message = cloud_message(cloud, Header(frame_id=FRAME), normals=True)
    assert message.point_step == 40 and [f.offset for f in message.fields[-3:]] == [28, 32, 36]
    points, colors, synthetic, confidence, views = read_bytes(message)
    assert np.allclose(points, cloud.points, atol=1e-6) and np.array_equal(colors, cloud.colors)
    assert np.array_equal(synthetic, cloud.synthetic) and 0 < synthetic.mean() < 1
    assert np.array_equal(confidence, cloud.confidence) and np.array_equal(views, cloud.views)
    normals = np.frombuffer(bytes(message.data), '<f4').reshape(-1, 10)[:, 7:]
    assert np.allclose(normals, cloud.normals, atol=1e-6)


def test_sensor_msgs_py_reads_the_cloud():
    point_cloud2 = pytest.importorskip(
        'sensor_msgs_py.point_cloud2', reason='sensor_msgs_py is not on PyPI: a robot has it'
    )
    cloud, _ = made_shape()
    read = point_cloud2.read_points(cloud_message(cloud, Header(frame_id=FRAME), normals=True))
    assert read.shape == (len(cloud.points),)
    assert np.allclose(np.stack([read[n] for n in 'xyz'], -1), cloud.points, atol=1e-6)
    assert np.array_equal(read['synthetic'].astype(bool), cloud.synthetic)
    assert np.array_equal(read['confidence'], cloud.confidence)
    assert np.array_equal(read['view'], cloud.views)
    packed = np.ascontiguousarray(read['rgb']).view(np.uint32)
    colors = np.stack([packed >> shift & 255 for shift in (16, 8, 0)], -1)
    assert np.array_equal(colors, cloud.colors)


def test_a_mesh_tells_what_was_measured_from_what_is_imagined():
    _, surface = made_shape()
    message = mesh_message(surface, Header(frame_id=FRAME), '7')
    assert message.header.frame_id == FRAME and message.ns == '7'
    assert message.type == Marker.TRIANGLE_LIST and message.action == Marker.ADD
    assert message.pose.orientation.w == 1.0 and message.scale.x == 1.0
    corners = surface.faces.ravel()
    assert len(message.points) == len(message.colors) == len(corners)
    for i in range(0, len(corners), 97):
        point, color = message.points[i], message.colors[i]
        assert np.allclose([point.x, point.y, point.z], surface.vertices[corners[i]])
        assert np.allclose([color.r, color.g, color.b], surface.colors[corners[i]] / 255)
        assert (color.a == 1) == surface.measured[corners[i]]
    assert len({color.a for color in message.colors}) == 2


def test_a_mesh_is_published_for_whoever_listens():
    with graph(VIEWS) as g:
        meshes = g.robot.subscribe(Marker, '/nvs/completed_mesh')
        message = g.robot.frames_until_message(meshes)
        assert message.header.frame_id == FRAME and len(message.points) > 1000
        assert all(0 < color.a < 1 for color in message.colors), 'without depth all is imagined'


def test_nothing_is_completed_that_nobody_listens_to():
    with graph(VIEWS) as g:
        views = g.robot.subscribe(NovelViewArray, '/nvs/views')
        message = g.robot.frames_until_message(views)
        assert g.synthesizer.batches == [2] * len(g.synthesizer.batches)
    assert np.isnan([view.confidence for view in message.views]).all()


def calibrated(bias, **weights):
    """Profile of a model whose confidence follows from these weights."""
    confidence = {'bias': bias, **dict.fromkeys(Evidence._fields, 0.0), **weights}
    return ModelProfile(confidence=confidence)


def test_views_under_the_least_confidence_are_refused():
    with graph({**VIEWS, 'completion.min_confidence': 0.5}) as g:
        # Trust in what is behind the object, none in what is beside it.
        g.synthesizer.components.profile = calibrated(-3.0, back=6.0, side=-3.0)
        received = g.robot.subscribe(NovelViewArray, '/nvs/views')
        message = g.robot.frames_until_message(received)
        (view,) = message.views
        assert abs(view.azimuth_rad) == pytest.approx(np.pi, abs=1e-3)
        assert view.confidence == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-3)
        assert view.synthetic
        refused = g.robot.synthesize(viewpoint=Viewpoint(azimuth_rad=np.pi / 2))
        assert not refused.success and 'min_confidence' in refused.message
        assert g.robot.synthesize(viewpoint=Viewpoint(azimuth_rad=np.pi)).success


def test_no_shape_is_made_of_views_that_nobody_trusts():
    with graph({**VIEWS, 'completion.min_confidence': 0.5}) as g:
        g.synthesizer.components.profile = calibrated(-3.0)
        clouds = g.robot.subscribe(PointCloud2, '/nvs/completed_cloud')
        received = g.robot.subscribe(NovelViewArray, '/nvs/views')
        assert not g.robot.frames_until_message(received).views
        synchronizer = g.node._session.synchronizer
        g.robot.frames_until(lambda: synchronizer.statistics.used > 2)
        assert clouds.empty()
