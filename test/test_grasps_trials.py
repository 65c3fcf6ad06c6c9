"""The clouds that are compared, real sizes, trials and what they say."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from nvs_ros.cli import main
from nvs_ros.completion.hull import measured_occupancy
from nvs_ros.errors import UserError
from nvs_ros.evaluation.grasps import convex
from nvs_ros.evaluation.grasps.clouds import (
    Sight,
    extruded,
    mirrored,
    surface_points,
    true_points,
)
from nvs_ros.evaluation.grasps.conditions import Conditions
from nvs_ros.evaluation.grasps.gripper import Grasp
from nvs_ros.evaluation.grasps.sizes import LONGEST_M, SHORTEST_M, real_size
from nvs_ros.evaluation.grasps.summary import summarise, table
from nvs_ros.evaluation.grasps.trials import JITTER_M, jittered
from nvs_ros.evaluation.sets import open_set
from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.geometry import Spherical
from nvs_ros.scenes.categories import HOUSEHOLD
from nvs_ros.scenes.mesh import block
from nvs_ros.settings import CompletionSettings

SIZE_M = 0.1
HALVES = np.array([0.05, 0.03, 0.04])


@pytest.fixture(scope='module')
def box():
    """Longest side 1."""
    return block((1.0, 0.6, 0.8), np.array([0.8, 0.2, 0.2])).normalised()


@pytest.fixture(scope='module')
def frame(box):
    """The box, 10 x 6 x 8 cm, from ahead, half left and above."""
    camera = Spherical(0.6, 0.6, 1.8)
    return table_scene(box, camera, np.random.default_rng(0), size_m=SIZE_M).frame


def faces(points):
    """Points of each face of the box, +x -x +y -y +z -z, and how far the worst is from any."""
    gap = np.abs(points.places) - HALVES
    axis = gap.argmax(1)
    plus = np.take_along_axis(points.places, axis[:, None], 1)[:, 0] > 0
    count = np.bincount(2 * axis + ~plus, minlength=6)
    return count, np.abs(gap.max(1)).max()


def test_one_view_measures_the_sides_that_it_sees(frame):
    points = surface_points(frame)
    count, off = faces(points)
    assert off < 0.001 and (count[[0, 2, 4]] > 300).all() and not count[[1, 3, 5]].any()
    assert points.normals.max(1).min() > 0.55 and not points.synthetic.any()


def test_mirrored_points_are_the_other_sides_of_a_box(frame):
    points = mirrored(frame)
    count, off = faces(points)
    assert off < 0.001 and (count[[1, 3]] > 300).all() and not count[5]
    assert (points.synthetic[points.places[:, 0] < -0.045] == 1).mean() > 0.8
    behind = points[(points.places[:, 0] < -0.0499) & (np.abs(points.places[:, 2]) < 0.03)]
    assert np.median(behind.normals[:, 0]) < -0.95 and behind.normals[:, 0].max() < -0.5


def test_the_extruded_silhouette_goes_on_to_the_far_side_of_the_ball(frame):
    points = extruded(frame, -0.04)
    imagined = points[points.synthetic > 0]
    assert imagined.places[:, 2].min() > -0.041 and len(imagined) > 500
    # 5 cm, the half of the longest side; the camera sees nothing of what is farther than 2.
    away = frame.object_from_camera[:3, 2]
    reached = imagined.places @ away
    assert np.linalg.norm(imagined.places, axis=1).max() < 0.051 and reached.max() > 0.045
    assert np.median(imagined.normals[reached > 0.045] @ away) > 0.9
    # None of the guess is before what was measured.
    occupied = measured_occupancy(imagined.places, 0.002, frame)
    assert (occupied > 0).mean() > 0.95


def test_a_place_that_is_found_leaves_the_measured_points_where_they_are(box):
    """They do not depend on the object's frame; the mirrored ones are turned about another axis."""
    camera = Spherical(0.6, 0.6, 1.8)
    told = [Sight(None, box, SIZE_M, camera, CompletionSettings(), found=f) for f in (False, True)]
    known, found = (sight.cloud('single') for sight in told)
    apart, _ = cKDTree(known.places).query(found.places)
    assert np.percentile(apart, 99) < 0.003 and abs(len(found) / len(known) - 1) < 0.1
    assert 1e-4 < np.linalg.norm(told[1].true_from_told[:3, 3]) < 0.02
    _, off = faces(told[0].cloud('mirrored'))
    _, off_found = faces(told[1].cloud('mirrored'))
    assert off < 0.001 < off_found < 0.03


