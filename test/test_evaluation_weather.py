"""Disturbed frames: what each kind does, and that a run of them goes on where it was."""

import dataclasses
import json

import numpy as np
import pytest
from short_model import make_short_model

from nvs_ros.cli import main
from nvs_ros.evaluation.sets import open_set
from nvs_ros.evaluation.statistics import bootstrap_interval
from nvs_ros.evaluation.weather.condition import condition_of
from nvs_ros.evaluation.weather.kinds import KINDS, Case, disturb, parse_cases, parse_levels
from nvs_ros.evaluation.weather.protocol import Weather, ask, chosen_objects, measure_case
from nvs_ros.evaluation.weather.report import scores_of, summarise
from nvs_ros.evaluation.weather.sight import take_sight
from nvs_ros.geometry import Spherical, canonical_view
from nvs_ros.scenes.categories import HOUSEHOLD, make_object
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Synthesizer

SEED = (7, 3)
LEVELS = range(1, 6)
OF_IMAGE = ('noise', 'blur', 'defocus', 'exposure', 'white_balance', 'jpeg')
OF_MASK = ('mask_eroded', 'mask_dilated', 'mask_shifted', 'mask_holed')
OF_POSE = ('pose_centre', 'pose_size', 'pose_up')
OF_DEPTH = ('depth_noise', 'depth_holes', 'depth_bias', 'depth_stamp')


@pytest.fixture(scope='module')
def sight():
    mesh = make_object('teapot', np.random.default_rng(3))
    return take_sight(mesh, Spherical(0.4, 0.4, 1.8), np.random.default_rng(1))


@pytest.fixture(scope='module')
def disturbed(sight):
    """Kind and level -> the disturbed sight."""
    cases = [Case(kind, level) for kind in KINDS for level in LEVELS]
    return {case: disturb(sight, case, SEED) for case in cases}


def arrays(frame):
    return {
        'image': frame.image,
        'mask': frame.mask,
        'pose': frame.object_from_camera,
        'size': np.array(frame.object_size_m),
        'depth': frame.depth_m,
    }


def differences(frame, other):
    """How far each part of two frames differs; missing depth counts as 0 m."""
    pairs = zip(arrays(frame).items(), arrays(other).values(), strict=True)
    return {
        name: float(np.abs(np.nan_to_num(a.astype(float)) - np.nan_to_num(b.astype(float))).mean())
        for (name, a), b in pairs
    }


@pytest.mark.parametrize('kind', KINDS)
def test_level_0_is_the_frame_bit_for_bit(sight, kind):
    frame = disturb(sight, Case(kind, 0), SEED).frame
    for name, array in arrays(frame).items():
        np.testing.assert_array_equal(array, arrays(sight.frame)[name], name)


@pytest.mark.parametrize('kind', KINDS)
def test_a_higher_level_disturbs_more(sight, disturbed, kind):
    found = [differences(disturbed[kind, level].frame, sight.frame) for level in LEVELS]
    parts = {part for part in found[0] if any(one[part] > 0 for one in found)}
    if kind == 'mask_second':
        assert parts == {'image', 'mask', 'depth'}
        parts = {'mask'}  # the neighbour itself is the same at every level
    for part in parts:
        values = [one[part] for one in found]
        assert values[0] > 0 and (np.diff(values) >= 0).all() and values[-1] > values[0], part
    assert disturbed[kind, 2].frame.image.dtype == np.uint8
    assert disturbed[kind, 2].frame.depth_m.dtype == np.float32


@pytest.mark.parametrize(
    ('kinds', 'part'),
    [
        (OF_IMAGE, ['image']),
        (OF_MASK, ['mask']),
        (('pose_centre', 'pose_up'), ['pose']),
        (('pose_size',), ['size']),
        (OF_DEPTH, ['depth']),
        (('light',), ['image']),
        (('occlusion', 'mask_second', 'clutter'), ['image', 'mask', 'depth']),
    ],
)
def test_nothing_else_changes(sight, disturbed, kinds, part):
    for kind in kinds:
        found = differences(disturbed[kind, 5].frame, sight.frame)
        assert [name for name, value in found.items() if value] == part, kind


