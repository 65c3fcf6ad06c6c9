"""The training loop: resumable to the step, on one CPU core, several (torchrun, gloo) or a GPU.

Each step draws its randomness from (seed, step, rank) alone, so that a resumed run sees what an
unbroken one would have seen.
"""

from __future__ import annotations

import copy
import csv
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from nvs_ros.errors import UserError
from nvs_ros.replacing import replacing
from nvs_ros.settings import Settings, setting
from nvs_ros.training.plots import plot_loss

LOADERS = 4
"""Threads that make batches ahead of a GPU."""

Batch = tuple[torch.Tensor, ...]


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
    compile: bool = setting(False, 'Train through torch.compile, for GPUs.')


@dataclass(frozen=True)
class Until:
    """When to stop before the last step.

    Attributes
    ----------
    step : int, optional
        After this many steps in total.
    time_s : float, optional
        At this time of :func:`time.monotonic`.
    """

    step: int | None = None
    time_s: float = math.inf


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
    make_batch: Callable[[np.random.Generator, int], Batch],
    settings: FitSettings,
    run: Path,
    *,
    name: str,
    until: Until | None = None,
    show: Callable[[nn.Module, int], None] | None = None,
) -> bool:
    """Train ``module`` and leave it with its averaged weights.

    Parameters
    ----------
    module : torch.nn.Module
        ``module(*batch)`` returns the loss, a scalar.
    make_batch : callable
        ``make_batch(rng, batch_size)`` returns CPU tensors; all randomness comes from ``rng``.
        On a GPU it is called by several threads.
    settings : FitSettings
    run : Path
        Folder with ``<name>.pt`` (the state, continued when present), ``<name>_loss.csv`` and
        ``<name>_loss.png``.
    name : str
    until : Until, optional
        Stop (and save) earlier; the schedule stays that of ``settings.steps``.
    show : callable, optional
        ``show(copy, step)`` is called after each checkpoint with a copy of ``module`` that has the
        averaged weights.

    Returns
    -------
    bool
        Whether all steps are done.

    Raises
    ------
    UserError
        The loss is no number any more; the last checkpoint stays.
    """
    until = until or Until()
    rank, world = join_processes()
    device = training_device()
    module.to(device).train()
    if device.type == 'cuda':
        module.to(memory_format=torch.channels_last)
    forward = torch.compile(module) if settings.compile else module
    forward = forward if world == 1 else DistributedDataParallel(forward)
    state = _State(module, settings, run, name)
    last = min(settings.steps, until.step or settings.steps)
    bar = tqdm(total=last, initial=state.step, desc=name, disable=rank != 0, mininterval=5)
    losses: list[torch.Tensor] = []
    for seed, batch in _batches(make_batch, settings, rank, range(state.step, last), device):
        torch.manual_seed(seed)
        with torch.autocast(device.type, torch.bfloat16):
            loss = forward(*batch)
        state.descend(loss)
        losses.append(loss.detach())
        bar.update()
        stop = state.step == last or _time_is_up(until.time_s, device)
        if stop or state.step % settings.checkpoint_every == 0:
            mean = float(torch.stack(losses).mean())
            losses.clear()
            bar.set_postfix(loss=f'{mean:.4f}')
            if not math.isfinite(mean):
                raise UserError(f'{name}: expected a finite loss, got {mean} at step {state.step}')
            if rank == 0:
                state.save(mean)
                if show is not None:
                    show(state.averaged(), state.step)
        if stop:
            break
    bar.close()
    state.average.copy_to(state.parameters)
    module.eval()
    if world > 1:
        dist.barrier()
    return state.step >= settings.steps


class _State:
    """What a run continues from, and its file."""

    def __init__(self, module: nn.Module, settings: FitSettings, run: Path, name: str) -> None:
        self.module = module
        self.settings = settings
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=1e-2, fused=True
        )
        self.average = EMAModel(
            self.parameters, decay=settings.ema_decay, use_ema_warmup=True, power=0.75
        )
        self.step = 0
        run.mkdir(parents=True, exist_ok=True)
        self.file, self.losses = run / f'{name}.pt', run / f'{name}_loss.csv'
        if self.file.exists():
            self._resume()

    def descend(self, loss: torch.Tensor) -> None:
        """One step of the optimiser and of the average."""
        factor = learning_rate_factor(self.settings, self.step)
        for group in self.optimizer.param_groups:
            group['lr'] = self.settings.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.step(self.parameters)
        self.step += 1

    def save(self, mean_loss: float) -> None:
        """A row of losses first: what is past the state is dropped when it is continued."""
        with self.losses.open('a', newline='') as file:
            csv.writer(file).writerow([self.step, f'{mean_loss:.6f}'])
        state = {
            'step': self.step,
            'module': self.module.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'average': self.average.state_dict(),
        }
        with replacing(self.file) as partial:
            torch.save(state, partial)
        plot_loss(self.losses, self.losses.with_suffix('.png'))

    def averaged(self) -> nn.Module:
        """A copy with the averaged weights; what is compiled stays as it is."""
        averaged = copy.deepcopy(self.module).eval()
        self.average.copy_to([p for p in averaged.parameters() if p.requires_grad])
        return averaged

    def _resume(self) -> None:
        device = self.parameters[0].device
        state = torch.load(self.file, map_location=device, weights_only=True)
        self.module.load_state_dict(state['module'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.average.load_state_dict(state['average'])
        self.step = state['step']
        if self.losses.exists():
            rows = self.losses.read_text().splitlines(keepends=True)
            whole = [row for row in rows if row.endswith('\n')]
            kept = [row for row in whole if int(row.partition(',')[0]) <= self.step]
            with replacing(self.losses) as partial:
                partial.write_text(''.join(kept))


def _batches(
    make_batch: Callable[[np.random.Generator, int], Batch],
    settings: FitSettings,
    rank: int,
    steps: range,
    device: torch.device,
) -> Iterator[tuple[int, Batch]]:
    """Torch seed and batch of each step, on the device; for a GPU they are made ahead."""

    def make(step: int) -> tuple[int, Batch]:
        rng = np.random.default_rng([settings.seed, step, rank])
        seed = int(rng.integers(2**62))
        return seed, make_batch(rng, settings.batch_size)

    if device.type == 'cpu':
        yield from map(make, steps)
        return
    ahead: deque = deque()
    with ThreadPoolExecutor(LOADERS) as pool:
        for step in steps:
            ahead.append(pool.submit(make, step))
            if len(ahead) > LOADERS:
                yield _on_device(ahead.popleft().result(), device)
        while ahead:
            yield _on_device(ahead.popleft().result(), device)


def _on_device(seeded: tuple[int, Batch], device: torch.device) -> tuple[int, Batch]:
    seed, batch = seeded
    return seed, tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in batch)


def _time_is_up(time_s: float, device: torch.device) -> bool:
    """Whether all processes stop; the first one's clock decides."""
    up = time.monotonic() >= time_s
    if time_s < math.inf and dist.is_initialized():
        decision = torch.tensor(int(up), device=device)
        dist.broadcast(decision, 0)
        up = bool(decision)
    return up
