"""From an original checkpoint to a folder: nothing is lost, nothing half done."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPVisionModelWithProjection

from nvs_ros.cli import main
from nvs_ros.errors import UserError
from nvs_ros.geometry.canonical import photograph_view
from nvs_ros.geometry.target import target_from_angles
from nvs_ros.hero.presets import preset
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.testing.golden import golden, golden_state, write_golden
from nvs_ros.zero123.components import load_components
from nvs_ros.zero123.convert import convert
from nvs_ros.zero123.diffusers_folder import new_folder
from nvs_ros.zero123.layout import NETWORKS
from nvs_ros.zero123.ldm import unet_config, unet_name, vae_name


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_golden(tmp_path_factory.mktemp('original') / 'zero123-xl.ckpt')


@pytest.fixture(scope='module')
def folder(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp('converted') / 'xl'
    convert(checkpoint, folder)
    return folder


def states(components):
    return {name: getattr(components, name).state_dict() for name in NETWORKS}


def assert_same(found, expected):
    for name in NETWORKS:
        assert found[name].keys() == expected[name].keys()
        for key, tensor in expected[name].items():
            assert torch.equal(found[name][key], tensor), f'{name}: {key}'


def views(source):
    synthesizer = Synthesizer.from_pretrained(source, device='cpu', dtype=torch.float32)
    image = golden()['image'][0].transpose(1, 2, 0).copy()
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[64:192, 64:192] = 255
    observation = synthesizer.observe(photograph_view(image, mask))
    target = target_from_angles(observation.source, azimuth_rad=0.5, elevation_rad=0.1)
    settings = preset('zero123', num_inference_steps=2)
    return synthesizer.preset(), synthesizer.synthesize(observation, [target], settings, seed=3)


def test_round_trip_is_exact(checkpoint, folder):
    assert_same(states(load_components(folder)), states(load_components(checkpoint)))


def test_round_trip_through_the_synthesizer_is_exact(checkpoint, folder):
    (original_preset, [original]), (converted_preset, [converted]) = (
        views(checkpoint),
        views(folder),
    )
    assert original_preset == converted_preset
    assert np.array_equal(original.image, converted.image)
    assert original.image.std() > 0


def test_index_records_kind_and_source(checkpoint, folder):
    index = json.loads((folder / 'model_index.json').read_text())
    assert index['kind'] == 'zero123-xl'
    assert index['source']['ema'] is True
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert index['source']['sha256'] == {'zero123-xl.ckpt': digest}


def test_libraries_read_the_folder(folder):
    components = load_components(folder)
    for name, model in (
        ('unet', UNet2DConditionModel),
        ('vae', AutoencoderKL),
        ('image_encoder', CLIPVisionModelWithProjection),
    ):
        state = model.from_pretrained(folder, subfolder=name).state_dict()
        for key, tensor in getattr(components, name).state_dict().items():
            assert torch.equal(state[key], tensor), f'{name}: {key}'
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder='scheduler')
    assert scheduler.alphas_cumprod[999] == pytest.approx(0.004660, abs=1e-6)
    assert scheduler.alphas_cumprod[0] == pytest.approx(0.99915, abs=1e-6)


def test_names_are_those_of_the_diffusers_converter():
    oracle = pytest.importorskip('diffusers.loaders.single_file_utils')
    state = golden_state()
    prefix, vae_prefix = 'model.diffusion_model.', 'first_stage_model.'
    unet = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    config = unet_config({name: tuple(tensor.shape) for name, tensor in unet.items()})
    expected = oracle.convert_ldm_unet_checkpoint(state, config)
    found = {unet_name(name, config['layers_per_block']): tensor for name, tensor in unet.items()}
    assert {k: v.data_ptr() for k, v in found.items()} == {
        k: v.data_ptr() for k, v in expected.items()
    }
    vae = {k.removeprefix(vae_prefix): v for k, v in state.items() if k.startswith(vae_prefix)}
    blocks = {'down_block_types': [''] * 4, 'up_block_types': [''] * 4}
    expected = oracle.convert_ldm_vae_checkpoint(state, blocks)
    assert {vae_name(k, 4): v.data_ptr() for k, v in vae.items()} == {
        k: v.data_ptr() for k, v in expected.items()
    }


@pytest.mark.parametrize('blocks', [1, 3])
@pytest.mark.parametrize('attends', [(True, True), (False, True), (True, False)])
def test_unet_configuration_from_shapes(blocks, attends):
    """An original UNet of other depth and attention: names and sizes that diffusers builds."""
    unet = UNet2DConditionModel(
        in_channels=8,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=blocks,
        cross_attention_dim=24,
        attention_head_dim=8,
        down_block_types=['CrossAttnDownBlock2D' if a else 'DownBlock2D' for a in attends],
        up_block_types=['CrossAttnUpBlock2D' if a else 'UpBlock2D' for a in attends[::-1]],
    )
    expected = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    shapes = original_unet_shapes(expected, blocks, attends)
    config = unet_config(shapes)
    rebuilt = UNet2DConditionModel.from_config(config)
    assert {name: tuple(t.shape) for name, t in rebuilt.state_dict().items()} == expected
    assert {unet_name(name, blocks): shape for name, shape in shapes.items()} == expected


def original_unet_shapes(expected, blocks, attends):
    """Original names, written down from the layout of the original UNet rather than derived."""
    levels = len(attends)
    stems = {
        'time_embed.0': 'time_embedding.linear_1',
        'time_embed.2': 'time_embedding.linear_2',
        'input_blocks.0.0': 'conv_in',
        'out.0': 'conv_norm_out',
        'out.2': 'conv_out',
        'middle_block.0': 'mid_block.resnets.0',
        'middle_block.1': 'mid_block.attentions.0',
        'middle_block.2': 'mid_block.resnets.1',
    }
    index = 1
    for level in range(levels):
        for layer in range(blocks):
            stems[f'input_blocks.{index}.0'] = f'down_blocks.{level}.resnets.{layer}'
            if attends[level]:
                stems[f'input_blocks.{index}.1'] = f'down_blocks.{level}.attentions.{layer}'
            index += 1
        if level < levels - 1:
            stems[f'input_blocks.{index}.0.op'] = f'down_blocks.{level}.downsamplers.0.conv'
            index += 1
    index = 0
    for level in range(levels):
        for layer in range(blocks + 1):
            stems[f'output_blocks.{index}.0'] = f'up_blocks.{level}.resnets.{layer}'
            attention = attends[levels - 1 - level]
            if attention:
                stems[f'output_blocks.{index}.1'] = f'up_blocks.{level}.attentions.{layer}'
            if layer == blocks and level < levels - 1:
                part = f'output_blocks.{index}.{1 + attention}.conv'
                stems[part] = f'up_blocks.{level}.upsamplers.0.conv'
            index += 1
    parts = {
        'norm1': 'in_layers.0',
        'conv1': 'in_layers.2',
        'time_emb_proj': 'emb_layers.1',
        'norm2': 'out_layers.0',
        'conv2': 'out_layers.3',
        'conv_shortcut': 'skip_connection',
    }
    shapes = {}
    for old, new in stems.items():
        for name, shape in expected.items():
            if name.startswith(new + '.'):
                part, _, leaf = name.removeprefix(new + '.').rpartition('.')
                part = parts.get(part, part) if '.resnets.' in name else part
                shapes['.'.join(filter(None, (old, part, leaf)))] = shape
    return shapes


def test_options_reach_the_folder(checkpoint, tmp_path):
    output = tmp_path / 'model'
    options = ['--no-ema', '--dtype', 'float16', '--kind', 'stable-zero123']
    assert main(['convert', str(checkpoint), str(output), *options]) == 0
    found = load_components(output, dtype=torch.float16)
    assert found.kind == 'stable-zero123'
    assert found.unet.conv_in.weight.dtype == torch.float16
    assert_same(
        states(found), states(load_components(checkpoint, use_ema=False).to(dtype=torch.float16))
    )
    with safe_open(output / 'unet' / 'diffusion_pytorch_model.safetensors', 'pt') as file:
        assert file.get_tensor('conv_in.weight').dtype == torch.float16


def test_the_average_is_taken_where_there_is_one(checkpoint, tmp_path):
    key = 'model.diffusion_model.input_blocks.0.0.weight'
    average = 'model_ema.diffusion_modelinput_blocks00weight'
    unet = load_components(checkpoint).unet
    assert torch.equal(unet.conv_in.weight, golden_state()[average])
    pruned = write_golden(tmp_path / 'pruned.ckpt', average=False)
    unet = load_components(pruned).unet
    assert torch.equal(unet.conv_in.weight, golden_state()[key])


def test_an_original_in_safetensors(checkpoint, tmp_path):
    save_file(golden_state(), tmp_path / 'xl.safetensors')
    found = load_components(tmp_path / 'xl.safetensors')
    assert_same(states(found), states(load_components(checkpoint)))


def test_an_existing_folder_is_left_alone(checkpoint, tmp_path, capsys):
    (tmp_path / 'notes.txt').write_text('mine')
    assert main(['convert', str(checkpoint), str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert 'expected a new or an empty folder' in message
    assert message.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_a_refused_input_leaves_nothing(tmp_path, capsys):
    (tmp_path / 'bad.ckpt').write_bytes(b'not a checkpoint')
    assert main(['convert', str(tmp_path / 'bad.ckpt'), str(tmp_path / 'out')]) == 2
    assert 'bad.ckpt' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['bad.ckpt']


DIES_AFTER_THE_VAE = """
import os, signal, sys
from pathlib import Path
from nvs_ros.zero123 import convert