def test_amounts_are_in_the_units_that_are_written(sight, disturbed):
    def shot(kind, level=3):
        return disturbed[kind, level].frame, KINDS[kind].amounts[level - 1]

    solid = sight.solid
    frame, mm = shot('pose_centre')
    moved = frame.object_from_camera[:3, 3] - sight.object_from_camera[:3, 3]
    assert np.linalg.norm(moved) * 1000 == pytest.approx(mm)
    frame, degrees = shot('pose_up')
    up = (frame.object_from_camera @ np.linalg.inv(sight.object_from_camera))[2, 2]
    assert np.degrees(np.arccos(up)) == pytest.approx(degrees)
    frame, per_cent = shot('pose_size')
    factor = max(frame.object_size_m / sight.size_m, sight.size_m / frame.object_size_m)
    assert factor == pytest.approx(1 + per_cent / 100)
    frame, mm = shot('depth_bias')
    assert np.nanmax(np.abs(frame.depth_m - sight.frame.depth_m)) * 1000 == pytest.approx(mm, 1e-3)
    frame, mm = shot('depth_noise')
    spread = (frame.depth_m - sight.frame.depth_m)[solid].std() * 1000
    assert spread == pytest.approx(mm, rel=0.25)
    frame, per_cent = shot('depth_holes')
    assert 100 * np.isnan(frame.depth_m[solid]).mean() == pytest.approx(per_cent, abs=0.1)
    for kind in ('occlusion', 'mask_holed'):
        frame, per_cent = shot(kind)
        left = (frame.mask[solid] > 0).mean()
        assert 100 * (1 - left) == pytest.approx(per_cent, abs=1.5), kind
    frame, levels = shot('noise')
    assert (frame.image.astype(float) - sight.frame.image).std() == pytest.approx(levels, rel=0.2)
    frame, stops = shot('exposure', 2)
    grey = (sight.frame.image > 60) & (sight.frame.image < 120)
    light = (frame.image[grey] / sight.frame.image[grey]) ** 2.2
    assert abs(np.log2(np.median(light))) == pytest.approx(stops, abs=0.05)


def test_directions_follow_from_the_seed(sight):
    case = Case('pose_centre', 2)
    poses = [disturb(sight, case, seed).frame.object_from_camera for seed in (SEED, SEED, (7, 4))]
    np.testing.assert_array_equal(poses[0], poses[1])
    assert np.abs(poses[0] - poses[2]).max() > 1e-4


