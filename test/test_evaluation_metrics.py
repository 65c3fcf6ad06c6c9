import json
import sys

import numpy as np
import pytest

from nvs_ros.cli import main
from nvs_ros.evaluation.metrics import foreground_psnr, mask_iou, psnr


def test_psnr_of_a_known_error():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert psnr(black, grey) == pytest.approx(20 * np.log10(255 / 51))
    assert psnr(black, black) == np.inf
    with pytest.raises(ValueError, match='one shape'):
        psnr(black, grey[:2])


def test_foreground_psnr_looks_at_the_object_alone():
    truth = np.full((4, 4, 3), 255, np.uint8)
    truth[:2] = 100
    image = truth.copy()
    image[2:] = 0
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 255
    assert foreground_psnr(image, truth, mask) == np.inf
    image[:2] = 151
    assert foreground_psnr(image, truth, mask) == pytest.approx(20 * np.log10(255 / 51))


def test_iou_by_hand():
    a, b = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    a[:, :2], b[:, 1:3] = 255, 255
    assert mask_iou(a, b) == pytest.approx(2 / 6)
    assert mask_iou(a, a) == 1
    assert mask_iou(np.zeros_like(a), np.zeros_like(a)) == 1


def test_the_command_prints_references_beside_the_presets(tmp_path, capsys):
    file = tmp_path / 'summary.json'
    options = ['--objects', '1', '--views', '2', '--presets', 'hourglass', '--json', str(file)]
    assert main(['evaluate', *options]) == 0
    summary = json.loads(file.read_text())
    assert set(summary) == {'copy_source', 'white', 'codec', 'hourglass'}
    assert summary['codec']['all']['psnr'] > summary['white']['all']['psnr']
    table = capsys.readouterr().out
    assert all(method in table for method in summary)


@pytest.mark.parametrize(
    ('options', 'words'), [(['--objects', '0'], '--objects'), (['--presets', 'best'], "'best'")]
)
def test_refuses_in_one_line(options, words, capsys):
    assert main(['evaluate', *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize('file', ['missing/summary.json', ''])
def test_a_place_for_the_summary_is_asked_for_before_the_work(tmp_path, capsys, file):
    assert main(['evaluate', '--json', str(tmp_path / file)]) == 2
    assert '--json' in capsys.readouterr().err


def test_a_robot_without_numba_is_told_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'nvs_ros.evaluation.protocol', None)
    assert main(['evaluate', '--objects', '1']) == 2
    assert 'numba' in capsys.readouterr().err
