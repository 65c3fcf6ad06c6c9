"""Speed of the filtered sampler as it is, compiled whole, and with the Triton kernel.

    python benchmarks/capture.py [--model embedded|full-random] [--device cpu] [--dtype float16]
        [--views 1] [--ways torch,compiled,triton] [--mode reduce-overhead] [--backend inductor]
        [--repeats 3] [--quick] [--json FILE]

``torch`` is the sampler as it is; ``compiled`` has every evaluation in one program, with the mode
``reduce-overhead`` as a CUDA graph; ``triton`` filters maps with one kernel. Only the sampler runs,
on random conditions: the default preset with its source branch, the same noise for all ways. Also
told are the first run of each way (compilation included), the number of programs, and how far the
latents are from those of ``torch``, as a part of their deviation. ``--quick`` takes few evaluations
and says that it runs, not how fast. ``reduce-overhead`` and ``triton`` have not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from nvs_ros.computer.timing import config_hash, machine
from nvs_ros.hero.capture import compiled_evaluations
from nvs_ros.hero.filtering import attention_map_filtering
from nvs_ros.hero.map_filter import MapStorage
from nvs_ros.hero.presets import shortened
from nvs_ros.hero.sampler import sample
from nvs_ros.synthesizer import Synthesizer

WAYS = ('torch', 'compiled', 'triton')


def conditions(unet: Any, views: int) -> dict[str, Any]:
    """Random arguments of `sample` for views of one frame; always the same."""
    config, generator = unet.config, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(unet.device, unet.dtype)

    size = config.sample_size
    known = normal(1, config.in_channels - config.out_channels, size, size)
    return {
        'tokens': normal(views, 1, config.cross_attention_dim),
        'cond_latents': known.expand(views, -1, -1, -1),
        'noise': normal(views, config.out_channels, size, size),
        'source_token': normal(1, 1, config.cross_attention_dim),
        'source_cond_latent': known,
        'source_noise': normal(1, config.out_channels, size, size),
    }


@contextmanager
def prepared(way: str, unet: Any, options: dict[str, Any]) -> Iterator[MapStorage | None]:
    """The UNet for one way of sampling."""
    if way != 'compiled':
        yield None
        return
    with compiled_evaluations(unet, **options) as storage:
        yield storage


def measure(
    way: str, synthesizer: Synthesizer, arguments: argparse.Namespace
) -> tuple[dict[str, Any], torch.Tensor]:
    """Times of one way in seconds, and the latents it makes."""
    components = synthesizer.components
    unet = components.unet
    settings = synthesizer.preset('zero-to-hero')
    if arguments.quick:
        settings = shortened(settings)
    kernel = 'triton' if way == 'triton' else 'torch'
    settings = dataclasses.replace(settings, filter_kernel=kernel)
    given = conditions(unet, arguments.views)
    options = {'mode': arguments.mode} if arguments.backend == 'inductor' else {}
    programs = torch._dynamo.utils.counters['stats']['unique_graphs']
    seconds = []
    with prepared(way, unet, options | {'backend': arguments.backend}) as storage:
        # The first run reserves buffers, the second one compiles, the third one records graphs.
        for _ in range(arguments.repeats + 3):
            generators = [torch.Generator().manual_seed(i) for i in range(arguments.views)]
            attention = attention_map_filtering(unet, settings, storage=storage)
            started = time.perf_counter()
            latents = sample(
                unet,
                components.scheduler,
                settings=settings,
                generator=generators,
                source_generator=torch.Generator().manual_seed(99),
                attention=attention,
                **given,
            ).cpu()
            seconds.append(time.perf_counter() - started)
    programs = torch._dynamo.utils.counters['stats']['unique_graphs'] - programs
    found = {
        'warm_up_s': sum(seconds[:3]),
        'median_s': statistics.median(seconds[3:]),
        'seconds': seconds,
        'programs': programs,
    }
    return found, latents.float()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--model', default='embedded')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument('--views', type=int, default=1)
    parser.add_argument('--ways', default=','.join(WAYS), help='with commas between')
    parser.add_argument('--mode', default='reduce-overhead', help='of torch.compile')
    parser.add_argument('--backend', default='inductor', help='of torch.compile')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    arguments = parser.parse_args()
    ways = arguments.ways.split(',')
    if unknown := set(ways) - set(WAYS):
        parser.error(f'--ways: expected some of {", ".join(WAYS)}, got {", ".join(unknown)}')
    dtype = arguments.dtype and getattr(torch, arguments.dtype)
    synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device, dtype=dtype)
    asked = {key: value for key, value in vars(arguments).items() if key != 'json'}
    report = machine(arguments.device) | {'config_hash': config_hash(asked)} | asked
    found: dict[str, Any] = {}
    expected, failed = None, False
    for way in ways:
        try:
            found[way], latents = measure(way, synthesizer, arguments)
        except Exception as error:  # the other ways are worth knowing
            failed = True
            found[way] = {'error': f'{type(error).__name__}: {error}'}
            print(f'{way}: {found[way]["error"]}', flush=True)
            continue
        if way == 'torch':
            expected = latents
        if expected is not None:
            difference = (latents - expected).abs().max() / expected.std()
            found[way]['largest_difference'] = float(difference)
        figures = {name: value for name, value in found[way].items() if name != 'seconds'}
        print(f'{way}: ' + ', '.join(f'{k} {v:.4g}' for k, v in figures.items()), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report | {'ways': found}, indent=2) + '\n')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
