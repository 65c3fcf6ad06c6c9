"""``python -m nvs_ros fetch NAME``: download a known public checkpoint."""

from __future__ import annotations

import argparse

from nvs_ros.zero123.hub import PUBLIC_MODELS, fetch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME', help=f'one of {", ".join(PUBLIC_MODELS)}')


def run(arguments: argparse.Namespace) -> int:
    path = fetch(arguments.name)
    print(f'{arguments.name} is in {path}; use the name or the path as the model source.')
    return 0
