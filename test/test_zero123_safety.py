"""What must not be loaded is refused, with what was expected and what was found."""

import pickle
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nvs_ros.cli import main
from nvs_ros.errors import UserError
from nvs_ros.testing.golden import golden_state, write_golden
from nvs_ros.zero123.components import load_components
from nvs_ros.zero123.ldm import open_checkpoint
from nvs_ros.zero123.weights import open_weights


class Malicious:
    """Creates a file when a careless unpickler reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f'open({str(self.path)!r}, "w").close()',)


def write_archive(content, path):
    torch.save(content, path)


def write_protocol_4(content, path):
    torch.save(content, path, pickle_protocol=4)


def write_old_torch(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors'])
@pytest.mark.parametrize('write', [write_archive, write_protocol_4, write_old_torch, write_pickle])
def test_a_malicious_pickle_does_not_run(tmp_path, write, suffix, capsys):
    trace, path = tmp_path / 'trace', tmp_path / f'model{suffix}'
    content = {'state_dict': {'cc_projection.weight': torch.zeros(4, 8)}, 'evil': Malicious(trace)}
    write(content, path)
    assert main(['convert', str(path), str(tmp_path / 'out')]) == 2
    message = capsys.readouterr().err
    assert message.count('\n') == 1
    assert 'refused' in message
    assert re.search(r'builtin(s|__)\.exec', message)
    assert not trace.exists()
    assert not (tmp_path / 'out').exists()
    with path.open('rb') as file:  # the file would have run: the test is not about a harmless one
        if write is write_pickle:
            pickle.load(file)
            assert trace.exists()


def test_a_malicious_bin_in_a_folder_does_not_run(tmp_path):
    for name in ('unet', 'vae', 'image_encoder', 'scheduler', 'cc_projection'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'config.json').write_text('{}')
    trace = tmp_path / 'trace'
    for name in ('unet', 'vae', 'image_encoder', 'cc_projection'):
        torch.save(Malicious(trace), tmp_path / name / 'diffusion_pytorch_model.bin')
    with pytest.raises(UserError, match=r'builtins\.exec'):
        load_components(tmp_path)
    assert not trace.exists()


@pytest.fixture
def foreign_classes(monkeypatch):
    """Classes that are called as those in the files of Lightning and OmegaConf."""

    def define(name):
        module_name, _, class_name = name.rpartition('.')
        parts = module_name.split('.')
        for count in range(1, len(parts) + 1):
            parent = '.'.join(parts[:count])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        made = type(class_name, (), {'__module__': module_name})
        monkeypatch.setattr(sys.modules[module_name], class_name, made, raising=False)
        return made

    return define


def test_bookkeeping_of_lightning_is_read_over(tmp_path, foreign_classes):
    checkpoint = foreign_classes('pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint')
    parameters = foreign_classes('omegaconf.dictconfig.DictConfig')()
    parameters.content = {'base_learning_rate': 1e-4}
    path = tmp_path / 'last.ckpt'
    content = {
        'epoch': 7,
        'state_dict': {'weight': torch.arange(6.0).view(2, 3)},
        'callbacks': {checkpoint: {'best_model_score': np.float64(0.3)}},
        'hyper_parameters': parameters,
        'optimizer_states': [{'state': {0: {'exp_avg': torch.zeros(3)}}}],
    }
    torch.save(content, path)
    file = open_weights(path)
    assert file.shapes == {'weight': (2, 3)}
    assert torch.equal(file.read('weight'), content['state_dict']['weight'])


def test_an_unknown_class_is_named(tmp_path, foreign_classes):
    torch.save({'state_dict': {}, 'x': foreign_classes('ldm.models.Secret')()}, tmp_path / 'a.ckpt')
    with pytest.raises(UserError, match=r'ldm\.models\.Secret'):
        open_weights(tmp_path / 'a.ckpt')


def test_tensors_keep_their_layout(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    state = {
        'part': base[1:3],
        'transposed': base.T,
        'half': base.half(),
        'brain': base.to(torch.bfloat16),
        'parameter': torch.nn.Parameter(base + 1),
        'scalar': torch.tensor(3.0),
    }
    torch.save(state, tmp_path / 'a.bin')
    file = open_weights(tmp_path / 'a.bin')
    for name, tensor in state.items():
        found = file.read(name)
        assert found.dtype == tensor.dtype
        assert found.is_contiguous()
        assert torch.equal(found, tensor)


def damaged(tmp_path, change):
    path = write_golden(tmp_path / 'model.ckpt', average=False)
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))
    return path


@pytest.mark.parametrize('fraction', [0.0, 1e-7, 0.3, 0.999])
def test_a_truncated_checkpoint(tmp_path, fraction):
    path = damaged(tmp_path, lambda content: content[: int(len(content) * fraction)])
    with pytest.raises(UserError, match=r'model\.ckpt: expected .* found'):
        load_components(path)


def test_a_flipped_bit_in_the_weights(tmp_path):
    path = write_golden(tmp_path / 'model.ckpt', average=False)
    weight = golden_state()['first_stage_model.encoder.conv_in.weight'].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'encoder\.conv_in\.weight is damaged.*CRC'):
        load_components(path)


def test_truncated_safetensors(tmp_path):
    save_file({'weight': torch.zeros(100)}, tmp_path / 'a.safetensors')
    content = (tmp_path / 'a.safetensors').read_bytes()
    (tmp_path / 'a.safetensors').write_bytes(content[:-40])
    with pytest.raises(UserError, match='expected complete safetensors, found'):
        open_weights(tmp_path / 'a.safetensors')


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:12\n', 'git-lfs pointer'),
        (b'<!DOCTYPE html><html>Access denied</html>', '<!DOCTYPE html>'),
    ],
)
def test_a_download_that_is_none(tmp_path, content, found):
    (tmp_path / 'model.ckpt').write_bytes(content)
    with pytest.raises(UserError, match=re.escape(found)):
        load_components(tmp_path / 'model.ckpt')


def test_a_zip_that_is_no_torch_file(tmp_path):
    with zipfile.ZipFile(tmp_path / 'model.ckpt', 'w') as archive:
        archive.writestr('readme.txt', 'hello')
    with pytest.raises(
        UserError, match='expected an archive of torch.save, found one with readme.txt'
    ):
        load_components(tmp_path / 'model.ckpt')


def test_a_tensor_instead_of_a_dict(tmp_path):
    torch.save(torch.zeros(3), tmp_path / 'model.ckpt')
    with pytest.raises(UserError, match='expected a dict of tensors, found'):
        load_components(tmp_path / 'model.ckpt')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_numbers(tmp_path, value):
    key = 'first_stage_model.encoder.conv_in.bias'
    bias = golden_state()[key].clone()
    bias[3] = value
    path = write_golden(tmp_path / 'model.ckpt', average=False, **{key: bias})
    with pytest.raises(UserError, match=r'vae: expected finite numbers in encoder\.conv_in\.bias'):
        load_components(path)


def eight_bits(state, dtype, whole):
    return {
        key: tensor.to(dtype) if whole or tensor.ndim > 1 else tensor
        for key, tensor in state.items()
        if not key.startswith('model_ema.')
    }


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors'])
@pytest.mark.parametrize('dtype', [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_8_bits_are_converted(tmp_path, dtype, suffix):
    state = eight_bits(golden_state(), dtype, whole=suffix == '.ckpt')
    path = tmp_path / f'model{suffix}'
    torch.save({'state_dict': state}, path) if suffix == '.ckpt' else save_file(state, path)
    wanted = torch.float16 if suffix == '.ckpt' else torch.float32
    components = load_components(path, dtype=wanted)
    assert components.dtype == wanted
    expected = state['cc_projection.weight'].float().to(wanted)
    assert torch.equal(components.cc_projection.weight, expected)


@pytest.mark.parametrize(
    'change',
    [
        lambda weight: weight.to(torch.int8),
        lambda weight: weight.to(torch.int32),
        lambda weight: (weight * 16).to(torch.uint8),
        lambda weight: weight > 0,
        lambda weight: weight.to(torch.complex64),
    ],
    ids=['int8', 'int32', 'uint8', 'bool', 'complex'],
)
def test_weights_that_are_quantised_or_complex_are_named(tmp_path, change):
    weight = golden_state()['cc_projection.weight']
    path = write_golden(
        tmp_path / 'model.ckpt', average=False, **{'cc_projection.weight': change(weight)}
    )
    message = rf'cc_projection: weight: expected floating-point .*{change(weight).dtype}'
    with pytest.raises(UserError, match=message):
        load_components(path)


def test_packed_weights_of_4_bits_are_refused(tmp_path):
    dtype = getattr(torch, 'float4_e2m1fn_x2', None)
    if dtype is None:
        pytest.skip('this torch has none')
    packed = torch.zeros(golden_state()['cc_projection.weight'].shape, dtype=torch.uint8)
    changes = {'cc_projection.weight': packed.view(dtype)}
    path = write_golden(tmp_path / 'model.ckpt', average=False, **changes)
    with pytest.raises(UserError, match='cc_projection: weight: .*float4_e2m1fn_x2'):
        load_components(path)


@pytest.mark.parametrize(
    ('change', 'found'), [(torch.Tensor.to_sparse, 'layout torch.sparse_coo'), (None, 'no data')]
)
def test_tensors_that_are_not_plain_are_named(tmp_path, change, found):
    weight = golden_state()['cc_projection.weight']
    weight = weight.to('meta') if change is None else change(weight)
    path = write_golden(tmp_path / 'model.ckpt', average=False, **{'cc_projection.weight': weight})
    # Which tensors are refused already when the file is opened depends on torch.
    message = f'a plain tensor as cc_projection.weight, .*{found}|refused by the weights-only'
    with pytest.raises(UserError, match=message):
        load_components(path)


def test_a_format_that_safetensors_has_and_torch_has_not(tmp_path):
    header = b'{"w":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[0,3]}}'
    path = tmp_path / 'model.safetensors'
    path.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(3))
    with pytest.raises(UserError, match='model.safetensors: .*F6_E3M2'):
        open_weights(path).read('w')


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_the_usual_noise_schedule_is_known_in_any_format(tmp_path, dtype):
    """Rounded to 8 bits its beginning is 0."""
    betas = (torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).float()
    for wanted, factor in ((None, 1), ('trained_betas', 0.5)):
        path = write_golden(
            tmp_path / 'model.ckpt', average=False, betas=(betas * factor).to(dtype)
        )
        scheduler = open_checkpoint(path).configs['scheduler']
        assert ('trained_betas' in scheduler) == (wanted is not None)
    path = write_golden(tmp_path / 'model.ckpt', average=False, betas=torch.arange(1000))
    with pytest.raises(UserError, match='as betas, got torch.int64'):
        open_checkpoint(path)


def test_weights_too_large_for_half_precision(tmp_path):
    key = 'first_stage_model.encoder.conv_in.bias'
    path = write_golden(
        tmp_path / 'model.ckpt', average=False, **{key: golden_state()[key] + 70000}
    )
    with pytest.raises(UserError, match=r'too large for torch\.float16'):
        load_components(path, dtype=torch.float16)


def test_stable_diffusion_is_not_zero123(tmp_path):
    """Its UNet takes 4 channels, and it has a text tower and no pose."""
    key = 'model.diffusion_model.input_blocks.0.0.weight'
    four = golden_state()[key][:, :4].clone()
    path = write_golden(tmp_path / 'model.ckpt', average=False, **{key: four})
    with pytest.raises(UserError, match='expected 8 input channels of the UNet, found 4'):
        load_components(path)
    absent = ('cc_projection.weight', 'cc_projection.bias')
    path = write_golden(tmp_path / 'model.ckpt', average=False, **dict.fromkeys(absent))
    with pytest.raises(UserError, match=r'none below cc_projection\.; found \d+ tensors below'):
        load_components(path)


def test_another_pose_width(tmp_path):
    weight = golden_state()['cc_projection.weight'][:, :770].clone()
    path = write_golden(tmp_path / 'model.ckpt', average=False, **{'cc_projection.weight': weight})
    with pytest.raises(UserError, match='expected 772 inputs of cc_projection, found 770'):
        load_components(path)


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('first_stage_model.encoder.mid.attn_1.q.bias', r'vae: expected 248 tensors, found 247'),
        ('cond_stage_model.model.visual.proj', 'architecture, found no proj'),
    ],
)
def test_a_missing_tensor_is_named(tmp_path, key, message):
    path = write_golden(tmp_path / 'model.ckpt', average=False, **{key: None})
    with pytest.raises(UserError, match=message):
        load_components(path)


def test_an_incomplete_average(tmp_path):
    key = 'model_ema.diffusion_modelout2bias'
    path = write_golden(tmp_path / 'model.ckpt', **{key: None})
    with pytest.raises(UserError, match='expected 686 .*, 1 are missing .*modelout2bias'):
        load_components(path)
    assert load_components(path, use_ema=False).kind == 'zero123'


def test_another_shape_is_named(tmp_path):
    key = 'first_stage_model.decoder.conv_out.bias'
    path = write_golden(tmp_path / 'model.ckpt', average=False, **{key: torch.zeros(5)})
    message = r'expected decoder\.conv_out\.bias of shape \(3,\), found \(5,\)'
    with pytest.raises(UserError, match=message):
        load_components(path)


READS_EVERY_TENSOR = """
import resource, sys
from pathlib import Path
from nvs_ros.zero123.ldm import open_checkpoint
from nvs_ros.zero123.weights import open_weights

