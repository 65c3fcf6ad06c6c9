"""The bundled bag, its truth, and the demo from end to end."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture
from rosbags.highlevel import AnyReader

pytest.importorskip('rclpy')
sys.path.insert(0, str(Path(__file__).parents[1] / 'demo'))

import make_bag
import scene
import truth
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Image

from nvs_ros.bag.messages import message_from_bag
from nvs_ros.bag.reader import Bag
from nvs_ros.evaluation.metrics import mask_iou, psnr
from nvs_ros.geometry import canonical_view, inverse
from nvs_ros.messages.cameras import camera_from_message, rigid_from_pose
from nvs_ros.messages.images import array_from_image, depth_from_image
from nvs_ros.settings import ViewSettings

DEMO = Path(__file__).parents[1] / 'demo'
BAG = DEMO / 'mug.mcap'
CENTRED = np.array([[0, 0, 450], [0, 0, 450], [0, 0, 0]])
"""Added to a matrix: its optical axis in the middle of 901 pixels."""
DEMO_S = 120
"""The demo ends by itself within this time."""


@pytest.fixture(scope='module')
def frames():
    """Messages by topic for each stamp, in order."""
    found = {}
    with Bag(BAG) as bag:
        for topic, _, message in bag.messages():
            stamp = message.header.stamp
            found.setdefault((stamp.sec, stamp.nanosec), {})[topic] = message
    return list(found.values())


def object_from_camera(frame):
    return inverse(rigid_from_pose(frame['/object_pose'].pose, 'object_pose'))


def test_the_bag_is_small_and_every_frame_complete(frames):
    assert BAG.stat().st_size < 3e6
    assert len(frames) == make_bag.FRAMES
    for frame in frames:
        assert sorted(frame) == ['/camera_info', '/depth', '/image', '/mask', '/object_pose']
        assert len({message.header.frame_id for message in frame.values()}) == 1
        encodings = [frame[topic].encoding for topic in ('/image', '/depth', '/mask')]
        assert encodings == ['rgb8', '16UC1', 'mono8']
        assert any(frame['/camera_info'].d)


@pytest.mark.parametrize('index', [0, 7])
def test_making_the_bag_again_gives_the_same_messages(frames, index):
    again = make_bag.frame(index)
    assert again.keys() == frames[index].keys()
    for topic, kept in frames[index].items():
        made = message_from_bag(type(kept), again[topic])
        if isinstance(kept, Image):
            # Other processors may round the last bit of a pixel otherwise.
            a, b = (array_from_image(m).astype(int) for m in (kept, made))
            assert np.mean(a != b) < 1e-3
            made.data = kept.data
        if isinstance(kept, PoseStamped):
            # As may products of matrices, even where arrays merely lie elsewhere in memory.
            a, b = (rigid_from_pose(m.pose, topic) for m in (kept, made))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
            made.pose = kept.pose
        assert made == kept


def test_the_camera_moves_but_rests_at_both_ends(frames):
    poses = [object_from_camera(frame) for frame in frames]
    for pose in (*poses[:5], *poses[-4:]):
        np.testing.assert_allclose(pose, scene.object_from_camera(0), atol=1e-9)
    directions = np.array([pose[:3, 3] / np.linalg.norm(pose[:3, 3]) for pose in poses])
    assert 3 < np.degrees(np.arccos((directions @ directions.T).min())) < 10


@pytest.mark.parametrize('index', [0, 7])
def test_mask_and_pose_agree_through_the_distorted_lens(frames, index):
    frame = frames[index]
    info, mask = frame['/camera_info'], array_from_image(frame['/mask'])
    camera_from_object = rigid_from_pose(frame['/object_pose'].pose, 'object_pose')
    points = scene.mug().vertices @ camera_from_object[:3, :3].T + camera_from_object[:3, 3]
    k, d = np.array(info.k).reshape(3, 3), np.array(info.d)
    pixels = cv2.projectPoints(points, np.zeros(3), np.zeros(3), k, d)[0][:, 0]
    rows, columns = np.nonzero(mask)
    low, high = pixels.min(0), pixels.max(0)
    np.testing.assert_allclose([columns.min(), rows.min()], low, atol=1)
    np.testing.assert_allclose([columns.max(), rows.max()], high, atol=1)
    straight = cv2.projectPoints(points, np.zeros(3), np.zeros(3), k, None)[0][:, 0]
    assert np.abs(straight - pixels).max() > 0.3  # the lens matters, and it was not left out


@pytest.mark.parametrize('index', [0, 7])
def test_depth_is_that_of_the_mug_as_a_sensor_measures_it(frames, index):
    frame = frames[index]
    pose, camera = object_from_camera(frame), camera_from_message(frame['/camera_info'])
    depth, mask = depth_from_image(frame['/depth']), array_from_image(frame['/mask']) > 0
    assert 0.005 < np.isnan(depth[mask]).mean() < 0.05  # holes, and what one eye alone sees
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
    rows, columns = np.nonzero(inside & np.isfinite(depth))
    rays = camera.unproject(np.column_stack([columns, rows]))
    points = depth[rows, columns, None] * rays / rays[:, 2:]
    sharp = scene.render(scene.mug(), pose, np.diag([900, 900, 1.0]) + CENTRED, 901, 901)
    at = np.rint(900 * points[:, :2] / points[:, 2:] + 450).astype(int)
    error = depth[rows, columns] - sharp.depth_m[at[:, 1], at[:, 0]]
    assert abs(np.nanmedian(error)) < 2e-4
    assert 2e-4 < np.nanmedian(np.abs(error)) < 1e-3


def test_depth_noise_grows_with_the_square_of_the_distance(frames):
    depth = np.stack([depth_from_image(frame['/depth']) for frame in frames[:5]])
    mean, variance = depth.mean(0), depth.var(0, ddof=1) - 1e-3**2 / 12  # that of whole millimetres
    near, far = (variance[np.abs(mean - where) < 0.02].mean() for where in (0.28, 0.56))
    assert 3 < math.sqrt(far / near) < 5


def test_the_handle_is_to_the_right_and_light_is_inside(frames):
    """The picture is not mirrored."""
    mask = array_from_image(frames[0]['/mask']) > 0
    heights = mask.sum(0)
    columns = np.flatnonzero(heights)
    assert heights[columns[-12:]].mean() < 0.6 * heights[columns[:12]].mean()


def test_the_noise_is_that_of_a_sensor(frames):
    wall = np.stack([array_from_image(frame['/image'])[5:25, 100:220] for frame in frames[:5]])
    assert 1.2 < wall.astype(float).std(0).mean() < 4


def test_the_canonical_view_of_the_bag_is_the_true_picture(frames):
    frame = frames[0]
    source = canonical_view(
        array_from_image(frame['/image']),
        array_from_image(frame['/mask']),
        camera_from_message(frame['/camera_info']),
        object_from_camera(frame),
        object_size_m=scene.OBJECT_SIZE_M,
        image_size=64,
    )
    true = scene.truth(source.object_from_camera, source.camera.matrix, 64)
    assert mask_iou(source.mask, true.mask) > 0.95
    assert psnr(source.image, true.image, (true.mask > 250).astype(float)) > 25
    assert psnr(source.image, true.image[:, ::-1], (true.mask > 250).astype(float)) < 15


def test_truth_is_of_the_views_that_are_asked_for():
    assert make_bag.viewpoints_deg() == [
        *((a, e) for a, e, _ in ViewSettings().viewpoints),
        truth.OWN_VIEWPOINT_DEG,
    ]
    text = json.loads((DEMO / 'truth' / 'truth.json').read_text())
    kept = {view['file']: view for view in text['views']}
    made = dict((description['file'], picture) for description, picture in make_bag.truths())
    assert kept.keys() == made.keys()
    for name, picture in made.items():
        stored = np.asarray(Picture.open(DEMO / 'truth' / name)).astype(int)
        assert np.mean(np.abs(stored - picture) > 1) < 1e-3


def test_truth_is_found_by_place_and_redrawn_for_the_asking_camera():
    truths = truth.read_truths()
    chosen = truths[2]
    assert truth.truth_at(chosen.object_from_camera, truths) is chosen
    moved = chosen.object_from_camera.copy()
    moved[0, 3] += 1e-3
    assert truth.truth_at(moved, truths) is None
    camera = make_bag.Camera.canonical(64, zoom=1.5)
    image, mask = chosen.seen_by(camera, chosen.object_from_camera)
    true = scene.truth(chosen.object_from_camera, camera.matrix, 64)
    assert psnr(image, true.image) > 32
    assert mask_iou(mask, true.mask) > 0.98


def test_scores_are_means_of_what_they_name():
    true = np.full((8, 8, 3), 255, np.uint8)
    true_mask = np.zeros((8, 8), np.uint8)
    true[2:6, 2:6], true_mask[2:6, 2:6] = 100, 255
    same = truth.score(true + np.uint8(0), true_mask, true, true_mask)
    assert (same.iou, same.psnr_db) == (1, np.inf)
    shifted = truth.score(np.roll(true, 2, 1), np.roll(true_mask, 2, 1), true, true_mask)
    assert shifted.iou == pytest.approx(1 / 3)
    assert shifted.psnr_db == pytest.approx(10 * np.log10(255**2 / (155**2 / 2)))
    halves = truth.mean([truth.Score(0.5, 10.0), truth.Score(1.0, 20.0)])
    assert (halves.iou, halves.psnr_db) == (0.75, 15)


def run_demo(output, *arguments):
    environment = {**os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}
    command = [sys.executable, DEMO / 'run.py', '--output', output, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEMO_S, check=False
    )


def processes_with(word):
    found = []
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            command = file.read_text()
        except OSError:
            continue
        if word in command and file.parent.name != str(os.getpid()):
            found.append(command)
    return found


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--time-limit', '1'], 'not in time'),
        (['--model', '/nowhere/at_all'], 'demo: the node cannot be configured'),
    ],
)
def test_a_demo_that_fails_says_why_and_leaves_no_process(arguments, complaint, tmp_path):
    (tmp_path / 'contact_sheet.png').write_text('of an earlier run')
    result = run_demo(tmp_path, *arguments)
    assert result.returncode == 1
    assert complaint in result.stderr
    assert 'Traceback' not in result.stderr
    assert not (tmp_path / 'contact_sheet.png').exists()
    assert not processes_with('/nowhere/at_all')


def test_the_demo_from_end_to_end(tmp_path):
    result = run_demo(tmp_path)
    assert result.returncode == 0, result.stderr
    mean = re.search(r'^ +mean +(\S+) +(\S+) +(\S+) +(\S+) +(\d+)%$', result.stdout, re.MULTILINE)
    iou, psnr_db, copied_iou, copied_psnr_db, measured = map(float, mean.groups())
    assert 0.5 < copied_iou < 0.75
    assert iou > copied_iou
    assert psnr_db > copied_psnr_db
    assert 10 < measured < 60
    for name in ('contact_sheet.png', 'views', 'views.mcap'):
        assert str(tmp_path / name) in result.stdout
    with Picture.open(tmp_path / 'contact_sheet.png') as sheet:
        assert sheet.width > 10 * 100
    check_pictures(tmp_path / 'views')
    check_bag(tmp_path / 'views.mcap')
    assert not processes_with(str(tmp_path))


def check_pictures(folder):
    pictures = sorted(folder.glob('*.png'))
    assert [file.name for file in pictures] == [
        'azimuth_030_elevation_+15.png',
        *(f'azimuth_{a:03}_elevation_+00.png' for a in range(40, 360, 40)),
    ]
    measured = {}
    for file in pictures:
        with Picture.open(file) as picture:
            assert picture.text['nvs_ros:synthetic'] == 'true'
            assert picture.text['nvs_ros:preset'] == 'zero-to-hero'
            assert picture.text['nvs_ros:source_stamp'].startswith('17600000')
            assert {'nvs_ros:model', 'nvs_ros:seed'} <= picture.text.keys()
            measured[file.name] = float(picture.text['nvs_ros:measured_share'])
    assert measured['azimuth_040_elevation_+00.png'] > 0.4
    assert measured['azimuth_160_elevation_+00.png'] < measured['azimuth_080_elevation_+00.png']


def check_bag(file):
    with AnyReader([file]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    names = [*(f'view_{i}' for i in range(8)), 'requested']
    parts = ('image', 'camera_info', 'mask', 'measured')
    topics = ['/nvs/views', *(f'/nvs/{name}/{part}' for name in names for part in parts)]
    assert counts == dict.fromkeys(topics, 1)
    with Bag(file) as bag:
        messages = {topic: message for topic, _, message in bag.messages()}
    for view in messages['/nvs/views'].views:
        assert view.synthetic
        assert view.header.stamp == view.camera_info.header.stamp == view.source_header.stamp
        assert (view.image.width, view.image.height) == (view.mask.width, view.mask.height)
        assert view.camera_info.k[0] > 0
    asked = messages['/nvs/requested/camera_info']
    assert asked.header.frame_id == 'nvs_requested_optical_frame'