def test_kinds_and_levels_are_named():
    assert parse_cases(['noise', 'blur:2', 'noise:1'], [1, 3]) == [
        Case('noise', 1),
        Case('noise', 3),
        Case('blur', 2),
    ]
    with pytest.raises(ValueError, match="among noise, blur,.* light, got 'rain'"):
        parse_cases(['rain'], [1])
    for text in ('6', '-1', 'high', '', '1,,2'):
        with pytest.raises(ValueError, match='from 0 to 5'):
            parse_levels(text)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--disturb', 'rain'], "light, got 'rain'"),
        (['--disturb', 'noise:9'], "0 to 5, got '9'"),
        (['--weather', '--levels', '0,7'], '--levels'),
        (['--weather', '--objects', '0'], '--objects'),
    ],
)
def test_refuses_in_one_line(options, words, capsys):
    assert main(['evaluate', *options]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and '\n' not in error


@pytest.mark.parametrize(
    ('kind', 'fields'),
    [
        ('noise', ['grain']),
        ('blur', ['soft']),
        ('defocus', ['soft']),
        ('mask_shifted', ['color_misfit', 'depth_misfit']),
        ('mask_dilated', ['color_misfit', 'depth_misfit']),
        ('pose_centre', ['strays', 'off_centre']),
        ('depth_noise', ['rough']),
        ('depth_holes', ['missing']),
        ('depth_bias', ['displaced']),
        ('depth_stamp', ['depth_misfit']),
        ('occlusion', ['hidden']),
    ],
)
def test_the_condition_of_a_frame_shows_its_faults(sight, disturbed, kind, fields):
    plain, bad = (_condition(one.frame) for one in (sight, disturbed[kind, 5]))
    for field in fields:
        assert getattr(bad, field) > getattr(plain, field) + 0.01, field


def _condition(frame):
    view = canonical_view(
        frame.image,
        frame.mask,
        frame.camera,
        frame.object_from_camera,
        object_size_m=frame.object_size_m,
        image_size=64,
    )
    return condition_of(frame, view)


def test_the_condition_of_a_frame_without_depth(sight):
    condition = _condition(dataclasses.replace(sight.frame, depth_m=None))
    assert condition.missing == condition.depth_misfit == 1 and condition.hidden == 0


def test_objects_of_a_set_of_files_are_spread_and_only_added():
    assert chosen_objects(None, 3) == [0, 1, 2]
    assert sorted(chosen_objects(40, 40)) == list(range(40))
    assert chosen_objects(40, 12)[:5] == chosen_objects(40, 5)
    assert chosen_objects(2, 12) == [0, 1]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('weather')
    model = make_short_model(folder / 'short')
    document = folder / 'page.md'
    document.write_text('<!-- household: begin -->\n<!-- household: end -->\n')
    options = ['--model', str(model), '--device', 'cpu', '--objects', '1', '--levels', '2']
    outputs = ['--json', str(folder / 'weather.json'), '--document', str(document)]
    kinds = ['--disturb', 'pose_centre']
    assert main(['evaluate', *options, *outputs, *kinds]) == 0
    return folder, [*options, *outputs, *kinds]


def test_a_run_is_added_to(run):
    folder, arguments = run
    (file,) = (folder / 'weather.json.objects').glob('object_*.json')
    before = json.loads(file.read_text())['records']
    assert main(['evaluate', *arguments, '--disturb', 'light:1']) == 0
    records = json.loads(file.read_text())['records']
    assert records[: len(before)] == before
    cases = [(record['kind'], record['level']) for record in records]
    assert cases == [('', 0), ('pose_centre', 2), ('light', 1)]
    assert main(['evaluate', *arguments, '--shapes']) == 2  # other settings do not mix
    summary = json.loads((folder / 'weather.json').read_text())
    assert set(summary['kinds']) == {'pose_centre', 'light'}
    change = summary['kinds']['pose_centre']['2']['change']['iou'][0]
    first, second = (record['views'][0]['iou'] for record in records[:2])
    assert change == pytest.approx(second - first)
    page = (folder / 'page.md').read_text()
    assert 'pose off in centre | 2 | 8 mm' in page and 'light from one side' in page


def test_what_agreement_gains_is_paired_with_a_run_as_given(run):
    folder, arguments = run
    kind = ['--disturb', 'mask_shifted:4']
    file = folder / 'as_given.json'
    assert main(['evaluate', *arguments, *kind, '--as-given', '--json', str(file)]) == 0
    assert main(['evaluate', *arguments, *kind, '--against', str(file)]) == 0
    summaries = [json.loads(one.read_text())['kinds'] for one in (file, folder / 'weather.json')]
    before, after = (one['mask_shifted']['4'] for one in summaries)
    gain = after['gain']['iou'][0]
    assert gain == pytest.approx(after['mean']['iou'][0] - before['mean']['iou'][0]) and gain != 0
    assert f'{gain:+.3f}' in (folder / 'page.md').read_text()


def test_runs_of_other_frames_are_no_measure_of_a_gain(run, capsys):
    folder, arguments = run
    file = folder / 'weather.json'
    others = ['--split', 'validation', '--json', str(folder / 'others.json')]
    assert main(['evaluate', *arguments, *others, '--against', str(file)]) == 2
    assert 'expected a run of the same split' in capsys.readouterr().err
    assert main(['evaluate', *arguments, '--against', str(folder / 'none.json')]) == 2
    assert 'none.json.objects cannot be read' in capsys.readouterr().err


@pytest.fixture(scope='module')
def weather(run):
    synthesizer = Synthesizer.from_pretrained(str(run[0] / 'short'), device='cpu')
    objects = open_set('household', split='test', views=2, size=64)
    return Weather(synthesizer, objects, CompletionSettings(seeds=2), 1, shapes=True)


def test_what_cannot_be_used_is_counted_as_refused(weather):
    _, asked = ask(weather, HOUSEHOLD.index('can'))
    empty = asked.sight.but(mask=np.zeros_like(asked.sight.frame.mask))
    record = measure_case(weather, asked, empty)
    assert list(record) == ['refused'] and 'mask' in record['refused']
    results = [
        {'records': [{'kind': '', 'level': 0, 'views': [_view(0.9)]}, _case(record)]},
        {
            'records': [
                {'kind': '', 'level': 0, 'views': [_view(0.8)]},
                _case({'views': [_view(0.7)]}),
            ]
        },
    ]
    figures = summarise(results, {})['kinds']['noise']['1']
    assert figures['refused'] == 1 and figures['objects'] == 2
    assert figures['change']['iou'][0] == pytest.approx(-0.1)
    np.testing.assert_allclose(scores_of(results)[Case('noise', 1)]['iou'], [np.nan, 0.7])


def _view(iou):
    return dict.fromkeys(('fg_psnr', 'copy_fg_psnr', 'confidence', 'copy_iou'), 0.5) | {'iou': iou}


def _case(record):
    return {'kind': 'noise', 'level': 1} | record


def test_views_and_shapes_stay_where_they_were_asked(weather):
    """A pose that is wrong by a turn about the vertical alone changes no picture: what is asked of
    the robot are cameras in the world."""
    _, asked = ask(weather, HOUSEHOLD.index('can'))
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    pose = turn @ asked.sight.frame.object_from_camera
    plain, turned = (
        measure_case(weather, asked, sight)
        for sight in (asked.sight, asked.sight.but(object_from_camera=pose))
    )
    for name in ('iou', 'fg_psnr', 'confidence'):
        assert turned['views'][0][name] == pytest.approx(plain['views'][0][name], rel=0.02), name
    assert turned['shape_iou'] == pytest.approx(plain['shape_iou'], abs=0.02)
    assert plain['shape_iou'] > 0.2


def test_the_bootstrap_has_the_mean_inside():
    values = np.array([0.1, 0.2, 0.4, np.nan, 0.3])
    mean, low, high = bootstrap_interval(values)
    assert mean == pytest.approx(0.25) and 0.1 <= low < mean < high <= 0.4
    assert bootstrap_interval(np.array([np.nan])) is None
    assert bootstrap_interval(np.array([0.5])) == [0.5, None, None]
