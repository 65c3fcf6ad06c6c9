"""Models that take a guide beside the conditioning latent."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from analytic_renderer import Lens, Solid, render

from nvs_ros.errors import UserError
from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.guide import GUIDE_CHANNELS, guide
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical
from nvs_ros.geometry.target import target_from_angles
from nvs_ros.hero.presets import PRESETS
from nvs_ros.synthesizer import Frame, Synthesizer
from nvs_ros.training.diffusion import with_profile
from nvs_ros.zero123.components import EMBEDDED, load_components
from nvs_ros.zero123.conditioning import guide_latents
from nvs_ros.zero123.convert import convert
from nvs_ros.zero123.diffusers_folder import new_folder, write_index, write_network
from nvs_ros.zero123.layout import NETWORKS

BOX = Solid((0.1, 0.07, 0.05), 'box', seed=1)
LENS = Lens(160, 120, np.array([[170.0, 0, 80], [0, 170.0, 60], [0, 0, 1]]))
POSE = pose_from_spherical(Spherical(0.4, 0.5, 0.36))
SHORT = {'early_steps': 2, 'middle_steps': 1, 'late_steps': 1, 'resampling_passes': 2}


def plain_components():
    """The embedded model without its guide, if it has one."""
    components = load_components('embedded')
    profile = dataclasses.replace(components.profile, guide_channels=0)
    if not components.guide_inputs:
        return components
    unet = components.unet
    weight = unet.conv_in.weight[:, : unet.config.in_channels - components.guide_inputs]
    narrow = type(unet).from_config(unet.config, in_channels=weight.shape[1])
    narrow.load_state_dict(unet.state_dict() | {'conv_in.weight': weight})
    return dataclasses.replace(components, unet=narrow.eval(), profile=profile)


def guided(components, seed=None):
    profile = dataclasses.replace(components.profile, guide_channels=GUIDE_CHANNELS)
    made = with_profile(components, profile)
    if seed is not None:
        more = made.unet.conv_in.weight[:, components.unet.config.in_channels :]
        generator = torch.Generator().manual_seed(seed)
        more.data.copy_(0.1 * torch.randn(more.shape, generator=generator))
    return made


@pytest.fixture(scope='module')
def plain():
    return Synthesizer(plain_components())


@pytest.fixture(scope='module')
def with_guide(plain):
    return Synthesizer(guided(plain.components, seed=0))


def frame(depth=True):
    picture = render(BOX, LENS, POSE)
    camera = Camera(LENS.width, LENS.height, LENS.matrix)
    depth_m = picture.depth_m if depth else None
    return Frame(picture.image, picture.mask, camera, POSE, BOX.size_m, depth_m)


def targets_at(observation, *azimuths_rad):
    return [target_from_angles(observation.source, azimuth, 0.1) for azimuth in azimuths_rad]


def views(synthesizer, seen, azimuths=(0.5, 2.0), preset='zero-to-hero', seed=0):
    observation = synthesizer.observe(seen)
    settings = synthesizer.preset(preset, **SHORT, num_inference_steps=3)
    made = synthesizer.synthesize(
        observation, targets_at(observation, *azimuths), settings, seed=seed
    )
    return np.stack([view.image for view in made])


@pytest.mark.parametrize('preset', sorted(set(PRESETS) - {'learned'}))
def test_inputs_that_do_nothing_change_nothing(plain, preset):
    """New inputs start at zero: the guided model makes the views of the one it came from."""
    widened = Synthesizer(guided(plain.components))
    assert widened.components.unet.config.in_channels == 8 + 5 * 16
    one, other = views(plain, frame(), preset=preset), views(widened, frame(), preset=preset)
    # Sums over more channels are added in another order.
    assert np.abs(one.astype(int) - other).max() <= 1


def test_depth_reaches_the_network(with_guide):
    with_depth, without = views(with_guide, frame()), views(with_guide, frame(depth=False))
    assert (with_depth != without).mean() > 0.05


def test_a_model_without_a_guide_pays_nothing(plain):
    observation = plain.observe(frame())
    targets = targets_at(observation, 0.5, 1.0)
    rows, source = plain.conditions(observation, targets)
    latent = observation.condition.latent
    assert source is latent and rows.data_ptr() == latent.data_ptr()
    assert rows.shape == (2, *latent.shape[1:])


def test_unconditional_rows_and_the_source_branch_get_zeros(with_guide):
    seen = []
    hook = with_guide.components.unet.conv_in.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].clone())
    )
    try:
        views(with_guide, frame(), azimuths=(0.5, 1.0))
    finally:
        hook.remove()
    rows = seen[0][:, 8:]  # [uncond: source, two targets; cond: source, two targets]
    assert rows.shape[:2] == (6, 80)
    assert not rows[:4].any() and rows[4].any() and rows[5].any()
    observation = with_guide.observe(frame())
    first = targets_at(observation, 0.5)[0]
    wanted = guide(observation.measurement, first.canonical_camera, first.object_from_canonical)
    assert torch.equal(rows[4], guide_latents(wanted[None], 4)[0])


def test_folding_keeps_each_pixel():
    guides = torch.arange(2 * 5 * 8 * 8.0).reshape(2, 5, 8, 8)
    folded = guide_latents(guides, 4)
    assert folded.shape == (2, 80, 2, 2)
    assert torch.equal(folded[1, 3 * 16 + 2 * 4 + 1, 1, 0], guides[1, 3, 6, 1])


def test_a_view_does_not_depend_on_what_is_made_with_it(with_guide):
    both, alone = views(with_guide, frame()), views(with_guide, frame(), azimuths=(2.0,))
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 2


def test_what_is_remembered_of_the_source_serves_further_views(with_guide):
    fresh = Synthesizer(with_guide.components)
    observation = fresh.observe(frame())
    settings = fresh.preset(**SHORT)
    first = fresh.synthesize(observation, targets_at(observation, 0.5), settings)
    again = fresh.synthesize(observation, targets_at(observation, 0.5), settings)
    assert np.abs(first[0].image.astype(int) - again[0].image).max() <= 2


def write(components, folder):
    with new_folder(folder) as partial:
        for name in NETWORKS:
            write_network(partial, name, getattr(components, name))
        components.scheduler.save_pretrained(partial / 'scheduler')
        write_index(partial, components.kind, {}, components.profile)
    return folder


def test_a_guided_model_is_written_converted_and_loaded(with_guide, tmp_path):
    write(with_guide.components, tmp_path / 'one')
    convert(tmp_path / 'one', tmp_path / 'two')
    loaded = load_components(tmp_path / 'two')
    assert loaded.profile.guide_channels == GUIDE_CHANNELS and loaded.guide_inputs == 80
    assert torch.equal(loaded.unet.conv_in.weight, with_guide.components.unet.conv_in.weight)


def test_a_profile_that_does_not_fit_the_network_is_named(tmp_path):
    shutil.copytree(EMBEDDED, tmp_path / 'model')
    index = json.loads((tmp_path / 'model/model_index.json').read_text())
    had = index['profile'].get('guide_channels', 0)
    index['profile']['guide_channels'] = 0 if had else GUIDE_CHANNELS
    (tmp_path / 'model/model_index.json').write_text(json.dumps(index))
    expected, found = (8, 88) if had else (88, 8)
    with pytest.raises(
        UserError, match=f'expected {expected} input channels of the UNet, found {found}'
    ):
        load_components(tmp_path / 'model')
    index['profile']['guide_channels'] = 3
    (tmp_path / 'model/model_index.json').write_text(json.dumps(index))
    with pytest.raises(UserError, match='guide_channels: expected 0 or 5, got 3'):
        load_components(tmp_path / 'model')


def test_a_guide_is_not_taken_away(with_guide):
    profile = dataclasses.replace(with_guide.components.profile, guide_channels=0)
    with pytest.raises(UserError, match='expected a model without a guide'):
        with_profile(with_guide.components, profile)


def test_measured_pixels_stay_for_any_model(plain):
    observation = plain.observe(frame())
    targets, settings = targets_at(observation, 0.3), plain.preset(**SHORT)
    (kept,) = plain.synthesize(observation, targets, settings)
    (imagined,) = plain.synthesize(observation, targets, settings, keep=False)
    assert kept.measured_share > 0.4 and imagined.measured_share == 0
    difference = np.abs(kept.image.astype(int) - imagined.image).max(-1)
    # The second run has the source branch from memory: its rows are summed in another order.
    assert difference.max() > 20
    changed = (kept.measured == 0) & (difference > 2)
    assert (kept.image[changed] == 255).all() and not kept.mask[changed].any()  # seen empty
    without = plain.observe(frame(depth=False))
    (view,) = plain.synthesize(without, targets, settings)
    assert not view.measured.any()
