"""What filtering of attention maps adds to a network evaluation, on random weights of full size.

    OMP_NUM_THREADS=1 python benchmarks/filtering.py [--pairs 3]

The UNet of Zero-1-to-3 (256 pixels) is evaluated for one view with guidance (two rows), without a
filter, with the paper's and with a learned one, in turn: each time two passes at each of two
timesteps. In the second timestep there is a history, in second passes there are maps to pool with.
Printed is the processor time of this process, which other work on the machine does not stretch;
with one thread and an idle core it is the time that passes.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

sys.path.insert(0, str(Path(__file__).parent.parent))
from nvs_ros.computer.allocator import keep_freed_memory
from nvs_ros.hero.filtering import attention_map_filtering
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.hero.map_filter import FilterPolicy, PaperPolicy
from nvs_ros.hero.presets import preset
from nvs_ros.synthesizer import Synthesizer

TIMESTEPS = (981, 981, 961, 961)
SETTINGS = dataclasses.replace(preset('amf'), resampling_passes=2)
POSITIONS = ('first evaluation', 'second pass', 'with a history', 'second pass with a history')


def seconds(
    unet: UNet2DConditionModel,
    inputs: tuple[torch.Tensor, torch.Tensor],
    policy: FilterPolicy | None,
) -> list[float]:
    """Processor time of each of the evaluations."""
    rows, context = inputs
    filtering = attention_map_filtering(unet, SETTINGS, policy=policy) if policy else nullcontext()
    times = []
    with filtering, torch.no_grad():
        for timestep in TIMESTEPS:
            started = time.process_time()
            unet(rows, torch.tensor(timestep), context)
            times.append(time.process_time() - started)
    return times


def report(times: Mapping[str, list[list[float]]]) -> None:
    """Print medians over the rounds, and the medians of the ratios within a round."""
    plain = times['none']
    for name, rounds in times.items():
        for position, label in enumerate((*POSITIONS, 'mean of the four')):
            own, other = (
                [statistics.mean(r) if position == len(POSITIONS) else r[position] for r in rs]
                for rs in (rounds, plain)
            )
            ratios = [a / b for a, b in zip(own, other, strict=True)]
            print(
                f'{name}, {label}: {statistics.median(own):.3f} s, '
                f'{statistics.median(ratios):.3f} of none '
                f'({min(ratios):.3f} to {max(ratios):.3f})'
            )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--pairs', type=int, default=3, help='rounds (default %(default)s)')
    arguments = parser.parse_args()
    keep_freed_memory()  # as the node does
    components = Synthesizer.from_pretrained('full-random', device='cpu').components
    torch.set_num_threads(1)
    unet, side = components.unet, components.latent_size
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.randn(2, unet.config.in_channels, side, side, generator=generator),
        torch.randn(2, 1, unet.config.cross_attention_dim, generator=generator),
    )
    policies: dict[str, FilterPolicy | None] = {
        'none': None,
        'fixed': PaperPolicy(SETTINGS),
        'learned': LearnedPolicy.neutral(unet),
    }
    with torch.no_grad():
        unet(inputs[0], torch.tensor(TIMESTEPS[0]), inputs[1])  # memory is touched once before
    times: dict[str, list[list[float]]] = {name: [] for name in policies}
    for _ in range(arguments.pairs):
        for name, policy in policies.items():
            times[name].append(seconds(unet, inputs, policy))
    report(times)


if __name__ == '__main__':
    main()
