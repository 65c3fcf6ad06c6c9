"""The training loop: resumable to the step, on one CPU core, several (torchrun, gloo) or a GPU.

Each step draws its randomness from (seed, step, rank) alone, so that a resumed run sees what an
unbroken one would have seen.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from nvs_ros.settings import Settings, setting


@dataclass(frozen=True)
class FitSettings(Settings):
    """How long and how fast to train."""

    steps: int = setting(50000, 'Optimiser steps.', low=1)
    batch_size: int = setting(32, 'Samples per step and process.', low=1)
    learning_rate: float = setting(1e-3, 'Peak learning rate of AdamW.', low=0.0)
    warmup_steps: int = setting(200, 'Steps of linear warm-up.', low=0)
    decay_fraction: float = setting(
        0.4, 'Last part of the steps, with a cosine decay to zero.', low=0.0, high=1.0
    )
    ema_decay: float = setting(0.999, 'Decay of the averaged weights.', low=0.0, high=1.0)
    checkpoint_every: int = setting(500, 'Steps between checkpoints.', low=1)
    seed: int = setting(0, 'Randomness follows from it, the step and the process.', low=0)


def learning_rate_factor(settings: FitSettings, step: int) -> float:
    """Warm-up, plateau, cosine decay -> 0..1."""
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    decay_steps = settings.decay_fraction * settings.steps
    into = step - (settings.steps - decay_steps)
    if into <= 0 or decay_steps == 0:
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * min(into / decay_steps, 1.0)))


def training_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def join_processes() -> tuple[int, int]:
    """Rank and number of processes; joins the others when started by torchrun."""
    if int(os.environ.get('WORLD_SIZE', '1')) > 1 and not dist.is_initialized():
        dist.init_process_group('nccl' if torch.cuda.is_available() else 'gloo')
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def fit(
    module: nn.Module,
    make_batch: Callable[[np.random.Generator, int], tuple[torch.Tensor, ...]],
    settings: FitSettings,
    run: Path,
    *,
    name: str,
    stop_at: int | None = None,
) -> nn.Module:
    """Train ``module`` until ``settings.steps`` and return it with its averaged weights.

    Parameters
    ----------
    module : torch.nn.Module
        ``module(*batch)`` returns the loss, a scalar.
    make_batch : callable
        ``make_batch(rng, batch_size)`` returns CPU tensors; all randomness comes from ``rng``.
    settings : FitSettings
    run : Path
        Folder with ``<name>.pt`` (the state, continued when present) and ``<name>_loss.csv``.
    name : str
    stop_at : int, optional
        Stop (and save) after this many steps in total; the schedule stays that of
        ``settings.steps``.
    """
    rank, world = join_processes()
    device = training_device()
    module.to(device).train()
    forward = module if world == 1 else DistributedDataParallel(module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=1e-2, fused=True
    )
    average = EMAModel(parameters, decay=settings.ema_decay, use_ema_warmup=True, power=0.75)
    state_file = run / f'{name}.pt'
    run.mkdir(parents=True, exist_ok=True)
    step = _resume(state_file, module, optimizer, average, device)
    last = min(settings.steps, stop_at or settings.steps)
    history: list[tuple[int, float]] = []
    bar = tqdm(total=last, initial=step, desc=name, disable=rank != 0, mininterval=5)
    while step < last:
        rng = np.random.default_rng([settings.seed, step, rank])
        torch.manual_seed(int(rng.integers(2**62)))
        batch = [tensor.to(device) for tensor in make_batch(rng, settings.batch_size)]
        for group in optimizer.param_groups:
            group['lr'] = settings.learning_rate * learning_rate_factor(settings, step)
        with torch.autocast(device.type, torch.bfloat16):
            loss = forward(*batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.step(parameters)
        step += 1
        history.append((step, float(loss.detach())))
        bar.update()
        if step % settings.checkpoint_every == 0 or step == last:
            mean = sum(value for _, value in history) / len(history)
            bar.set_postfix(loss=f'{mean:.4f}')
            if rank == 0:
                _save(state_file, step, module, optimizer, average)
                with (run / f'{name}_loss.csv').open('a', newline='') as file:
                    csv.writer(file).writerow([step, f'{mean:.6f}'])
            history.clear()
    bar.close()
    average.copy_to(parameters)
    if world > 1:
        dist.barrier()
    return module.eval()


def _resume(file: Path, module, optimizer, average, device) -> int:
    if not file.exists():
        return 0
    state = torch.load(file, map_location=device, weights_only=True)
    module.load_state_dict(state['module'])
    optimizer.load_state_dict(state['optimizer'])
    average.load_state_dict(state['average'])
    return state['step']


def _save(file: Path, step: int, module, optimizer, average) -> None:
    state = {
        'step': step,
        'module': module.state_dict(),
        'optimizer': optimizer.state_dict(),
        'average': average.state_dict(),
    }
    partial = file.with_suffix('.partial')
    torch.save(state, partial)
    os.replace(partial, file)
