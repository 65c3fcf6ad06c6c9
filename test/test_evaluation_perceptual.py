"""LPIPS without torchvision."""

import numpy as np
import pytest
import torch
from torch import nn

from nvs_ros.evaluation.perceptual import find_perceptual, perceptual_distance, weights_file

CHANNELS = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))


def random_weights():
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for i, (before, after, side) in enumerate(CHANNELS):
        kernel = torch.randn(after, before, side, side, generator=generator)
        weights[f'conv_{i}.weight'] = kernel / (before * side**2) ** 0.5
        weights[f'conv_{i}.bias'] = 0.1 * torch.randn(after, generator=generator)
        weights[f'linear_{i}'] = torch.rand(after, generator=generator)
    return weights


def alexnet(weights):
    """Its convolutions as torchvision lists them."""
    convolutions = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        *(nn.Conv2d(*channels, 3, padding=1) for channels in ((192, 384), (384, 256), (256, 256))),
    ]
    for i, layer in enumerate(convolutions):
        names = ('weight', 'bias')
        layer.load_state_dict({name: weights[f'conv_{i}.{name}'] for name in names})
    first, second, *rest = convolutions
    layers = [first, nn.ReLU(), nn.MaxPool2d(3, 2), second, nn.ReLU(), nn.MaxPool2d(3, 2)]
    for layer in rest:
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def pictures(size, noise):
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    other = image.astype(int) + rng.integers(-noise, noise + 1, image.shape)
    return image, np.clip(other, 0, 255).astype(np.uint8)


@torch.no_grad()
def by_hand(weights, image, other):
    """The definition: features of unit length, weighted squared differences, mean, sum."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    features = []
    for picture in (image, other):
        scaled = (picture / 127.5 - 1 - shift) / scale
        rows, found = torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)[None], []
        for layer in alexnet(weights):
            rows = layer(rows)
            if isinstance(layer, nn.ReLU):
                found.append(rows[0].numpy().astype(np.float64))
        features.append(found)
    total = 0.0
    for i, (a, b) in enumerate(zip(*features, strict=True)):
        a, b = (x / np.sqrt((x**2).sum(0)) for x in (a, b))
        linear = weights[f'linear_{i}'].numpy()
        total += ((a - b) ** 2 * linear[:, None, None]).sum(0).mean()
    return total


@pytest.mark.parametrize('size', [64, 97])
def test_the_distance_is_that_of_the_definition(size):
    weights = random_weights()
    image, other = pictures(size, 60)
    expected = by_hand(weights, image, other)
    distance = perceptual_distance(weights)
    assert distance(image, other) == pytest.approx(expected, rel=1e-4)
    assert distance(image, image) == 0


def test_the_published_weights_give_the_published_distance():
    """As lpips 0.1.4 (AlexNet, version 0.1) answers for the same pictures."""
    perceptual, note = find_perceptual()
    if perceptual is None:
        pytest.skip(note)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    other = np.clip(image.astype(int) + rng.integers(-60, 60, image.shape), 0, 255)
    assert perceptual(image, other.astype(np.uint8)) == pytest.approx(0.0230358, abs=1e-5)


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    perceptual, note = find_perceptual()
    assert perceptual is None and note.startswith('not measured: no ') and 'fetch_lpips' in note
    assert weights_file().is_relative_to(tmp_path)
