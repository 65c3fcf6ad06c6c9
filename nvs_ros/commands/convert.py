"""``python -m nvs_ros convert INPUT OUTPUT_DIR``: any checkpoint to a diffusers folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nvs_ros.zero123.convert import convert
from nvs_ros.zero123.layout import KINDS

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'input',
        metavar='INPUT',
        help='original .ckpt or .safetensors, folder in diffusers layout, or fetched name',
    )
    parser.add_argument('output', metavar='OUTPUT_DIR', type=Path, help='new folder')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='(%(default)s)')
    parser.add_argument(
        '--no-ema',
        dest='use_ema',
        action='store_false',
        help='take the weights of the last training step instead of their moving average',
    )
    parser.add_argument('--kind', choices=KINDS, help='guessed from the name when omitted')


def run(arguments: argparse.Namespace) -> int:
    kind = convert(
        arguments.input,
        arguments.output,
        dtype=DTYPES[arguments.dtype],
        use_ema=arguments.use_ema,
        kind=arguments.kind,
        show_progress=True,
    )
    print(f'{arguments.output}: {kind}, {arguments.dtype}')
    return 0
