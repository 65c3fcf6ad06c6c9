"""``python -m nvs_ros evaluate``: a model on objects that training never saw."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nvs_ros.errors import UserError
from nvs_ros.settings import DEFAULT_PRESET


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--model', default='embedded', help='(default %(default)s)')
    parser.add_argument(
        '--presets', default=DEFAULT_PRESET, help='with commas between (default %(default)s)'
    )
    parser.add_argument('--objects', type=int, default=24, help='(default %(default)s)')
    parser.add_argument('--views', type=int, default=8, help='of each object (default %(default)s)')
    parser.add_argument('--seeds', type=int, default=1, help='(default %(default)s)')
    parser.add_argument('--device', help='cuda, cpu, ... (default: cuda where there is one)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the summary')


def run(arguments: argparse.Namespace) -> int:
    for name, least in (('objects', 1), ('views', 2), ('seeds', 1)):
        if getattr(arguments, name) < least:
            raise UserError(f'--{name}: expected at least {least}, got {getattr(arguments, name)}')

    if arguments.json is not None and (
        arguments.json.is_dir() or not arguments.json.parent.is_dir()
    ):
        raise UserError(f'--json: expected a file in a folder that exists, got {arguments.json}')

    try:
        from nvs_ros.evaluation.protocol import evaluate, summarise
    except ImportError as error:
        raise UserError(f'evaluate needs numba, which renders the objects: {error}') from error
    from nvs_ros.synthesizer import Synthesizer

    presets = arguments.presets.split(',')
    try:
        synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
        for name in presets:
            synthesizer.preset(name)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    summary = summarise(
        evaluate(
            synthesizer,
            presets,
            objects=arguments.objects,
            views=arguments.views,
            seeds=arguments.seeds,
        )
    )
    print(f'{"":16}{"all":>24}{"azimuth over 45 deg":>28}')
    print(f'{"":16}' + f'{"PSNR":>10}{"fg PSNR":>9}{"IoU":>8}' * 2)
    for method, splits in summary.items():
        cells = ''.join(
            f'{m["psnr"]:10.2f}{m["fg_psnr"]:9.2f}{m["iou"]:8.3f}' for m in splits.values()
        )
        print(f'{method:16}{cells}')
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(summary, indent=2) + '\n')
    return 0
