"""Whole trainings at a tiny size."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from nvs_ros.cli import main
from nvs_ros.errors import UserError
from nvs_ros.training.loop import Until
from nvs_ros.training.recipe import Recipe
from nvs_ros.training.run import save_model, train
from nvs_ros.zero123.components import EMBEDDED, load_components

ROOT = Path(__file__).parents[1]
SETTINGS = {
    'dataset': {'objects': 6, 'views': 3, 'size': 32, 'categories': ['mug', 'can']},
    'architecture': {'widths': [16, 32]},
    'autoencoder': {'steps': 4, 'batch_size': 4, 'warmup_steps': 1, 'checkpoint_every': 2},
    'diffusion': {'steps': 6, 'batch_size': 4, 'warmup_steps': 1, 'checkpoint_every': 3},
}
RECIPE = Recipe.from_dict(SETTINGS)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp('whole')
    assert train(RECIPE, run)
    return run


def weights(model):
    return {str(file.relative_to(model)): load_file(file) for file in model.rglob('*.safetensors')}


def assert_same_model(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys() and len(one) == 4
    for file, tensors in one.items():
        assert all(torch.equal(tensors[key], other[file][key]) for key in tensors), file


def test_a_run_in_pieces_makes_the_same_model(whole, tmp_path):
    """Stopped in the autoencoder, after it, and in the middle of the rest."""
    assert not train(RECIPE, tmp_path, Until(time_s=time.monotonic()))
    assert torch.load(tmp_path / 'autoencoder.pt', weights_only=True)['step'] == 1
    assert not (tmp_path / 'model').exists()
    assert not train(RECIPE, tmp_path, Until(step=2))
    (tmp_path / 'diffusion.pt').unlink()  # as if killed before the first checkpoint
    assert not train(RECIPE, tmp_path, Until(step=4))
    assert (tmp_path / 'model').exists()
    assert train(RECIPE, tmp_path)
    assert_same_model(whole / 'model', tmp_path / 'model')


def test_a_run_without_a_kept_recipe_takes_the_given_one(whole, tmp_path):
    for name in ('data', 'vae', 'latents.npy', 'diffusion.pt', 'diffusion_loss.csv'):
        (tmp_path / name).symlink_to(whole / name)
    assert train(RECIPE, tmp_path)
    assert_same_model(whole / 'model', tmp_path / 'model')


def test_plots_are_written_as_it_goes(whole):
    sheets = [
        *(f'autoencoder_samples_{step}.png' for step in (2, 4)),
        *(f'diffusion_samples_{step}.png' for step in (3, 6)),
    ]
    losses = ['autoencoder_loss.png', 'diffusion_loss.png']
    assert sorted(path.name for path in whole.glob('*.png')) == sorted(sheets + losses)
    colours = {}
    for name in sheets:
        picture = np.array(Image.open(whole / name).convert('RGB'))
        colours[name] = len(np.unique(picture.reshape(-1, 3), axis=0))
    assert min(colours.values()) > 100, colours
    assert (whole / sheets[2]).read_bytes() != (whole / sheets[3]).read_bytes()


def test_another_recipe_needs_another_folder(whole, tmp_path, capsys):
    config = tmp_path / 'recipe.yaml'
    config.write_text(yaml.safe_dump(SETTINGS | {'dataset': SETTINGS['dataset'] | {'views': 2}}))
    assert main(['train', '--config', str(config), '--output', str(whole)]) == 2
    assert 'expected dataset.views 3' in capsys.readouterr().err


def test_the_model_says_how_it_was_made(whole):
    index = json.loads((whole / 'model' / 'model_index.json').read_text())
    assert Recipe.from_dict(index['source']['recipe']) == RECIPE
    assert load_components(whole / 'model').image_size == 32


def test_the_old_model_stays_until_the_new_one_is_whole(whole, tmp_path):
    components = load_components(whole / 'model')
    save_model(components, {'made': 1}, tmp_path / 'model', torch.float16)
    before = weights(tmp_path / 'model')
    with pytest.raises(TypeError):  # the index comes last
        save_model(components, {'made': object()}, tmp_path / 'model', torch.float32)
    assert_same_model(tmp_path / 'model', whole / 'model')
    assert before.keys() == weights(tmp_path / 'model').keys()
    save_model(components, {'made': 2}, tmp_path / 'model', torch.float32)
    index = json.loads((tmp_path / 'model' / 'model_index.json').read_text())
    assert index['source'] == {'made': 2}
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def start_from(model, rate):
    fit = {'steps': 2, 'batch_size': 4, 'learning_rate': rate, 'warmup_steps': 0}
    return Recipe.from_dict(
        {'initialize_from': str(model), 'dataset': SETTINGS['dataset'], 'diffusion': fit}
    )


def test_a_run_can_start_from_a_model(whole, tmp_path):
    """With a learning rate of nothing its model is the one that it started from."""
    model = whole / 'model'
    assert train(start_from(model, 0.0), tmp_path / 'still')
    assert_same_model(model, tmp_path / 'still' / 'model')
    assert train(start_from(model, 1e-3), tmp_path / 'moved')
    before, after = weights(model), weights(tmp_path / 'moved' / 'model')
    moved = {
        file.partition('/')[0]: any(
            not torch.equal(after[file][key], before[file][key]) for key in each
        )
        for file, each in before.items()
    }
    assert moved == {'vae': False, 'unet': True, 'image_encoder': True, 'cc_projection': True}
    source = json.loads((tmp_path / 'moved/model/model_index.json').read_text())['source']
    assert source['initial']['model'] == str(model)
    assert Recipe.from_dict(source['initial']['recipe']) == RECIPE


def test_a_model_that_was_replaced_does_not_change_a_run_that_goes_on(whole, tmp_path):
    recipe = start_from(whole / 'model', 1e-3)
    assert train(recipe, tmp_path / 'unbroken')
    assert not train(recipe, tmp_path / 'parts', Until(step=1))
    gone = dataclasses.replace(recipe, initialize_from=recipe.initialize_from)
    (whole / 'model').rename(whole / 'away')
    try:
        assert train(gone, tmp_path / 'parts')
    finally:
        (whole / 'away').rename(whole / 'model')
    assert_same_model(tmp_path / 'unbroken/model', tmp_path / 'parts/model')


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match='a model for 32 px like the dataset, .* for 64 px'):
        train(start_from(EMBEDDED, 0.0), tmp_path)
    assert not (tmp_path / 'initial').exists()


def test_chunks_on_another_machine(tmp_path):
    """The script for a GPU machine: two chunks, and the model is put together from what came
    back."""
    config, out = tmp_path / 'tiny.yaml', tmp_path / 'out'
    config.write_text(yaml.safe_dump(SETTINGS))
    given = {'CONFIG': str(config), 'OUT': str(out), 'LIMIT': '300', 'PYTHON': sys.executable}
    for options in (['--stop-at', '3'], []):
        command = ['scripts/train_gpu.sh', str(tmp_path / 'run'), *options]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | given, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert f'diffusion: step, loss: {3 if options else 6},' in done.stdout
        files = sorted(path.name for path in out.iterdir())
        assert 'model.tar.00' in files and len(files) <= 8
        assert max(path.stat().st_size for path in out.iterdir()) <= 14 << 20
    parts = b''.join(path.read_bytes() for path in sorted(out.glob('model.tar.*')))
    subprocess.run(['tar', '-x', '-C', tmp_path], input=parts, check=True)
    assert_same_model(tmp_path / 'run' / 'model', tmp_path / 'model')


def test_a_model_gets_a_guide_and_trains_on(whole, tmp_path):
    dataset = SETTINGS['dataset'] | {'guide': True}
    content = {'initialize_from': str(whole / 'model'), 'dataset': dataset}
    recipe = Recipe.from_dict(content | {'diffusion': SETTINGS['diffusion']})
    assert train(recipe, tmp_path / 'run')
    before, after = load_components(whole / 'model'), load_components(tmp_path / 'run/model')
    assert before.guide_inputs == 0 and after.guide_inputs == 5 * 16
    assert after.profile.guide_channels == 5
    new = after.unet.conv_in.weight[:, before.unet.config.in_channels :]
    assert new.abs().max() > 0
    assert Image.open(tmp_path / 'run/diffusion_samples_6.png').width > 400  # guide, source, ...
