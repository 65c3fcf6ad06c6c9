import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nvs_ros.errors import UserError
from nvs_ros.scenes.dataset import DatasetSettings, make_dataset
from nvs_ros.training.autoencoder import build_autoencoder, whiten_latents
from nvs_ros.training.diffusion import build_components, encode_dataset, train_diffusion
from nvs_ros.training.loop import FitSettings, Until, fit, learning_rate_factor
from nvs_ros.training.run import profile

ROOT = Path(__file__).parents[1]
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


def fit_line(folder, stop_at=None, **changes):
    torch.manual_seed(0)
    settings = FitSettings(
        steps=60, batch_size=16, learning_rate=0.05, warmup_steps=5, checkpoint_every=10
    )
    settings = dataclasses.replace(settings, **changes)
    line = Line()
    finished = fit(line, line_batch, settings, folder, name='line', until=Until(step=stop_at))
    assert finished == (stop_at is None)
    return line


def test_a_resumed_run_equals_an_unbroken_one(tmp_path):
    whole = fit_line(tmp_path / 'whole')
    fit_line(tmp_path / 'parts', stop_at=20)
    resumed = fit_line(tmp_path / 'parts')
    assert torch.equal(whole.layer.weight, resumed.layer.weight)
    losses = (tmp_path / 'parts' / 'line_loss.csv').read_text()
    assert losses == (tmp_path / 'whole' / 'line_loss.csv').read_text()


def test_rows_of_losses_past_the_state_are_dropped(tmp_path):
    fit_line(tmp_path, stop_at=20)
    file = tmp_path / 'line_loss.csv'
    file.write_text(file.read_text() + '30,0.5\n3')
    fit_line(tmp_path)
    assert [row.split(',')[0] for row in file.open()] == ['10', '20', '30', '40', '50', '60']


def test_the_loss_falls(tmp_path):
    fit_line(tmp_path)
    losses = [float(row.split(',')[1]) for row in (tmp_path / 'line_loss.csv').open()]
    assert losses[-1] < 0.2 * losses[0]


def test_a_loss_that_is_no_number_leaves_the_last_checkpoint(tmp_path):
    fit_line(tmp_path, stop_at=20)
    state = (tmp_path / 'line.pt').read_bytes()
    with pytest.raises(UserError, match='finite loss, got .* at step 30'):
        fit_line(tmp_path, learning_rate=1e38)
    assert (tmp_path / 'line.pt').read_bytes() == state


def test_time_that_is_up_stops_after_a_step_and_saves(tmp_path):
    settings = FitSettings(steps=60, batch_size=16, checkpoint_every=10)
    until = Until(time_s=time.monotonic() - 1)
    for step in (1, 2):
        assert not fit(Line(), line_batch, settings, tmp_path, name='line', until=until)
        assert torch.load(tmp_path / 'line.pt', weights_only=True)['step'] == step


def test_what_is_shown_has_the_averaged_weights_and_changes_nothing(tmp_path):
    settings = FitSettings(steps=20, batch_size=16, learning_rate=0.05, checkpoint_every=10)
    shown, lines = {}, []
    for show in (None, lambda line, step: shown.update({step: line.layer.weight.clone()})):
        torch.manual_seed(0)
        lines.append(Line())
        run = tmp_path / str(show is None)
        fit(lines[-1], line_batch, settings, run, name='line', show=show)
    assert list(shown) == [10, 20]
    assert torch.equal(shown[20], lines[1].layer.weight)
    assert torch.equal(lines[0].layer.weight, lines[1].layer.weight)
    state = torch.load(run / 'line.pt', weights_only=True)['module']
    assert not torch.equal(shown[20], state['layer.weight'])


class Wide(nn.Module):
    """Large enough that writing its state takes a while."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1024, 1024)

    def forward(self, inputs):
        return self.layer(inputs).square().mean()


def wide_batch(rng, count):
    return (torch.from_numpy(rng.standard_normal((count, 1024), np.float32)),)


def fit_wide(folder):
    torch.manual_seed(0)
    settings = FitSettings(steps=6, batch_size=2, warmup_steps=0, checkpoint_every=1)
    fit(Wide(), wide_batch, settings, Path(folder), name='wide')
    return torch.load(Path(folder) / 'wide.pt', weights_only=True)


def test_kill_in_the_middle_of_a_checkpoint(tmp_path):
    code = 'import sys, test_training_loop as here; here.fit_wide(sys.argv[1])'
    command = [sys.executable, '-c', code, tmp_path / 'killed']
    state, rows = (tmp_path / 'killed' / name for name in ('wide.pt', 'wide_loss.csv'))
    with subprocess.Popen(command, cwd=ROOT / 'test') as process:
        while process.poll() is None and not state.exists():
            os.sched_yield()
        while process.poll() is None and not list(state.parent.glob('.wide.pt.*.partial')):
            os.sched_yield()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 1 <= torch.load(state, weights_only=True)['step'] < 6
    resumed, whole = fit_wide(tmp_path / 'killed'), fit_wide(tmp_path / 'whole')
    assert resumed['step'] == whole['step'] == 6
    for one, other in zip(*(s['average']['shadow_params'] for s in (resumed, whole)), strict=True):
        assert torch.equal(one, other)
    assert rows.read_text() == (tmp_path / 'whole/wide_loss.csv').read_text()


def test_plots_of_the_loss_are_pictures(tmp_path):
    fit_line(tmp_path, stop_at=10)
    first = np.array(Image.open(tmp_path / 'line_loss.png'))
    fit_line(tmp_path)
    second = np.array(Image.open(tmp_path / 'line_loss.png'))
    assert first.shape == second.shape and first.shape[0] > 200
    assert (first != second).any()


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
    dataset = make_dataset(DATASET, tmp_path / 'data', workers=1)
    settings = FitSettings(
        steps=12, batch_size=4, learning_rate=2e-3, warmup_steps=1, checkpoint_every=4
    )

    def train(run, stops):
        for stop in stops:
            torch.manual_seed(0)
            components = build_components(build_autoencoder(32).eval(), profile(DATASET), (16, 32))
            latents = encode_dataset(components.vae, dataset.images, tmp_path / 'latents.npy')
            until = Until(step=stop)
            train_diffusion(components, dataset, latents, latents, settings, tmp_path / run, until)
        return components

    whole, parts = train('whole', [None]), train('parts', [8, None])
    assert torch.equal(whole.unet.conv_in.weight, parts.unet.conv_in.weight)
    assert torch.equal(whole.cc_projection.weight, parts.cc_projection.weight)
    losses = [float(row.split(',')[1]) for row in (tmp_path / 'whole/diffusion_loss.csv').open()]
    assert losses[-1] < losses[0]
