"""Preprocessing of the original, against formulas written down a second time."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from nvs_ros.errors import UserError
from nvs_ros.zero123.components import Zero123Components, load_components
from nvs_ros.zero123.conditioning import (
    clip_pixels,
    decode_latents,
    encode_images,
    network_images,
    pose_tokens,
    rgb_images,
)
from nvs_ros.zero123.profile import ModelProfile


def tiny_components(kind='zero123', pose_width=4):
    torch.manual_seed(0)
    components = Zero123Components(
        vae=AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            latent_channels=4,
            down_block_types=['DownEncoderBlock2D'] * 2,
            up_block_types=['UpDecoderBlock2D'] * 2,
        ),
        unet=UNet2DConditionModel(
            sample_size=16,
            in_channels=8,
            out_channels=4,
            block_out_channels=(32,),
            down_block_types=['CrossAttnDownBlock2D'],
            up_block_types=['CrossAttnUpBlock2D'],
            cross_attention_dim=20,
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=28,
                patch_size=14,
                projection_dim=12,
            )
        ),
        cc_projection=torch.nn.Linear(12 + pose_width, 20),
        scheduler=DDIMScheduler(),
        kind=kind,
        model_id='tiny',
        profile=ModelProfile(),
    )
    for module in (components.vae, components.unet, components.image_encoder):
        module.eval()
    return components


@pytest.fixture(scope='module')
def components():
    return tiny_components()


@pytest.fixture
def images():
    generator = np.random.Generator(np.random.PCG64(1))
    return network_images(generator.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))


def cubic_weights(offset):
    """Keys' kernel with a = -0.75 at the four neighbours of a sample."""
    distance = np.abs(np.array([1 + offset, offset, 1 - offset, 2 - offset]))
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)


def test_clip_pixels_is_a_bicubic_resize_with_aligned_corners():
    """Corners map to corners, no antialiasing although it shrinks, no clamp."""
    row = np.random.Generator(np.random.PCG64(2)).uniform(-1, 1, 64)
    image = torch.from_numpy(np.tile(row, (3, 64, 1))[None])
    expected = []
    for position in np.linspace(0, 63, 16):
        first = int(position)
        taps = np.clip(np.arange(first - 1, first + 3), 0, 63)
        expected.append(row[taps] @ cubic_weights(position - first))
    mean = np.array([0.48145466, 0.4578275, 0.40821073])[:, None]
    std = np.array([0.26862954, 0.26130258, 0.27577711])[:, None]
    expected = ((np.array(expected) + 1) / 2 - mean) / std
    found = clip_pixels(image, 16)
    assert found.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(found[0, :, 7].numpy(), expected, atol=1e-5)


def test_images_to_the_network_and_back():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    network = network_images(image)
    assert network.shape == (1, 3, 16, 16)
    assert network.min() == -1
    assert network.max() == 1
    assert np.array_equal(rgb_images(network), image)
    assert np.array_equal(rgb_images(torch.full((1, 3, 1, 1), 1.7)), np.full((1, 1, 1, 3), 255))


@pytest.mark.parametrize('images', [np.zeros((1, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)])
def test_images_of_another_type(images):
    with pytest.raises(ValueError, match=r'expected \(n, H, W, 3\) uint8, got'):
        network_images(images)


def test_the_conditioning_latent_is_the_mode_and_not_scaled(components, images):
    condition = encode_images(components, images)
    moments = components.vae.quant_conv(components.vae.encoder(images))
    torch.testing.assert_close(condition.latent, moments[:, :4])
    assert condition.latent.shape == (2, 4, 16, 16)


def test_the_embedding_is_projected_and_not_normalised(components, images):
    condition = encode_images(components, images)
    encoder = components.image_encoder
    pooled = encoder.vision_model(clip_pixels(images, 28)).pooler_output
    torch.testing.assert_close(condition.embedding, encoder.visual_projection(pooled)[:, None])
    assert condition.embedding.shape == (2, 1, 12)


def test_decoding_undoes_the_scale(components):
    latents = torch.randn(1, 4, 16, 16)
    expected = components.vae.decode(latents / 0.18215).sample
    torch.testing.assert_close(decode_latents(components, latents), expected)


def test_sizes_come_from_the_components(components):
    assert (components.latent_size, components.image_size) == (16, 32)


def test_one_embedding_serves_all_poses(components):
    embedding = torch.randn(1, 1, 12)
    poses = np.array([[0.1, 0.5, 0.8, 0.2], [0.0, 0.0, 1.0, 0.0]])
    tokens = pose_tokens(components, embedding, poses)
    layer = components.cc_projection
    for token, pose in zip(tokens, poses, strict=True):
        joined = torch.cat([embedding[0, 0], torch.tensor(pose, dtype=torch.float32)])
        torch.testing.assert_close(token[0], layer.weight @ joined + layer.bias)


def test_stable_zero123_is_told_the_polar_angle():
    components = tiny_components('stable-zero123')
    embedding = torch.randn(1, 1, 12)
    pose = np.array([[0.1, 0.5, 0.8, 0.2]])
    token = pose_tokens(components, embedding, pose, source_polar_rad=1.2)
    joined = torch.cat([embedding[0, 0], torch.tensor([0.1, 0.5, 0.8, 1.2])])
    layer = components.cc_projection
    torch.testing.assert_close(token[0, 0], layer.weight @ joined + layer.bias)
    with pytest.raises(ValueError, match='stable-zero123 needs source_polar_rad, got None'):
        pose_tokens(components, embedding, pose)


def test_other_kinds_ignore_the_polar_angle(components):
    embedding, pose = torch.randn(1, 1, 12), np.array([[0.1, 0.5, 0.8, 0.2]])
    with_angle = pose_tokens(components, embedding, pose, source_polar_rad=1.2)
    assert torch.equal(with_angle, pose_tokens(components, embedding, pose))


@pytest.mark.parametrize(
    ('shape', 'poses', 'message'),
    [
        ((1, 1, 12), np.zeros((2, 3)), r'expected pose vectors \(m, 4\), got \(2, 3\)'),
        ((1, 1, 12), np.full((1, 4), np.nan), 'expected finite pose vectors'),
        ((2, 1, 12), np.zeros((3, 4)), r'\(1 or 3, 1, 12\), got \(2, 1, 12\)'),
        ((1, 12), np.zeros((1, 4)), r'got \(1, 12\)'),
    ],
)
def test_wrong_poses_and_embeddings(components, shape, poses, message):
    with pytest.raises(ValueError, match=message):
        pose_tokens(components, torch.zeros(shape), poses)


def test_wrong_images(components):
    with pytest.raises(ValueError, match=r'expected images \(n, 3, 32, 32\), got \(1, 3, 64, 64\)'):
        encode_images(components, torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match='expected finite images'):
        encode_images(components, torch.full((1, 3, 32, 32), torch.nan))


def test_components_that_do_not_fit_together():
    with pytest.raises(UserError, match='expected 16 inputs of cc_projection, found 17'):
        tiny_components(pose_width=5)
    with pytest.raises(UserError, match="expected a kind of zero123, .* got 'zero124'"):
        tiny_components(kind='zero124')


def test_a_source_that_is_nowhere():
    with pytest.raises(UserError, match='no such model: expected "embedded"'):
        load_components('/does/not/exist.ckpt')
