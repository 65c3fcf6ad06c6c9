"""The diffusers layout: a folder with one subfolder for each component.

Components are opened one by one, so code that some repositories contain is never loaded.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from nvs_ros.errors import UserError
from nvs_ros.zero123.layout import KINDS, ModelFiles, kind_from_name
from nvs_ros.zero123.ldm import SCHEDULER
from nvs_ros.zero123.profile import ModelProfile
from nvs_ros.zero123.weights import WeightFile, open_weights

FILTER_FILE = 'filter/filter.safetensors'
PROJECTION_FOLDERS = ('cc_projection', 'clip_camera_projection')
"""Names of the folder of the projection in different conversions of the original."""

WEIGHT_STEMS = ('diffusion_pytorch_model', 'model', 'pytorch_model')

OLD_VAE_NAMES = {
    '.query.': '.to_q.',
    '.key.': '.to_k.',
    '.value.': '.to_v.',
    '.proj_attn.': '.to_out.0.',
}
"""Names in the VAE's attention, as diffusers wrote them before 0.18 -> present names."""


def open_folder(
    folder: Path, *, kind: str | None = None, half: bool = False, model_id: str | None = None
) -> ModelFiles:
    """Find the components in a folder of diffusers layout.

    Parameters
    ----------
    folder : Path
        With ``unet``, ``vae``, ``image_encoder``, ``scheduler`` and ``cc_projection`` (or
        ``clip_camera_projection``).
    kind : str, optional
        One of ``KINDS``; when omitted from ``model_index.json``, else guessed from the name.
    half : bool
        Prefer the ``fp16`` variant of the weights if there is one.
    model_id : str, optional
        Name for messages and metadata; the path when omitted.

    Raises
    ------
    UserError
        A component is missing or cannot be read, or ``model_index.json`` is wrong.
    """
    model_id = model_id or str(folder)
    projection = next((name for name in PROJECTION_FOLDERS if (folder / name).is_dir()), None)
    subfolders = {name: name for name in ('unet', 'vae', 'image_encoder')}
    subfolders['cc_projection'] = projection or PROJECTION_FOLDERS[0]
    absent = [name for name in (*subfolders.values(), 'scheduler') if not (folder / name).is_dir()]
    if absent:
        raise UserError(
            f'{folder}: expected a folder in diffusers layout, found no {", ".join(absent)}'
        )
    learned_filter = folder / FILTER_FILE
    index_path = folder / 'model_index.json'
    index = _read_json(index_path) if index_path.exists() else {}
    for name in ('profile', 'source'):
        if not isinstance(index.get(name, {}), dict):
            raise UserError(f'{index_path}: expected an object as {name}, found {index[name]!r}')
    kind = kind or index.get('kind') or kind_from_name(f'{model_id} {folder.resolve().name}')
    if kind not in KINDS:
        raise UserError(f'{index_path}: expected a kind of {", ".join(KINDS)}, found {kind!r}')
    files = {name: _weight_files(folder / sub, half) for name, sub in subfolders.items()}
    readers = {
        name: {
            _current_name(name, key): partial(file.read, key)
            for file in files[name]
            for key in file.shapes
            if not key.endswith('position_ids')  # a buffer that old transformers saved
        }
        for name in subfolders
    }
    return ModelFiles(
        model_id=model_id,
        kind=kind,
        configs={
            name: _read_json(folder / name / 'config.json')
            for name in ('unet', 'vae', 'image_encoder')
        }
        | {
            'cc_projection': _projection_config(files['cc_projection']),
            'scheduler': _scheduler_config(folder / 'scheduler' / 'scheduler_config.json'),
        },
        readers=readers,
        weight_paths=tuple(file.path for found in files.values() for file in found),
        ema=index.get('source', {}).get('ema'),
        profile=index.get('profile', {}),
        source=index.get('source', {}),
        learned_filter=learned_filter if learned_filter.exists() else None,
    )


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: expected JSON, found {error}') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: expected a JSON object, found {type(content).__name__}')
    return content