def test_the_true_surface_has_all_sides(box):
    count, off = faces(true_points(box, SIZE_M))
    assert off < 0.002 and (count > 300).all()


def test_objects_are_as_large_as_such_things_are():
    objects = open_set('household', split='test', views=2, size=64)
    for index, name in enumerate(HOUSEHOLD):
        _, mesh, _ = objects.draw(index)
        size = real_size(objects, index, name, mesh)
        shortest = size * np.ptp(mesh.vertices, axis=0).min()
        assert shortest < SHORTEST_M + 1e-9 and size <= LONGEST_M[name][1]
        assert size >= LONGEST_M[name][0] or shortest == pytest.approx(SHORTEST_M)


def test_true_sizes_are_not_made_smaller():
    objects, true = open_set('household', split='test', views=2, size=64), Conditions(sizes='true')
    larger = []
    for index, name in enumerate(HOUSEHOLD):
        _, mesh, _ = objects.draw(index)
        size = real_size(objects, index, name, mesh, true)
        assert LONGEST_M[name][0] <= size <= LONGEST_M[name][1]
        larger.append(size / real_size(objects, index, name, mesh))
    assert min(larger) == pytest.approx(1) and max(larger) > 1.2


@pytest.mark.parametrize('name', ['approach', 'sizes'])
def test_conditions_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected one of .*, got 'half'"):
        Conditions(**{name: 'half'})


@pytest.mark.parametrize(('scale', 'known'), [(0.17, True), (17.0, False)])
def test_a_mesh_in_metres_keeps_its_size(tmp_path, scale, known):
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing='ij'), -1).reshape(-1, 3)
    corners = corners * [scale, scale / 2, scale / 3]
    sides = ((1, 3, 4, 2), (5, 6, 8, 7), (1, 2, 6, 5), (3, 7, 8, 4), (1, 5, 7, 3), (2, 4, 8, 6))
    lines = ['v {} {} {}'.format(*c) for c in corners] + ['f {} {} {} {}'.format(*s) for s in sides]
    (tmp_path / 'thing.obj').write_text('\n'.join(lines) + '\n')
    objects = open_set(f'meshes:{tmp_path}', split='test', views=2, size=32)
    name, mesh, _ = objects.draw(0)
    size = real_size(objects, 0, name, mesh)
    assert (size == pytest.approx(scale)) == known and size < 0.6


def test_a_hand_goes_a_little_beside_where_it_was_sent():
    rng = np.random.default_rng(0)
    grasp = Grasp(np.eye(4), 0.05, 0.03)
    poses = np.stack([jittered(grasp, rng).object_from_grasp for _ in range(500)])
    assert poses[:, :3, 3].std(0) == pytest.approx([JITTER_M] * 3, rel=0.15)
    assert np.allclose(np.linalg.det(poses[:, :3, :3]), 1)
    tilt = np.degrees(np.arccos(poses[:, 2, 2]))
    assert 2 < tilt.mean() < 3.5


def record(method, *what, collided=False, confidence=1.0):
    grasps = [
        {'what': w, 'collided': collided, 'confidence': confidence, 'synthetic': 0.5} for w in what
    ]
    return {'method': method, 'view': 0, 'seed': 0, 'grasps': grasps}


def test_a_summary_counts_what_was_not_found_as_lost():
    results = [
        {'records': [record('mirrored', 'held'), record('ours', *['held'] * 5)]},
        {'records': [record('mirrored'), record('ours', 'dropped', 'held')]},
        {'records': [record('mirrored', 'blocked', collided=True), record('ours', 'held')]},
    ]
    summary = summarise(results)
    ours, other = summary['methods']['ours'], summary['methods']['mirrored']
    assert summary['baseline'] == 'mirrored' and summary['objects'] == 3
    assert ours['first'][0] == pytest.approx(2 / 3) and other['first'][0] == pytest.approx(1 / 3)
    assert ours['five'][0] == pytest.approx((1 + 0.2 + 0.2) / 3)
    assert (other['found'][0], other['collided'][0]) == (pytest.approx(2 / 3), 0.5)
    assert other['outcomes'] == {'held': 1, 'blocked': 1, 'missed': 0, 'dropped': 0, 'none': 1}
    assert summary['paired']['ours-mirrored']['first'][0] == pytest.approx(1 / 3)
    assert '`ours` - `mirrored` | +33' in table(summary)


def test_success_goes_with_confidence():
    results = [
        {'records': [record('ours_no_trust', 'held' if c > 0.5 else 'dropped', confidence=c)]}
        for c in np.linspace(0, 1, 20)
    ]
    by_confidence = summarise(results)['confidence']
    assert (
        by_confidence['spearman'] > 0.8
        and sum(row['grasps'] for row in by_confidence['bins']) == 20
    )
    assert [row['success'] for row in by_confidence['bins']] == [0, 0, 0.5, 1, 1]


