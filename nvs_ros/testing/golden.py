"""The golden vectors of the original implementation, and the checkpoint they were computed with.

``test/data/zero123_small.npz`` of a checkout keeps outputs of the original code at small widths.
Its weights are not stored: each tensor follows from its name by the rule that ``meta`` states.
"""

from __future__ import annotations

import json
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

STORED = Path(__file__).parents[2] / 'test' / 'data' / 'zero123_small.npz'


@lru_cache
def golden() -> dict:
    """The stored arrays, with ``meta`` and ``manifest`` as dicts."""
    with np.load(STORED) as stored:
        content = {name: stored[name] for name in stored.files}
    return content | {name: json.loads(str(content[name])) for name in ('meta', 'manifest')}


def rule_tensor(key: str, shape: list[int], seed: int = 0) -> torch.Tensor:
    """Value of one tensor of the golden checkpoint."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(f'{seed}:{key}'.encode())))
    noise = np.asarray(generator.standard_normal(shape, dtype=np.float32))
    if len(shape) >= 2:
        return torch.from_numpy(noise / np.float32(np.sqrt(np.prod(shape[1:]))))
    centre = np.float32(1 if key.endswith('weight') else 0)
    return torch.from_numpy(np.asarray(centre + np.float32(0.02) * noise))


@lru_cache
def golden_state() -> dict[str, torch.Tensor]:
    """The golden checkpoint's state dict; do not change it in place."""
    return {key: rule_tensor(key, shape) for key, shape in golden()['manifest'].items()}


def write_golden(path: Path, *, average: bool = True, **changes: torch.Tensor | None) -> Path:
    """The golden checkpoint as the original training code saves one, some tensors exchanged.

    Without the moving average of the UNet it is half as large.
    """
    state = {
        key: tensor
        for key, tensor in {**golden_state(), **changes}.items()
        if tensor is not None and (average or not key.startswith('model_ema.'))
    }
    torch.save({'state_dict': state, 'global_step': 165000, 'epoch': 3}, path)
    return path


def relative_error(found: torch.Tensor, name: str) -> float:
    """Largest difference from a golden array, in standard deviations of that array."""
    expected = torch.from_numpy(golden()[name].astype(np.float32))
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.std())
