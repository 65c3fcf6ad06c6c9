import dataclasses
from pathlib import Path

import pytest
import torch

from nvs_ros.cli import main
from nvs_ros.errors import UserError
from nvs_ros.training.recipe import Recipe, keep_recipe

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('dataset: {objects: many}', "got 'many'"),
        ('dataset: {shapes: 3}', "got 'shapes'"),
        ('dataset: 3', 'got 3'),
        ('polish: {}', "got 'polish'"),
        ('words', "got 'words'"),
        ('[1, dataset]', 'expected a mapping'),
        ('a: [', 'while parsing'),
        ('dataset: {categories: []}', 'at least one'),
        ('dataset: {size: 50}', 'multiple of 16'),
        ('dataset: {radius: [2.0, 1.6]}', 'low <= high'),
        ('architecture: {widths: [20]}', 'multiples of 8'),
        ('architecture: {latent_factor: 3}', 'expected one of [2, 4]'),
        ('architecture: {widths: [8, 8, 8, 8, 8]}', 'multiple of 64, got 96'),
        ('{initialize_from: embedded, autoencoder: {steps: 3}}', "got 'autoencoder'"),
    ],
)
def test_a_recipe_that_cannot_be_followed_gets_one_line(tmp_path, capsys, text, words):
    text = text.replace('8]}', '8]}\ndataset: {size: 96}')
    (tmp_path / 'recipe.yaml').write_text(text)
    options = ['--config', str(tmp_path / 'recipe.yaml'), '--output', str(tmp_path / 'run')]
    assert main(['train', *options]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    'options',
    [['--stop-at', '0'], ['--steps', '0'], ['--time-limit', 'nan'], ['--output', '/proc/run']],
)
def test_training_without_a_place_or_an_end_is_refused(tmp_path, capsys, options):
    (tmp_path / 'recipe.yaml').write_text('')
    given = ['--config', str(tmp_path / 'recipe.yaml'), '--output', str(tmp_path / 'run')]
    assert main(['train', *given, *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize('file', sorted((ROOT / 'config').glob('training*.yaml')), ids=str)
def test_the_recipes_in_the_project_can_be_read_and_written(tmp_path, file):
    recipe = Recipe.from_yaml(file)
    assert recipe.dataset.size == 64
    keep_recipe(recipe, tmp_path)
    assert Recipe.from_yaml(tmp_path / 'recipe.yaml') == recipe


RECIPE = Recipe.from_dict(
    {'diffusion': {'steps': 100, 'decay_fraction': 0.4}, 'autoencoder': {'steps': 10}}
)


def changed(group, **values):
    return dataclasses.replace(
        RECIPE, **{group: dataclasses.replace(getattr(RECIPE, group), **values)}
    )


@pytest.mark.parametrize(
    ('recipe', 'words'),
    [
        (changed('dataset', categories=('mug',)), 'expected dataset.categories'),
        (changed('dataset', seed=1), 'expected dataset.seed 0 as in .*, got 1'),
        (changed('autoencoder', steps=20), 'autoencoder.steps 10'),
        (changed('diffusion', learning_rate=1.0), 'diffusion.learning_rate'),
        (changed('diffusion', batch_size=8), 'diffusion.batch_size'),
        (changed('diffusion', decay_fraction=0.3), 'diffusion.decay_fraction'),
        (changed('architecture', latent_factor=2), 'architecture.latent_factor 4'),
        (dataclasses.replace(RECIPE, initialize_from='embedded'), 'architecture'),
    ],
)
def test_a_run_folder_belongs_to_its_recipe(tmp_path, recipe, words):
    keep_recipe(RECIPE, tmp_path)
    with pytest.raises(UserError, match=words):
        keep_recipe(recipe, tmp_path)
    assert Recipe.from_yaml(tmp_path / 'recipe.yaml') == RECIPE


@pytest.mark.parametrize(
    ('done', 'steps', 'allowed'),
    [(0, 2, True), (50, 200, True), (61, 200, True), (62, 200, False), (50, 80, False)],
)
def test_steps_may_change_before_the_decay(tmp_path, done, steps, allowed):
    """100 steps with a decay over the last 40: the rates of steps 0 to 60 are those without."""
    keep_recipe(RECIPE, tmp_path)
    if done:
        torch.save({'step': done}, tmp_path / 'diffusion.pt')
    recipe = changed('diffusion', steps=steps, checkpoint_every=7, compile=True)
    if allowed:
        keep_recipe(recipe, tmp_path)
        assert Recipe.from_yaml(tmp_path / 'recipe.yaml') == recipe
    else:
        with pytest.raises(UserError, match=f'diffusion.steps 100 .* after {done} steps, got'):
            keep_recipe(recipe, tmp_path)
