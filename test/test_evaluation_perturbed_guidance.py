"""PAG and SEG, against the three evaluations of each step made one by one."""

import math

import numpy as np
import pytest
import torch
from hero_models import SHORT, original_scheduler, request, tiny_unet, zero_snr_scheduler
from scipy.ndimage import gaussian_filter
from short_model import make_short_model

from nvs_ros.errors import UserError
from nvs_ros.evaluation.methods import parse_preset, pictures_of
from nvs_ros.evaluation.perturbed_guidance import Perturbation, perturbed_guidance
from nvs_ros.evaluation.sets import open_set
from nvs_ros.geometry import target_from_pose
from nvs_ros.hero import preset, sample
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.synthesizer import Synthesizer

SETTINGS = preset('hourglass', **SHORT | {'resampling_passes': 1})
UNGUIDED = preset('hourglass', **SHORT | {'resampling_passes': 1, 'guidance_scale': 1.0})


def wide_request(targets=2):
    """Latents of 8 x 16, so that rows and columns of a grid cannot be taken for each other."""
    wide = request(targets)
    for name in ('cond_latents', 'noise'):
        wide[name] = torch.cat([wide[name], request(targets, seed=1)[name]], 3)
    return wide


def sampled(unet, settings=SETTINGS, perturbation=None, scheduler=zero_snr_scheduler):
    if perturbation is None:
        return sample(unet, scheduler(), settings=settings, **wide_request())
    with perturbed_guidance(unet, settings, perturbation):
        return sample(unet, scheduler(), settings=settings, **wide_request())