file = open_weights(Path(sys.argv[1]))
file.read('0')
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in file.shapes:
    file.read(name)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize('suffix', ['.ckpt', '.safetensors'])
def test_reading_needs_the_memory_of_few_tensors(tmp_path, suffix):
    size = 16 << 20
    state = {str(index): torch.zeros(size // 4) for index in range(16)}
    path = tmp_path / f'model{suffix}'
    torch.save(state, path) if suffix == '.ckpt' else save_file(state, path)
    command = [sys.executable, '-c', READS_EVERY_TENSOR, path]
    grown = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert grown < 4 * size


def test_the_package_never_loads_unsafely():
    for path in Path(load_components.__code__.co_filename).parent.parent.rglob('*.py'):
        text = path.read_text()
        assert not re.search(r'weights_only\s*=\s*False|trust_remote_code\s*=\s*True', text), path
        for call in re.findall(r'torch\.load\([^)]*\)', text):
            assert 'weights_only=True' in call, path


def test_what_is_read_over_is_not_allowed_elsewhere(tmp_path):
    torch.save({'score': np.float64(1), 'weight': torch.zeros(3)}, tmp_path / 'a.bin')
    assert open_weights(tmp_path / 'a.bin').shapes == {'weight': (3,)}
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'a.bin', weights_only=True)
