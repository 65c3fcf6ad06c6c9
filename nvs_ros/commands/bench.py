"""``python -m nvs_ros bench``: how fast a model is on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from nvs_ros.commands.arguments import add_json, add_model, check_output
from nvs_ros.errors import UserError
from nvs_ros.settings import DEFAULT_PRESET

if TYPE_CHECKING:
    from nvs_ros.settings import SamplerSettings
    from nvs_ros.synthesizer import Observation, Synthesizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, ', or full-random: random weights of the real size')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument('--threads', type=int, help="of the CPU (default: torch's choice)")
    parser.add_argument('--compile', action='store_true', help='as model.compile')
    parser.add_argument('--presets', help='with commas between (default: all)')
    parser.add_argument('--batches', default='1,2,4,8', help='views at once (default %(default)s)')
    parser.add_argument(
        '--repeats', type=int, default=3, help='of each measurement (default %(default)s)'
    )
    add_json(parser, 'write the figures')
    parser.add_argument(
        '--quick', action='store_true', help='few evaluations, once: that it runs, not how fast'
    )


def run(arguments: argparse.Namespace) -> int:
    from nvs_ros.computer.timing import config_hash, machine
    from nvs_ros.hero.presets import PRESETS, shortened

    check_output('--json', arguments.json)
    try:
        batches = [int(text) for text in arguments.batches.split(',')]
    except ValueError as error:
        raise UserError(f'--batches: expected numbers, got {arguments.batches}') from error
    if min(batches) < 1:
        raise UserError(f'--batches: expected 1 or more, got {arguments.batches}')
    if arguments.repeats < 1:
        raise UserError(f'--repeats: expected 1 or more, got {arguments.repeats}')
    synthesizer = _load(arguments)
    names = [
        name
        for name, settings in PRESETS.items()
        if not settings.learned or synthesizer.components.learned_filter is not None
    ]
    if arguments.presets:
        names = arguments.presets.split(',')
    try:
        presets = {name: synthesizer.preset(name) for name in names}
    except ValueError as error:
        raise UserError(f'--presets: {error}') from error
    if arguments.quick:
        presets = {name: shortened(settings) for name, settings in presets.items()}
    components = synthesizer.components
    configuration = {
        'model': components.model_id,
        'dtype': str(components.dtype).removeprefix('torch.'),
        'compile': arguments.compile,
        'presets': {name: vars(settings) for name, settings in presets.items()},
        'batches': batches,
        'repeats': 1 if arguments.quick else arguments.repeats,
    }
    bench = _Bench(synthesizer, configuration['repeats'])
    report = {
        **machine(str(components.device)),
        'config_hash': config_hash(configuration),
        **configuration,
        'views': {name: bench.preset(name, settings) for name, settings in presets.items()},
        'batch_views_per_s': bench.batches(presets, batches),
        **bench.default(presets.get(DEFAULT_PRESET), max(batches)),
        'peak_memory_mb': _peak_memory_mb(str(components.device)),
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + '\n')
    return 0


def _load(arguments: argparse.Namespace) -> Synthesizer:
    import torch

    from nvs_ros.synthesizer import Synthesizer

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dtype = arguments.dtype and getattr(torch, arguments.dtype)
    try:
        synthesizer = Synthesizer.from_pretrained(
            arguments.model, device=arguments.device, dtype=dtype, compiled=arguments.compile
        )
    except RuntimeError as error:
        raise UserError(str(error)) from error
    return synthesizer


def _peak_memory_mb(device: str) -> float:
    """Peak memory in megabytes: of the process on a CPU, of its tensors on a GPU."""
    import torch

    if torch.device(device).type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


class _Bench:
    """Makes the measurements and prints each result at once."""

    def __init__(self, synthesizer: Synthesizer, repeats: int) -> None:
        self.synthesizer = synthesizer
        self.repeats = repeats
        self.source = _photograph(synthesizer)

    def frame(self) -> Observation:
        """Observation of a new frame, for which nothing is remembered."""
        return self.synthesizer.observe(self.source)

    def seconds(self, observation: Observation, settings: SamplerSettings, views: int) -> float:
        """Time for a number of views in one batch."""
        from nvs_ros.geometry.target import target_from_angles

        targets = [target_from_angles(self.source, 0.7 * (i + 1), 0.1) for i in range(views)]
        started = time.perf_counter()
        self.synthesizer.synthesize(observation, targets, settings)
        return time.perf_counter() - started

    def preset(self, name: str, settings: SamplerSettings) -> dict[str, Any]:
        """Times of the first view of a frame and of a following one."""
        import torch

        from nvs_ros.computer.timing import duration_figures, stream_figures
        from nvs_ros.hero.sampler import make_scheduler

        scheduler = make_scheduler(self.synthesizer.components.scheduler, settings)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds(self.frame(), settings, 1)  # warm-up
        sent, received, following = [], [], []
        for _ in range(self.repeats):
            sent.append(time.perf_counter())
            observation = self.frame()
            self.seconds(observation, settings, 1)
            received.append(time.perf_counter())
            following.append(self.seconds(observation, settings, 1))
        figures = {
            'evaluations': len(scheduler.timesteps),
            **stream_figures(sent, received),
            **duration_figures(following, 'following'),
        }
        first_s, following_s = (figures[f'{x}_p50_ms'] / 1e3 for x in ('latency', 'following'))
        print(
            f'{name}: {figures["evaluations"]} evaluations, first view {first_s:.2f} s, '
            f'following view {following_s:.2f} s',
            flush=True,
        )
        return figures

    def batches(
        self, presets: dict[str, SamplerSettings], sizes: list[int]
    ) -> dict[str, dict[int, float]]:
        """Preset -> batch size -> views per second, for a new frame each time."""
        found: dict[str, dict[int, float]] = {}
        for name, settings in presets.items():
            found[name] = {}
            for size in sizes:
                seconds = [self.seconds(self.frame(), settings, size) for _ in range(self.repeats)]
                found[name][size] = size / statistics.median(seconds)
            rates = ', '.join(f'{rate:.2f} in {size}' for size, rate in found[name].items())
            print(f'{name}, views a second: {rates}', flush=True)
        return found

    def default(self, settings: SamplerSettings | None, views: int) -> dict[str, Any]:
        """What each speed-up saves with the default preset, and what the method costs.

        ``speedups``: time without over time with the speed-up. ``over_plain``: time over that of
        the same network evaluations without filtering and source branch. ``over_unfiltered``: time
        over that of the same batches without filtering. All are medians of ratios of pairs.
        """
        if settings is None:
            return {'speedups': {}, 'over_plain': {}, 'over_unfiltered': {}}
        many = 'view' if views == 1 else f'{views} views'
        unfiltered = dataclasses.replace(settings, filtering=False)
        plain = dataclasses.replace(unfiltered, mutual_self_attention=False)
        all_views = partial(self.first, settings, views)
        unlike_diffusers = {
            'cross-attention as a bias': 'single_token_context',
            'table of time embeddings': 'timestep_table',
        }
        speedups = {
            name: (partial(self.without, shortcut, all_views), all_views)
            for name, shortcut in unlike_diffusers.items()
        } | {
            'source branch remembered': (all_views, partial(self.following, settings, views)),
            'all views in one batch': (partial(self.one_by_one, settings, views), all_views),
        }
        cases = {
            'first view': partial(self.first, views=1),
            'following view': partial(self.following, views=1),
            f'first {many}': partial(self.first, views=views),
            f'following {many}': partial(self.following, views=views),
        }

        def over(
            other: SamplerSettings,
        ) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
            return {
                name: (partial(take, settings), partial(take, other))
                for name, take in cases.items()
            }

        return {
            'speedups': self.ratios(speedups, many + ' without "{}": {:.3f} of the time'),
            'over_plain': self.ratios(over(plain), '{}: {:.3f} of the time of plain evaluations'),
            'over_unfiltered': self.ratios(
                over(unfiltered), '{}: {:.3f} of the time without filtering'
            ),
        }

    def first(self, settings: SamplerSettings, views: int) -> float:
        """Seconds for views of a new frame."""
        return self.seconds(self.frame(), settings, views)

    def following(self, settings: SamplerSettings, views: int) -> float:
        """Seconds for views of a frame whose source branch is remembered."""
        observation = self.frame()
        if settings.mutual_self_attention:
            self.seconds(observation, settings, 1)
        return self.seconds(observation, settings, views)

    def one_by_one(self, settings: SamplerSettings, views: int) -> float:
        """Seconds for views of a new frame, each in a batch of its own."""
        observation = self.frame()
        return sum(self.seconds(observation, settings, 1) for _ in range(views))

    def without(self, shortcut: str, take: Callable[[], float]) -> float:
        """Result of ``take`` with a shortcut of the sampler switched off."""
        from nvs_ros.hero import shortcuts

        with shortcuts.without(shortcut):
            return take()

    def ratios(
        self, pairs: Mapping[str, tuple[Callable[[], float], Callable[[], float]]], text: str
    ) -> dict[str, float]:
        """Median ratio of two times for each pair; which one is taken first alternates."""
        found = {}
        for name, (one, other) in pairs.items():
            found[name] = statistics.median(
                1 / (other() / one()) if turn % 2 else one() / other()
                for turn in range(self.repeats)
            )
            print(text.format(name, found[name]), flush=True)
        return found


def _photograph(synthesizer: Synthesizer) -> Any:
    """An image of a coloured box."""
    import numpy as np

    image = np.full((240, 320, 3), 120, np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    image[60:180, 100:220], mask[60:180, 100:220] = (200, 60, 40), 255
    return synthesizer.photograph(image, mask)
