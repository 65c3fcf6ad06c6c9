"""The commands complete and assess."""

import json

import numpy as np
import pytest
from PIL import Image
from test_completion_export import read_ply

from nvs_ros.cli import main
from nvs_ros.evaluation.shape_protocol import METHODS
from nvs_ros.zero123.components import EMBEDDED

FAST = ('--views', '3', '--seeds', '2', '--cells', '32')


@pytest.fixture
def photograph(tmp_path):
    picture = np.zeros((150, 200, 4), np.uint8)
    picture[20:130, 60:140] = (60, 120, 200, 255)
    Image.fromarray(picture).save(tmp_path / 'photo.png')
    return tmp_path


def run(*arguments):
    return main(['complete', *map(str, arguments)])


def test_a_photograph_becomes_a_shape_that_says_what_it_is(photograph, capsys):
    cloud, mesh = photograph / 'cloud.ply', photograph / 'mesh.stl'
    options = ('--size', 0.3, '--mesh', mesh, '-o', cloud)
    assert run(photograph / 'photo.png', *FAST, *options) == 0
    comments, vertices, _ = read_ply(cloud)
    assert (vertices['synthetic'] == 1).all() and len(vertices) > 200
    for words in ('model embedded', 'preset fast', 'seeds 0 1', 'source photo.png', 'size_m 0.3'):
        assert f'comment nvs_ros:{words}' in comments
    height = np.ptp(vertices['z'])
    assert height == pytest.approx(0.3, rel=0.2)
    assert mesh.read_bytes().startswith(b'synthetic=true')
    printed = capsys.readouterr().out
    assert 'assumed: the photograph is not calibrated' in printed
    assert printed.count('confidence 0.') + printed.count('confidence 1.') == 2
    assert 'synthetic' in printed and 'would add most' in printed


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['missing.png'], 'no such file'),
        (['{}/photo.png', '--views', '1'], '--views'),
        (['{}/photo.png', '--seeds', '1'], 'seeds'),
        (['{}/photo.png', '--cells', '4'], 'cells'),
        (['{}/photo.png', '--size', '0'], '--size'),
        (['{}/photo.png', '--size', 'nan'], '--size'),
        (['{}/photo.png', '--seed', '-1'], '--seed'),
        (['{}/photo.png', '--min-confidence', '1.5'], 'min_confidence'),
        (['{}/photo.png', '--preset', 'best'], "got 'best'"),
        (['{}/photo.png', '-o', '{}/cloud.pcd'], 'ending in .ply'),
        (['{}/photo.png', '--mesh', '{}/mesh.fbx'], 'ending in .ply'),
        (['{}/photo.png', '-o', '{}/a.ply', '--mesh', '{}/a.ply'], 'would overwrite'),
        (['{}/photo.png', '-o', '{}/no/cloud.ply'], 'no such folder'),
        (['{}/photo.png', '-o', '{}/folder.ply'], 'the folder'),
        (['{}/photo.png', '--mesh', '{}/folder.ply'], 'the folder'),
    ],
)
def test_what_cannot_be_used_gets_one_line_and_exit_code_2(photograph, capsys, arguments, words):
    (photograph / 'folder.ply').mkdir()
    assert run(*(word.format(photograph) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1


def test_an_assessment_calibrates_the_model_and_tells_all(tmp_path, monkeypatch, capsys):
    model = tmp_path / 'model'
    model.mkdir()
    for part in EMBEDDED.iterdir():
        if part.name != 'model_index.json':
            (model / part.name).symlink_to(part)
    index = json.loads((EMBEDDED / 'model_index.json').read_text())
    index['profile'].pop('confidence', None)
    (model / 'model_index.json').write_text(json.dumps(index))
    sides = [(90.0, 0.0, 0.0), (180.0, 0.0, 0.0)]
    monkeypatch.setattr('nvs_ros.evaluation.shape_protocol.VIEWPOINTS', sides)
    output = tmp_path / 'numbers.json'
    options = ('--fit', '1', '--objects', '2', '--json', str(output), '--plots', str(tmp_path))
    assert main(['assess', '--model', str(model), '--frames', '3', *options]) == 0
    written = json.loads((model / 'model_index.json').read_text())
    assert set(written['profile'].pop('confidence')) >= {'bias', 'agreement', 'cycle_iou'}
    assert written == index
    numbers = json.loads(output.read_text())
    assert numbers['objects'] == 2 and numbers['confidence']['views'] == 8
    for result in numbers['results']:
        assert set(result['shapes']) == set(METHODS)
        assert all(0 < shape['iou'] < 1 for shape in result['shapes'].values())
        assert all(
            0 <= view['confidence'] <= 1 and 0 <= view['iou'] <= 1 for view in result['views']
        )
    low, high = numbers['paired']['ours-cone']['iou'][1:]
    assert low < numbers['paired']['ours-cone']['iou'][0] < high
    assert Image.open(tmp_path / 'shapes.png').size[0] > 800
    assert (tmp_path / 'reliability.png').stat().st_size > 5000
    assert 'Spearman' in capsys.readouterr().out


def test_only_a_folder_can_be_calibrated(capsys):
    assert main(['assess', '--fit', '1', '--model', 'embedded/not']) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
