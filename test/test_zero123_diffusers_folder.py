"""Folders in diffusers layout as other projects wrote them, rebuilt file by file."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from nvs_ros.errors import UserError
from nvs_ros.testing.golden import write_golden
from nvs_ros.zero123.components import load_components
from nvs_ros.zero123.convert import convert
from nvs_ros.zero123.diffusers_folder import write_network
from nvs_ros.zero123.layout import NETWORKS, kind_from_name


@pytest.fixture(scope='module')
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp('folder')
    checkpoint = write_golden(folder / 'model.ckpt', average=False)
    convert(checkpoint, folder / 'ours', dtype=torch.float16)
    return folder / 'ours'


@pytest.fixture
def folder(ours, tmp_path):
    """A copy that a test may change (weights are linked, not copied)."""
    shutil.copytree(ours, tmp_path / 'model', copy_function=lambda a, b: Path(b).hardlink_to(a))
    return tmp_path / 'model'


def weights_of(folder, name):
    return next((folder / name).glob('*.safetensors'))


def replace_weights(folder, name, filename, rename=lambda key: key, **more):
    """Write the weights of a component again under other names."""
    path = weights_of(folder, name)
    state = {rename(key): tensor for key, tensor in load_file(path).items()} | more
    path.unlink()
    save = torch.save if filename.endswith('.bin') else save_file
    save(state, path.with_name(filename))


def write_json(path, content):
    path.unlink(missing_ok=True)  # it may be a link to the original
    path.write_text(json.dumps(content))


def assert_same_model(folder, ours):
    found, expected = load_components(folder), load_components(ours)
    for name in NETWORKS:
        state = getattr(found, name).state_dict()
        for key, tensor in getattr(expected, name).state_dict().items():
            assert torch.equal(state[key], tensor), f'{name}: {key}'


def old_vae_name(key):
    for new, old in (
        ('to_q', 'query'),
        ('to_k', 'key'),
        ('to_v', 'value'),
        ('to_out.0', 'proj_attn'),
    ):
        key = key.replace(f'attentions.0.{new}.', f'attentions.0.{old}.')
    return key


def test_pickled_weights_of_old_libraries(folder, ours):
    """Layout of kxic/zero123-xl: ``.bin``, CCProjection, names of diffusers 0.14."""
    replace_weights(folder, 'unet', 'diffusion_pytorch_model.bin')
    replace_weights(folder, 'vae', 'diffusion_pytorch_model.bin', old_vae_name)
    replace_weights(folder, 'cc_projection', 'diffusion_pytorch_model.bin')
    position_ids = {'vision_model.embeddings.position_ids': torch.arange(257)[None]}
    replace_weights(folder, 'image_encoder', 'pytorch_model.bin', **position_ids)
    write_json(folder / 'cc_projection' / 'config.json', {'_class_name': 'CCProjection'})
    write_json(
        folder / 'model_index.json',
        {
            '_class_name': 'Zero1to3StableDiffusionPipeline',
            'cc_projection': ['pipeline_zero1to3', 'CCProjection'],
            'safety_checker': ['stable_diffusion', 'StableDiffusionSafetyChecker'],
        },
    )
    assert_same_model(folder, ours)


def test_half_precision_variant_of_the_other_spelling(folder, ours):
    """Layout of ashawkey/zero123-xl-diffusers: fp16 variant, CLIPCameraProjection."""
    filename = 'diffusion_pytorch_model.fp16.safetensors'
    replace_weights(folder, 'unet', filename)
    replace_weights(folder, 'vae', filename)
    replace_weights(
        folder, 'cc_projection', filename, lambda key: key.replace('projection.', 'proj.')
    )
    replace_weights(folder, 'image_encoder', 'model.fp16.safetensors')
    (folder / 'cc_projection').rename(folder / 'clip_camera_projection')
    assert_same_model(folder, ours)


def test_the_code_of_a_repository_is_not_run(folder, ours):
    trace = folder / 'trace'
    (folder / 'pipeline_zero1to3.py').write_text(f'open({str(trace)!r}, "w")')
    write_json(
        folder / 'model_index.json',
        {
            '_class_name': ['pipeline_zero1to3', 'Pipeline'],
            'unet': ['pipeline_zero1to3', 'UNet'],
        },
    )
    assert_same_model(folder, ours)
    assert not trace.exists()


def test_both_variants(folder):
    """The half-precision file is read for float16, the full one for anything else."""
    path = weights_of(folder, 'unet')
    state = load_file(path)
    full = state['conv_in.bias'].float()
    state['conv_in.bias'] = -state['conv_in.bias']
    save_file(state, path.with_name('diffusion_pytorch_model.fp16.safetensors'))
    assert torch.equal(load_components(folder).unet.conv_in.bias, full)
    half = load_components(folder, dtype=torch.float16).unet.conv_in.bias
    assert torch.equal(half.float(), -full)


def test_shards(folder, ours):
    path = weights_of(folder, 'unet')
    state = sorted(load_file(path).items())
    path.unlink()
    for index in range(3):
        part = f'diffusion_pytorch_model-{index + 1:05}-of-00003.safetensors'
        save_file(dict(state[index::3]), path.with_name(part))
    assert_same_model(folder, ours)


def test_the_schedule_of_another_sampler(folder):
    """What DDIM would assume for entries that PNDM does not have is wrong for this model."""
    write_json(
        folder / 'scheduler' / 'scheduler_config.json',
        {
            '_class_name': 'PNDMScheduler',
            'beta_schedule': 'scaled_linear',
            'beta_start': 0.00085,
            'beta_end': 0.012,
            'num_train_timesteps': 1000,
        },
    )
    scheduler = load_components(folder).scheduler
    assert not scheduler.config.clip_sample
    assert scheduler.final_alpha_cumprod == scheduler.alphas_cumprod[0]
    assert scheduler.alphas_cumprod[999] == pytest.approx(0.004660, abs=1e-6)


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('zero123-xl.ckpt', 'zero123-xl'),
        ('ashawkey/zero123-xl-diffusers', 'zero123-xl'),
        ('Zero123_XL.safetensors', 'zero123-xl'),
        ('105000.ckpt', 'zero123'),
        ('kxic/zero123-165000', 'zero123'),
        ('stable_zero123.ckpt', 'stable-zero123'),
        ('kxic/stable-zero123', 'stable-zero123'),
        ('pixlens', 'zero123'),
    ],
)
def test_kind_from_the_name(name, kind):
    assert kind_from_name(name) == kind


def test_kind_of_a_folder(folder):
    assert load_components(folder).kind == 'zero123'
    assert load_components(folder, kind='stable-zero123').kind == 'stable-zero123'
    stable = folder.rename(folder.with_name('stable-zero123'))
    assert load_components(stable).kind == 'zero123'  # what was recorded beats the name
    (stable / 'model_index.json').unlink()
    assert load_components(stable).kind == 'stable-zero123'


@pytest.mark.parametrize('missing', ['unet', 'scheduler', 'cc_projection'])
def test_a_missing_component_is_named(folder, missing):
    shutil.rmtree(folder / missing)
    with pytest.raises(UserError, match=f'found no {missing}'):
        load_components(folder)


def test_missing_weights_are_named(folder):
    weights_of(folder, 'vae').unlink()
    message = r'vae: expected diffusion_pytorch_model\.safetensors or \.bin, found config\.json'
    with pytest.raises(UserError, match=message):
        load_components(folder)


@pytest.mark.parametrize(
    ('path', 'content', 'message'),
    [
        ('model_index.json', '{', 'model_index.json: expected JSON'),
        ('model_index.json', '{"kind": "one23"}', "expected a kind of .* found 'one23'"),
        ('model_index.json', '{"source": "x"}', "expected an object as source, found 'x'"),
        ('unet/config.json', '[]', 'expected a JSON object, found list'),
        ('unet/config.json', '{"block_out_channels": 3}', 'expected the configuration of a'),
        ('vae/config.json', '{}', 'expected 8 input channels|vae: expected .* tensors'),
        ('image_encoder/config.json', '{"hidden_size": 7}', 'expected the configuration of a'),
    ],
)
def test_a_wrong_configuration(folder, path, content, message):
    (folder / path).unlink()
    (folder / path).write_text(content)
    with pytest.raises(UserError, match=message):
        load_components(folder)


def test_where_a_component_lay_is_not_written(folder, tmp_path):
    """diffusers keeps the folder of a loaded component in its configuration."""
    vae = AutoencoderKL.from_pretrained(folder / 'vae')
    assert str(folder) in str(vae.config._name_or_path)
    write_network(tmp_path, 'vae', vae)
    assert str(folder) not in (tmp_path / 'vae' / 'config.json').read_text()