class ByHand:
    """Self-attention with the identity for its maps, or with blurred queries."""

    def __init__(self, sigma=None):
        self.sigma = sigma

    def __call__(self, attn, hidden, encoder_hidden_states=None, attention_mask=None):
        values = attn.to_v(hidden)
        if self.sigma is None:
            return attn.to_out[0](values)
        query = attn.to_q(hidden)
        if math.isinf(self.sigma):
            query = query.mean(1, keepdim=True).expand_as(query)
        else:
            height = math.isqrt(query.shape[1] // 2)
            on_grid = query.unflatten(1, (height, 2 * height)).numpy()
            blurred = gaussian_filter(on_grid, (0, self.sigma, self.sigma, 0))
            query = torch.from_numpy(blurred).flatten(1, 2)
        query, key, value = (
            x.unflatten(2, (attn.heads, -1)) for x in (query, attn.to_k(hidden), values)
        )
        maps = (torch.einsum('nihd,njhd->nhij', query, key) * attn.scale).softmax(-1)
        return attn.to_out[0](torch.einsum('nhij,njhd->nihd', maps, value).flatten(2))


def guided_by_hand(settings, scale, layers, sigma=None):
    """A UNet that returns, for each group of its rows, what guidance makes of three evaluations."""
    unet = tiny_unet()
    evaluate, attention = unet.forward, self_attention_layers(unet)

    def forward(rows, timestep, context, return_dict):
        count = len(rows) // (2 if settings.guidance_scale > 1 else 1)
        condition = rows[-count:], timestep, context[-count:]
        cond = evaluate(*condition).sample
        processors = {name: attention[name].processor for name in layers}
        for name in layers:
            attention[name].set_processor(ByHand(sigma))
        away = cond - evaluate(*condition).sample
        for name in layers:
            attention[name].set_processor(processors[name])
        if settings.guidance_scale > 1:
            uncond = evaluate(rows[:count], timestep, context[:count]).sample
            cond = uncond + settings.guidance_scale * (cond - uncond)
        return ((cond + scale * away).repeat(len(rows) // count, 1, 1, 1),)

    unet.forward = forward
    return unet


@pytest.mark.parametrize('settings', [SETTINGS, UNGUIDED], ids=['guided', 'unguided'])
@pytest.mark.parametrize(
    'perturbation',
    [
        Perturbation('pag', 1.5),
        Perturbation('pag', 2.0, 'mid_block+up_blocks.2'),
        Perturbation('seg', 1.5, sigma=0.8),
        Perturbation('seg', 2.0, 'up_blocks', math.inf),
    ],
    ids=repr,
)
def test_it_is_three_evaluations_made_one_by_one(perturbation, settings):
    unet = tiny_unet()
    layers = [
        name
        for name in self_attention_layers(unet)
        if perturbation.layers == 'all' or name.startswith(tuple(perturbation.layers.split('+')))
    ]
    sigma = None if perturbation.kind == 'pag' else perturbation.sigma
    hand = guided_by_hand(settings, perturbation.scale, layers, sigma)
    expected = sampled(hand, settings, scheduler=original_scheduler)
    made = sampled(unet, settings, perturbation, original_scheduler)
    plain = sampled(unet, settings, scheduler=original_scheduler)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert (made - plain).abs().max() > 0.01 * plain.abs().max()


@pytest.mark.parametrize(
    'perturbation',
    [Perturbation('pag', 0.0), Perturbation('seg', 0.0), Perturbation('seg', 3.0, sigma=1e-3)],
    ids=repr,
)
def test_without_scale_or_blur_it_is_plain_sampling(perturbation):
    unet = tiny_unet()
    plain, made = sampled(unet), sampled(unet, perturbation=perturbation)
    torch.testing.assert_close(made, plain, rtol=0, atol=1e-4 * float(plain.abs().max()))


def test_a_growing_blur_tends_to_the_mean_query():
    unet = tiny_unet()
    mean, near, far = (
        sampled(unet, perturbation=Perturbation('seg', 2.0, sigma=sigma))
        for sigma in (math.inf, 100.0, 1.0)
    )
    torch.testing.assert_close(near, mean, rtol=0, atol=1e-4 * float(mean.abs().max()))
    assert (far - mean).abs().max() > 0.001 * mean.abs().max()


def test_a_unet_is_as_before_afterwards():
    unet = tiny_unet()
    plain = sampled(unet)
    with pytest.raises(ZeroDivisionError), perturbed_guidance(unet, SETTINGS, _SOME):
        sample(unet, zero_snr_scheduler(), settings=SETTINGS, **wide_request())
        raise ZeroDivisionError
    assert torch.equal(sampled(unet), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


_SOME = Perturbation('pag', 1.0)


def test_rows_that_are_no_groups_are_refused():
    unet = tiny_unet()
    rows, context = torch.zeros(3, 8, 8, 8), torch.zeros(3, 1, 16)
    with (
        perturbed_guidance(unet, SETTINGS, _SOME),
        pytest.raises(ValueError, match='expected 2 equal groups of rows, got 3 rows'),
    ):
        unet(rows, 5, context, return_dict=False)


@pytest.fixture(scope='module')
def synthesizer(tmp_path_factory):
    model = make_short_model(tmp_path_factory.mktemp('models') / 'short')
    return Synthesizer.from_pretrained(model, device='cpu')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('hourglass:pag=-1', 'pag: expected a scale of at least 0, got -1'),
        ('hourglass:pag=much', "pag: expected a number, got 'much'"),
        ('hourglass:seg=true', 'seg: expected a number, got True'),
        ('hourglass:seg=1:seg_sigma=0', 'seg_sigma: expected a width above 0, got 0'),
        ('hourglass:seg=1:pag=1', 'either pag or seg'),
        ('hourglass:pag_layers=mid_block', 'pag_layers'),
        ('hourglass:pag=1:pag_layers=mid_block+up_block', "pag_layers: .* got 'up_block'"),
        ('amf:pag=1', 'filtering: expected False with pag, got True'),
        ('msa:seg=1', 'mutual_self_attention: expected False with seg, got True'),
    ],
)
def test_a_perturbation_that_cannot_be_is_named(synthesizer, text, words):
    with pytest.raises(UserError, match=words):
        parse_preset(synthesizer, text)


def test_a_preset_says_what_is_perturbed(synthesizer):
    method = parse_preset(synthesizer, 'hourglass:seg=2:seg_sigma=inf:seg_layers=up_blocks.2')
    assert method.perturbation == Perturbation('seg', 2.0, 'up_blocks.2', math.inf)
    assert method.settings == synthesizer.preset('hourglass')
    unet = synthesizer.components.unet
    chosen = method.perturbation.chosen(unet)
    assert [name for name in self_attention_layers(unet) if 'up_blocks.2' in name] == list(chosen)


@pytest.mark.parametrize(
    ('text', 'evaluations'),
    [
        ('hourglass', 4),
        ('hourglass:pag=1', 6),
        ('hourglass:early_steps=1:pag=1', 5),  # 4.5
        ('hourglass:seg=1:guidance_scale=1', 4),
    ],
)
def test_the_third_row_of_an_evaluation_costs_a_half(synthesizer, text, evaluations):
    assert parse_preset(synthesizer, text).evaluations(synthesizer) == evaluations


def test_views_are_made_with_it(synthesizer):
    """On the embedded model: nothing at scale 0, something else above it."""
    views = open_set('household', split='validation', views=2, size=64).views(1)
    trained = synthesizer.components.profile.trained
    source = views.canonical(0, trained)
    pose = views.canonical(1, trained).object_from_camera
    targets = [target_from_pose(source, source.camera, pose)]
    observation = synthesizer.observe(source)
    plain, nothing, pag, seg = (
        pictures_of(
            parse_preset(synthesizer, text), synthesizer, observation, targets, views.images[1:], 3
        ).astype(int)
        for text in ('hourglass', 'hourglass:pag=0', 'hourglass:pag=2', 'hourglass:seg=2')
    )
    assert np.abs(nothing - plain).max() <= 1
    assert np.abs(pag - plain).mean() > 0.5
    assert np.abs(seg - plain).mean() > 0.5
    assert np.abs(seg - pag).mean() > 0.5
