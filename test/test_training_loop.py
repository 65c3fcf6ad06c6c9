from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nvs_ros.cli import main
from nvs_ros.training.autoencoder import build_autoencoder, whiten_latents
from nvs_ros.training.dataset import DatasetSettings, make_dataset
from nvs_ros.training.diffusion import build_components, encode_dataset, train_diffusion
from nvs_ros.training.loop import FitSettings, fit, learning_rate_factor
from nvs_ros.training.recipe import Recipe, profile

DATASET = DatasetSettings(objects=4, views=3, size=32)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs, outputs):
        return (self.layer(inputs).float() - outputs).square().mean()


def line_batch(rng, count):
    inputs = torch.from_numpy(rng.standard_normal((count, 3), np.float32))
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]])


def fit_line(folder, **kwargs):
    torch.manual_seed(0)
    settings = FitSettings(
        steps=60, batch_size=16, learning_rate=0.05, warmup_steps=5, checkpoint_every=10
    )
    return fit(Line(), line_batch, settings, folder, name='line', **kwargs)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    whole = fit_line(tmp_path / 'whole')
    fit_line(tmp_path / 'parts', stop_at=20)
    resumed = fit_line(tmp_path / 'parts')
    assert torch.equal(whole.layer.weight, resumed.layer.weight)
    losses = (tmp_path / 'parts' / 'line_loss.csv').read_text()
    assert losses == (tmp_path / 'whole' / 'line_loss.csv').read_text()


def test_the_loss_falls(tmp_path):
    fit_line(tmp_path)
    losses = [float(row.split(',')[1]) for row in (tmp_path / 'line_loss.csv').open()]
    assert losses[-1] < 0.2 * losses[0]


def test_learning_rate_warms_up_and_decays_to_zero():
    settings = FitSettings(steps=100, warmup_steps=10, decay_fraction=0.4)
    factors = [learning_rate_factor(settings, step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)


def test_whitened_latents_decode_to_the_same_picture():
    torch.manual_seed(0)
    autoencoder = build_autoencoder(32).eval()
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        before = autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample
        deviation_before = autoencoder.encode(images).latent_dist.std
        scale = autoencoder.encode(images).latent_dist.mode().std((0, 2, 3))
        whiten_latents(autoencoder, images)
        posterior = autoencoder.encode(images).latent_dist
        after = autoencoder.decode(posterior.mode()).sample
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(posterior.mode().mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(posterior.mode().std((0, 2, 3)), torch.ones(4), atol=1e-3)
    expected = deviation_before / scale[:, None, None]
    assert torch.allclose(posterior.std, expected, rtol=1e-3)


def test_diffusion_trains_and_is_reproducible(tmp_path):
    images, cameras = make_dataset(DATASET, tmp_path / 'data', workers=1)
    settings = FitSettings(
        steps=12, batch_size=4, learning_rate=2e-3, warmup_steps=1, checkpoint_every=4
    )

    def train(run, stops):
        for stop in stops:
            torch.manual_seed(0)
            components = build_components(build_autoencoder(32).eval(), profile(DATASET))
            latents = encode_dataset(components.vae, images, tmp_path / 'latents.npy')
            train_diffusion(components, images, cameras, latents, settings, tmp_path / run, stop)
        return components

    whole, parts = train('whole', [None]), train('parts', [8, None])
    assert torch.equal(whole.unet.conv_in.weight, parts.unet.conv_in.weight)
    assert torch.equal(whole.cc_projection.weight, parts.cc_projection.weight)
    losses = [float(row.split(',')[1]) for row in (tmp_path / 'whole/diffusion_loss.csv').open()]
    assert losses[-1] < losses[0]


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
    ],
)
def test_a_recipe_that_cannot_be_followed_gets_one_line(tmp_path, capsys, text, words):
    (tmp_path / 'recipe.yaml').write_text(text)
    options = ['--config', str(tmp_path / 'recipe.yaml'), '--output', str(tmp_path / 'run')]
    assert main(['train', *options]) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize('options', [['--stop-at', '0'], ['--output', '/proc/version/run']])
def test_training_without_a_place_or_an_end_is_refused(tmp_path, capsys, options):
    (tmp_path / 'recipe.yaml').write_text('')
    given = ['--config', str(tmp_path / 'recipe.yaml'), '--output', str(tmp_path / 'run')]
    assert main(['train', *given, *options]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_recipe_in_the_project_can_be_read():
    config = Path(__file__).parents[1] / 'config' / 'training.yaml'
    assert Recipe.from_yaml(config).dataset.views == 8