def _weight_files(folder: Path, half: bool) -> list[WeightFile]:
    """The weight files of a component; safetensors are preferred to ``.bin``, shards allowed.

    Raises
    ------
    UserError
        There are none, or one cannot be opened.
    """
    variants = ('.fp16', '') if half else ('', '.fp16')
    for variant in variants:
        for suffix in ('.safetensors', '.bin'):
            for stem in WEIGHT_STEMS:
                whole = folder / f'{stem}{variant}{suffix}'
                shards = sorted(folder.glob(f'{stem}{variant}-*-of-*{suffix}'))
                if whole.is_file() or shards:
                    return [open_weights(path) for path in ([whole] if whole.is_file() else shards)]
    found = ', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'
    raise UserError(f'{folder}: expected {WEIGHT_STEMS[0]}.safetensors or .bin, found {found}')


def _current_name(network: str, key: str) -> str:
    if network == 'cc_projection':
        return key.removeprefix('projection.').removeprefix('proj.')
    if network == 'vae':
        for old, new in OLD_VAE_NAMES.items():
            key = key.replace(old, new)
    return key


def _projection_config(files: list[WeightFile]) -> dict:
    """Sizes of the projection, read from its weights: not every conversion has them in a config.

    Raises
    ------
    UserError
        The weights have no such matrix.
    """
    for name, shape in files[0].shapes.items():
        if name in ('projection.weight', 'proj.weight') and len(shape) == 2:
            return {'out_features': shape[0], 'in_features': shape[1]}
    raise UserError(
        f'{files[0].path}: expected the matrix projection.weight or proj.weight, '
        f'found {", ".join(files[0].shapes) or "nothing"}'
    )


def _scheduler_config(path: Path) -> dict:
    """Configuration of DDIM with the folder's noise schedule, whatever scheduler it names."""
    config = _read_json(path)
    # Other schedulers lack these entries, and DDIM's own defaults are wrong for this model.
    rest = {name: SCHEDULER[name] for name in ('clip_sample', 'set_alpha_to_one', 'steps_offset')}
    return rest | config


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into; it is renamed to ``path`` when the ``with`` block ends.

    Until then it is a hidden folder beside ``path``. One that a killed process left is emptied and
    used again.

    Raises
    ------
    UserError
        ``path`` exists and is not an empty folder, the folder cannot be created, or another process
        is writing it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f'{path}: expected a new or an empty folder, found something in its place')
    partial_path = path.parent / f'.{path.name}.partial'
    try:
        partial_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{partial_path}: cannot be made: {error.strerror}') from error
    lock = os.open(partial_path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in partial_path.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield partial_path
            os.rename(partial_path, path)
        except BaseException:
            shutil.rmtree(partial_path, ignore_errors=True)
            raise
    except BlockingIOError as error:
        raise UserError(f'{partial_path}: another process is writing it') from error
    finally:
        os.close(lock)


def write_network(folder: Path, name: str, module, dtype: torch.dtype | None = None) -> None:
    """Write one component as safetensors, in its own or the given dtype, with its configuration."""
    target = folder / name
    target.mkdir()
    state = {
        key: tensor.to('cpu', dtype or tensor.dtype).contiguous()
        for key, tensor in module.state_dict().items()
    }
    if name == 'cc_projection':
        state = {f'projection.{key}': tensor for key, tensor in state.items()}
        config = {'in_features': module.in_features, 'out_features': module.out_features}
        (target / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
    elif name == 'image_encoder':
        module.config.save_pretrained(target)
    else:
        config = json.loads(module.to_json_string())
        config.pop('_name_or_path', None)  # a path on the machine that made it
        (target / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
    stem = 'model' if name == 'image_encoder' else WEIGHT_STEMS[0]
    weights = target / f'{stem}.safetensors'
    save_file(state, weights, metadata={'format': 'pt'})
    shutil.copymode(target / 'config.json', weights)  # safetensors lets only the owner read it


def write_index(folder: Path, kind: str, source: Mapping, profile: ModelProfile) -> None:
    """Write ``model_index.json``: components, kind, profile, and the source of the model."""
    index = {
        '_class_name': 'Zero123Components',
        'kind': kind,
        'profile': dataclasses.asdict(profile),
        'source': dict(source),
        'vae': ['diffusers', 'AutoencoderKL'],
        'unet': ['diffusers', 'UNet2DConditionModel'],
        'image_encoder': ['transformers', 'CLIPVisionModelWithProjection'],
        'scheduler': ['diffusers', 'DDIMScheduler'],
        'cc_projection': ['torch.nn', 'Linear'],
    }
    (folder / 'model_index.json').write_text(json.dumps(index, indent=2) + '\n')
