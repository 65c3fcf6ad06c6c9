import json
import os

import numpy as np
import pytest
from PIL import Image
from short_model import EVALUATIONS, make_short_model

from nvs_ros.cli import main
from nvs_ros.evaluation.sweep import sweep_methods
from nvs_ros.synthesizer import Synthesizer

LADDER = ('zero123', 'hourglass', 'resample', 'amf', 'msa', 'zero-to-hero')
REFERENCES = ('copy_source', 'white', 'codec', 'one_step', 'uniform_equal', 'mean_pooling')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return make_short_model(tmp_path_factory.mktemp('models') / 'short')


def test_one_command_measures_the_ladder_beside_its_references(model, tmp_path, capsys):
    file, plots = tmp_path / 'figures.json', tmp_path / 'plots'
    options = ['--model', str(model), '--quick', '--objects', '2', '--device', 'cpu']
    outputs = ['--json', str(file), '--plots', str(plots)]
    assert main(['evaluate', *options, *outputs]) == 0
    summary = json.loads(file.read_text())
    assert tuple(summary['presets']) == LADDER
    assert tuple(summary['references']) == (*REFERENCES, 'oracle')
    for figures in (*summary['presets'].values(), *summary['references'].values()):
        assert {'psnr', 'ssim', 'fg_psnr', 'iou', 'splits'} <= set(figures)
    assert summary['presets']['zero-to-hero']['evaluations'] == EVALUATIONS
    assert summary['references']['codec']['psnr'] > summary['references']['white']['psnr']
    difference = summary['paired']['zero-to-hero-hourglass']['fg_psnr']
    presets = summary['presets']
    expected = presets['zero-to-hero']['fg_psnr'] - presets['hourglass']['fg_psnr']
    assert difference[0] == pytest.approx(expected) and difference[1] < difference[2]
    assert summary['paired_over_45'] and len(summary['hashes']['weights']) == 64
    assert (summary['config']['views'], summary['config']['sources']) == (3, 1)

    table = capsys.readouterr().out
    assert all(name in table for name in (*LADDER, *REFERENCES, 'LPIPS'))
    sheet = np.asarray(Image.open(plots / 'sheet.png'))
    assert sheet.shape[1] > 90 * (2 + len(LADDER) + len(summary['references']))
    assert all((plots / name).stat().st_size > 5000 for name in ('ladder.png', 'angle.png'))

    # The same command again measures nothing anew; with other views it must not mix them in.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('object_*')}
    assert len(before) == 4
    assert main(['evaluate', *options, *outputs[:2]]) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert main(['evaluate', *options, *outputs[:2], '--seeds', '2']) == 2
    assert 'seeds' in capsys.readouterr().err
    turned = ','.join(reversed(LADDER))  # the pictures lie in another order
    assert main(['evaluate', *options, *outputs[:2], '--presets', turned]) == 2
    assert 'order of methods' in capsys.readouterr().err


def test_the_sweep_changes_one_constant_at_a_time():
    synthesizer = Synthesizer.from_pretrained(device='cpu')
    base, *others = (method.settings for method in sweep_methods(synthesizer))
    changed = []
    for settings in others:
        fields = [name for name in vars(base) if getattr(base, name) != getattr(settings, name)]
        assert len(fields) == 1, fields
        changed += fields
    assert {
        'alpha_c',
        'alpha_h',
        'resampling_passes',
        'pooling',
        'in_step_window',
        'cross_step_window',
        'msa_window',
        'guidance_scale',
    } <= set(changed)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--objects', '0'], 'objects'),
        (['--sources', '9'], 'sources'),
        (['--presets', 'best'], "'best'"),
        (['--set', 'best'], 'household'),
        (['--workers', '0'], '--workers'),
        (['--model', '/nowhere'], '/nowhere'),
    ],
)
def test_refuses_in_one_line(options, words, capsys):
    assert main(['evaluate', *options]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and '\n' not in error


@pytest.mark.parametrize('command', ['evaluate', 'assess', 'bench'])
@pytest.mark.parametrize('file', ['missing/summary.json', ''])
def test_a_place_for_the_summary_is_asked_for_before_the_work(tmp_path, capsys, command, file):
    assert main([command, '--model', '/nowhere', '--json', str(tmp_path / file)]) == 2
    assert '--json: expected a file in a folder that exists' in capsys.readouterr().err


@pytest.mark.parametrize('command', ['evaluate', 'assess'])
def test_a_place_for_the_plots_is_made_before_the_work(tmp_path, capsys, command):
    (tmp_path / 'file').write_text('')
    assert main([command, '--model', '/nowhere', '--plots', str(tmp_path / 'file')]) == 2
    assert '--plots: ' in capsys.readouterr().err


@pytest.mark.parametrize('content', [None, '# no marks\n'])
def test_a_document_without_its_section_is_refused_before_the_work(tmp_path, capsys, content):
    document = tmp_path / 'document.md'
    if content is not None:
        document.write_text(content)
    assert main(['assess', '--model', '/nowhere', '--document', str(document)]) == 2
    assert f'{document}: ' in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
@pytest.mark.parametrize('command', ['evaluate', 'assess', 'bench'])
def test_a_folder_of_somebody_else_is_refused_before_the_work(tmp_path, capsys, command):
    tmp_path.chmod(0o500)
    file = tmp_path / 'summary.json'
    assert main([command, '--model', '/nowhere', '--json', str(file)]) == 2
    assert f'--json: {file} may not be written' in capsys.readouterr().err
