import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from short_model import make_short_model

from nvs_ros.cli import main
from nvs_ros.synthesizer import Synthesizer


@pytest.fixture
def photograph(tmp_path):
    picture = np.zeros((150, 200, 4), np.uint8)
    picture[30:120, 60:140] = (60, 120, 200, 255)
    Image.fromarray(picture).save(tmp_path / 'photo.png')
    Image.fromarray(picture[..., :3]).save(tmp_path / 'opaque.png')
    Image.fromarray(picture[..., 3]).save(tmp_path / 'mask.png')
    return tmp_path


def run(*arguments):
    return main(['synthesize', *map(str, arguments)])


def test_writes_a_view_that_says_what_it_is(photograph, capsys):
    output = photograph / 'view.png'
    options = ('--azimuth', 60, '--elevation', 10, '--seed', 3, '--preset', 'hourglass')
    assert run(photograph / 'photo.png', *options, '-o', output) == 0
    with Image.open(output) as view:
        assert view.size == (64, 64) and view.mode == 'RGB'
        assert view.text['nvs_ros:synthetic'] == 'true'
        assert view.text['nvs_ros:seed'] == '3' and view.text['nvs_ros:azimuth_deg'] == '60.0'
        assert view.text['nvs_ros:preset'] == 'hourglass'
    printed = capsys.readouterr().out
    assert 'not measured' in printed and 'assumed: the photograph is not calibrated' in printed


def test_a_mask_file_does_the_same_as_alpha(photograph):
    outputs = photograph / 'a.png', photograph / 'b.png'
    run(photograph / 'photo.png', '--preset', 'hourglass', '-o', outputs[0])
    mask = ('--mask', photograph / 'mask.png')
    run(photograph / 'opaque.png', *mask, '--preset', 'hourglass', '-o', outputs[1])
    first, second = (np.asarray(Image.open(file)) for file in outputs)
    assert np.array_equal(first, second)


def test_size_of_the_picture_can_be_asked_for(photograph):
    output = photograph / 'view.png'
    run(photograph / 'photo.png', '--size', 128, '--preset', 'hourglass', '-o', output)
    assert Image.open(output).size == (128, 128)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['missing.png'], 'no such file: missing.png'),
        (['{}/opaque.png'], 'no alpha channel'),
        (['{}/opaque.png', '--mask', '{}/missing.png'], 'no such file'),
        (['{}/opaque.png', '--mask', '{}/empty.png'], 'is empty'),
        (['{}/opaque.png', '--mask', '{}/small.png'], 'expected a mask of 200x150 pixels'),
        (['{}/text.png'], 'not a readable picture'),
        (['{}/photo.png', '--preset', 'best'], "got 'best'"),
        (['{}/photo.png', '--model', 'nowhere/at-all'], 'nowhere/at-all'),
        (['{}/photo.png', '--distance', '-3'], 'outside the object'),
        (['{}/photo.png', '--elevation', '120'], 'straight above'),
        (['{}/photo.png', '--azimuth', 'nan'], 'finite'),
        (['{}/photo.png', '-o', '{}/no/view.png'], 'no such folder'),
        (['{}/photo.png', '--size', '0'], '--size'),
        (['{}/photo.png', '--device', 'abacus'], 'abacus'),
        (['{}/photo.png', '--device', 'cuda:99'], 'cuda:99'),
        (['{}/photo.png', '--device', 'meta'], 'meta'),
        (['{}/photo.png', '--seed', '-1'], 'got -1'),
        (['{}/photo.png', '--seed', str(2**70)], '--seed'),
        (['{}/photo.png', '-o', '{}/view.gif'], 'ending in .png'),
        (['{}/photo.png', '-o', '{}/photo.png'], 'would overwrite'),
        (['{}/opaque.png', '--mask', '{}/mask.png', '-o', '{}/mask.png'], 'would overwrite'),
        (['{}/photo.png', '-o', '{}/folder.png'], 'the folder'),
        (['{}/opaque.png', '--mask', '{}/dot.png'], 'too small'),
    ],
)
def test_what_cannot_be_used_gets_one_line_and_exit_code_2(photograph, capsys, arguments, words):
    Image.fromarray(np.zeros((150, 200), np.uint8)).save(photograph / 'empty.png')
    Image.fromarray(np.full((10, 10), 255, np.uint8)).save(photograph / 'small.png')
    dot = np.zeros((150, 200), np.uint8)
    dot[70, 90] = 255
    Image.fromarray(dot).save(photograph / 'dot.png')
    (photograph / 'text.png').write_text('not a picture')
    (photograph / 'folder.png').mkdir()
    assert run(*(word.format(photograph) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


@pytest.fixture
def full(monkeypatch):
    """The networks of a model on a device whose memory is used up."""
    load = Synthesizer.from_pretrained

    def load_without_memory(*args, **kwargs):
        synthesizer = load(*args, **kwargs)

        def allocate(*_):
            raise torch.OutOfMemoryError('CUDA out of memory.\nTried to allocate 2 GiB')

        synthesizer.components.unet.register_forward_pre_hook(allocate)
        return synthesizer

    monkeypatch.setattr(Synthesizer, 'from_pretrained', load_without_memory)


@pytest.mark.parametrize('command', ['synthesize', 'complete'])
def test_what_does_not_fit_memory_is_one_line(photograph, capsys, full, command):
    ending = '.png' if command == 'synthesize' else '.ply'
    output = photograph / f'out{ending}'
    assert main([command, str(photograph / 'photo.png'), '-o', str(output)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith(f'nvs_ros {command}: one view needs more memory than there is: CUDA')
    assert not output.exists()


def test_memory_that_python_itself_has_not_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(Image, 'open', lambda *_: bytearray(2**62))
    assert run('photo.png') == 2
    assert capsys.readouterr().err == 'nvs_ros synthesize: more memory is needed than there is\n'


def test_a_model_that_cannot_sample_as_it_says_is_one_line(photograph, tmp_path, capsys):
    model = make_short_model(tmp_path / 'model')
    index = json.loads((model / 'model_index.json').read_text())
    index['profile']['sampler']['num_inference_steps'] = 1000
    (model / 'model_index.json').write_text(json.dumps(index))
    scheduler = model / 'scheduler' / 'scheduler_config.json'
    config = json.loads(scheduler.read_text())
    scheduler.write_text(json.dumps(config | {'timestep_spacing': 'leading', 'steps_offset': 1}))
    options = ('--model', model, '--preset', 'zero123', '-o', photograph / 'view.png')
    assert run(photograph / 'photo.png', *options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert 'steps_offset: 1 puts the first of 1000 timesteps at 1000' in line


def test_unknown_options_end_with_exit_code_2():
    command = [sys.executable, '-m', 'nvs_ros', 'synthesize', 'photo.png', '--sideways']
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert '--sideways' in done.stderr and len(done.stderr.splitlines()) == 1
