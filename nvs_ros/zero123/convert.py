"""From any supported checkpoint to the diffusers layout, one component in memory at a time."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from nvs_ros.hashes import sha256_of
from nvs_ros.zero123.components import empty_components, find_model
from nvs_ros.zero123.diffusers_folder import new_folder, write_index, write_network
from nvs_ros.zero123.layout import NETWORKS, ModelFiles, fill


def convert(
    source: str | Path,
    output: Path,
    *,
    dtype: torch.dtype = torch.float32,
    use_ema: bool = True,
    kind: str | None = None,
    show_progress: bool = False,
) -> str:
    """Write a model as a folder that :func:`load_components` and diffusers read.

    The folder appears under its name only when it is complete; a conversion that was killed
    leaves a hidden sibling, which the next one removes.

    Parameters
    ----------
    source
        As of :func:`load_components`.
    output : Path
        New or empty folder.
    dtype : torch.dtype
    use_ema, kind
        As of :func:`load_components`.
    show_progress : bool
        Draw progress bars on stderr.

    Returns
    -------
    str
        The kind that was recorded.

    Raises
    ------
    UserError
        If the source cannot be used, or there is something in the place of ``output``.
    """
    with new_folder(output) as folder:
        files = find_model(source, kind=kind, use_ema=use_ema)
        components = empty_components(files)
        count = sum(len(files.readers[name]) for name in NETWORKS)
        with tqdm(desc='tensors', total=count, disable=not show_progress) as bar:
            for name in NETWORKS:
                module = getattr(components, name)
                fill(
                    module,
                    files.readers[name],
                    device='cpu',
                    dtype=dtype,
                    name=f'{files.model_id}: {name}',
                    progress=bar.update,
                )
                write_network(folder, name, module)
                module.to('meta')
        components.scheduler.save_config(folder / 'scheduler')
        write_index(folder, files.kind, _provenance(files, show_progress), components.profile)
    return files.kind


def _provenance(files: ModelFiles, show_progress: bool) -> dict:
    size = sum(path.stat().st_size for path in files.weight_paths)
    hashes = {}
    with tqdm(
        desc='sha256', total=size, unit='B', unit_scale=True, disable=not show_progress
    ) as bar:
        for path in files.weight_paths:
            alone = len(files.weight_paths) == 1
            name = path.name if alone else f'{path.parent.name}/{path.name}'
            hashes[name] = sha256_of([path], bar.update)
    return {'model': files.model_id, 'ema': files.ema, 'sha256': hashes}