def write_and_die(folder, name, module, write=convert.write_network):
    write(folder, name, module)
    os.kill(os.getpid(), signal.SIGKILL)

convert.write_network = write_and_die
convert.convert(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_killed_conversion_leaves_no_half_folder(checkpoint, tmp_path):
    output, partial = tmp_path / 'out', tmp_path / '.out.partial'
    process = subprocess.run([sys.executable, '-c', DIES_AFTER_THE_VAE, checkpoint, output])
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    assert (partial / 'vae').exists()
    assert main(['convert', str(checkpoint), str(output)]) == 0
    assert not partial.exists()
    load_components(output)


def test_two_writers_of_one_folder(tmp_path):
    with new_folder(tmp_path / 'out') as folder:
        (folder / 'first').touch()
        with (
            pytest.raises(UserError, match='another process'),
            new_folder(tmp_path / 'out'),
        ):
            pass
    assert os.listdir(tmp_path / 'out') == ['first']


def test_an_interrupt_while_torch_is_imported_is_no_traceback(tmp_path):
    command = [sys.executable, '-m', 'nvs_ros', 'convert', 'none.ckpt', str(tmp_path / 'out')]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        maps, deadline = Path(f'/proc/{process.pid}/maps'), time.monotonic() + 60
        while 'libtorch' not in maps.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == ''
    assert process.returncode == 130


SWALLOWED = """
import os, signal, sys
from nvs_ros import cli
from nvs_ros.commands import convert
from nvs_ros.errors import UserError

def run(arguments):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except BaseException:  # as some libraries do while they are imported
        raise UserError('it went on') from None

convert.run = run
sys.argv = ['nvs_ros', 'convert', 'a', 'b']
sys.exit(cli.main())
"""


def test_an_interrupt_that_a_library_swallows_is_one_all_the_same():
    process = subprocess.run([sys.executable, '-c', SWALLOWED], capture_output=True, text=True)
    assert process.returncode == 130 and process.stderr == ''