def test_the_example_ranks_grasps(capsys, monkeypatch):
    example = Path(__file__).parents[1] / 'examples' / 'rank_grasps.py'
    monkeypatch.setattr('sys.argv', ['rank_grasps'])
    runpy.run_path(example, run_name='__main__')
    printed = capsys.readouterr().out
    assert printed.count('tips at') == 5 and 'confidence 1.00' in printed


def test_parts_are_made_once_and_in_any_size(box, tmp_path, monkeypatch):
    pytest.importorskip('coacd', reason="coacd makes the parts: pip install 'nvs_ros[grasp]'")
    (part,) = convex.convex_parts(box, tmp_path)
    assert np.abs(np.abs(part) - HALVES * 10).max() < 0.02
    monkeypatch.setattr(convex, '_decomposed', lambda *_: pytest.fail('made again'))
    (large,) = convex.convex_parts(box.transformed(3 * np.eye(3), (1, 2, 3)), tmp_path)
    assert np.allclose(large, 3 * part + (1, 2, 3), atol=1e-5)


def test_what_is_missing_is_named(box, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'coacd', None)
    with pytest.raises(UserError, match=r'coacd, which is not installed.*\[grasp\]'):
        convex.convex_parts(box, tmp_path)
    monkeypatch.setitem(sys.modules, 'mujoco', None)
    assert main(['evaluate-grasps', '--objects', '1']) == 2
    assert "pip install 'nvs_ros[grasp]'" in capsys.readouterr().err


def test_the_command_tries_clouds_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """A folder of one box, on true and mirrored points and with the embedded model."""
    for name in ('mujoco', 'coacd'):
        pytest.importorskip(name, reason=f"{name} is missing: pip install 'nvs_ros[grasp]'")
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    two_views = ((120.0, 0.0, 0.0), (240.0, 0.0, 0.0))
    monkeypatch.setattr('nvs_ros.evaluation.shape_protocol.VIEWPOINTS', two_views)
    (tmp_path / 'set').mkdir()
    x, y, z = HALVES
    lines = [f'v {a} {b} {c}' for a in (-x, x) for b in (-y, y) for c in (-z, z)]
    sides = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))
    lines += ['f {} {} {} {}'.format(*side) for side in sides]
    (tmp_path / 'set' / 'box.obj').write_text('\n'.join(lines) + '\n')
    file, page = tmp_path / 'grasps.json', tmp_path / 'page.md'
    page.write_text('<!-- meshes: begin -->\n<!-- meshes: end -->\n')
    options = ['evaluate-grasps', '--set', f'meshes:{tmp_path / "set"}', '--device', 'cpu']
    options += ['--views', '1', '--seeds', '1', '--json', str(file), '--document', str(page)]
    options += ['--plots', str(tmp_path), '--share', str(tmp_path / 'clouds')]
    assert main([*options, '--clouds', 'single,mirrored,true,ours']) == 0
    summary = json.loads(file.read_text())
    assert (
        summary['methods']['true']['first'][0] == 1 and summary['methods']['true']['five'][0] == 1
    )
    assert summary['methods']['single']['found'][0] == 0
    assert summary['results'][0]['size_m'] == pytest.approx(0.1)
    assert {'ours', 'ours_no_trust', 'ours_more_trust'} <= set(summary['methods'])
    assert '| `true`: the true surface | 100 | 100 | 100 | 0 |' in page.read_text()
    assert (tmp_path / 'grasps.png').stat().st_size > 5000

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')}
    done = tmp_path / 'grasps.json.objects' / 'object_00000.json'
    written = done.stat().st_mtime_ns
    assert main([*options, '--clouds', 'single,mirrored,true,ours']) == 0
    assert done.stat().st_mtime_ns == written
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert main([*options, '--clouds', 'true']) == 2
    assert 'another configuration (clouds)' in capsys.readouterr().err
    # A hand of less reach takes over the clouds, a camera with faults does not.
    other = ['--json', str(tmp_path / 'above.json'), '--approach', 'above', '--clouds', 'true,ours']
    assert main([*options, *other]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.npz')} == before
    other = ['--json', str(tmp_path / 'faults.json'), '--faults', '--clouds', 'true']
    assert main([*options, *other]) == 0
    assert len(set(tmp_path.rglob('*true.npz'))) == 2
    assert main([*options, '--clouds', 'half']) == 2
    assert "got 'half'" in capsys.readouterr().err
