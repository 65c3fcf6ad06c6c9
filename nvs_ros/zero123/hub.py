"""Public checkpoints: which there are, the local cache, and the download on request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from nvs_ros.errors import UserError
from nvs_ros.hashes import sha256_of

COMPONENT_FOLDERS = {
    'unet',
    'vae',
    'image_encoder',
    'scheduler',
    'cc_projection',
    'clip_camera_projection',
}


@dataclass(frozen=True)
class PublicModel:
    """A checkpoint on the hub: one file of a repository, or a repository in diffusers layout.

    Attributes
    ----------
    repository : str
    filename : str, optional
    revision : str, optional
        Commit; without one the newest of the main branch is taken, whatever that is by then.
    """

    repository: str
    filename: str | None = None
    revision: str | None = None


PUBLIC_MODELS = {
    'zero123-xl': PublicModel('cvlab/zero123-weights', 'zero123-xl.ckpt'),
    'zero123-105000': PublicModel('cvlab/zero123-weights', '105000.ckpt'),
    'stable-zero123': PublicModel('stabilityai/stable-zero123', 'stable_zero123.ckpt'),
    'zero123-105000-diffusers': PublicModel('kxic/zero123-105000'),
    'zero123-165000-diffusers': PublicModel('kxic/zero123-165000'),
    'zero123-xl-diffusers': PublicModel(
        'ashawkey/zero123-xl-diffusers', revision='10e9e8e75adaa3bf77f5ac9c381419016fed68c7'
    ),
    'stable-zero123-diffusers': PublicModel(
        'ashawkey/stable-zero123-diffusers', revision='a6c09344fbd45843d35f2095c203c4a8e55b4dbb'
    ),
}
"""Name for ``fetch`` and for ``load_components`` -> where it is on the hub. Where no revision is
given, ``NAME@REVISION`` pins one, and ``fetch`` says which it took."""


def public_model(name: str) -> PublicModel:
    """A public model or a hub id, each also as ``NAME@REVISION``."""
    name, _, revision = name.partition('@')
    model = PUBLIC_MODELS.get(name, PublicModel(name))
    return dataclasses.replace(model, revision=revision) if revision else model


def cached_model(name: str) -> Path:
    """Where a public model or a hub id lies in the cache of huggingface_hub; never downloads.

    Raises
    ------
    UserError
        If it is not there.
    """
    model = public_model(name)
    where = {'revision': model.revision, 'local_files_only': True}
    try:
        if model.filename:
            path = huggingface_hub.hf_hub_download(model.repository, model.filename, **where)
        else:
            path = huggingface_hub.snapshot_download(model.repository, **where)
    except (LocalEntryNotFoundError, HFValidationError) as error:
        if name.partition('@')[0] in PUBLIC_MODELS:
            command = f'python -m nvs_ros fetch {name}'
        else:
            revision = f' --revision {model.revision}' if model.revision else ''
            command = f'hf download {model.repository}{revision}'
        raise UserError(
            f'{name}: no such model: expected "embedded", a folder, a checkpoint file, or a name '
            f'that is in the cache of huggingface_hub, as after `{command}`'
        ) from error
    return Path(path)


def fetch(name: str, report: Callable[[str], object] = print) -> Path:
    """Download a public model into the cache of huggingface_hub and verify it.

    Parameters
    ----------
    name : str
        One of ``PUBLIC_MODELS``, also as ``NAME@REVISION``.
    report : callable, optional
        Told which revision it is and, for each file, whether its sha256 is verified or not known.

    Returns
    -------
    Path
        The file, or the folder in diffusers layout.

    Raises
    ------
    UserError
        If the name is not known, the hub cannot be reached or has no such model, or a file is
        not what the hub says it is; such a file is removed.
    """
    if name.partition('@')[0] not in PUBLIC_MODELS:
        raise UserError(f'expected one of {", ".join(PUBLIC_MODELS)}, got {name!r}')
    model = public_model(name)
    try:
        info = huggingface_hub.HfApi().model_info(
            model.repository, revision=model.revision, files_metadata=True
        )
        report(f'{model.repository}: revision {info.sha}')
        wanted = _wanted(model, {file.rfilename: file.lfs for file in info.siblings})
        for filename, lfs in wanted.items():
            path = Path(
                huggingface_hub.hf_hub_download(model.repository, filename, revision=model.revision)
            )
            _verify(path, filename, lfs.sha256 if lfs else None, report)
    except UserError:
        raise
    except Exception as error:  # the hub client's exceptions change with its HTTP library
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        address = f'{huggingface_hub.constants.ENDPOINT}/{model.repository}'
        raise UserError(f'{name}: cannot download from {address}: {reason}') from error
    # Every file lies at its own path below the snapshot's folder.
    return path if model.filename else path.parents[len(PurePosixPath(filename).parts) - 1]


def _wanted(model: PublicModel, files: dict[str, object]) -> dict[str, object]:
    """The files of a repository that are a model: no code, and no pickle beside safetensors."""
    if model.filename:
        found = {name: lfs for name, lfs in files.items() if name == model.filename}
    else:
        safe = {name.split('/')[0] for name in files if name.endswith('.safetensors')}
        found = {
            name: lfs
            for name, lfs in files.items()
            if name == 'model_index.json'
            or name.split('/')[0] in COMPONENT_FOLDERS
            and name.endswith(('.json', '.safetensors', '.bin'))
            and not (name.endswith('.bin') and name.split('/')[0] in safe)
        }
    if not found:
        raise UserError(
            f'{model.repository}: expected {model.filename or "components"}, found none'
        )
    return found


def _verify(path: Path, filename: str, expected: str | None, report: Callable) -> None:
    if expected is None:
        report(f'{filename}: no sha256 is known')
        return
    found = sha256_of([path])
    if found != expected:
        blob = path.resolve()
        path.unlink()
        blob.unlink(missing_ok=True)
        raise UserError(f'{filename}: expected sha256 {expected}, found {found}; removed')
    report(f'{filename}: sha256 {found} verified')
