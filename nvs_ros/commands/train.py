"""``python -m nvs_ros train``: the embedded model from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from nvs_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--config', type=Path, required=True, help='recipe, for example config/training.yaml'
    )
    parser.add_argument(
        '--output', type=Path, required=True, help='folder of this run; continued when it exists'
    )
    parser.add_argument(
        '--stop-at', type=int, metavar='STEP', help='stop the last stage early, to go on later'
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.stop_at is not None and arguments.stop_at < 1:
        raise UserError(f'--stop-at: expected at least 1, got {arguments.stop_at}')
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{arguments.output}: cannot be made: {error.strerror}') from error

    try:
        from nvs_ros.training.recipe import Recipe, train
    except ImportError as error:
        raise UserError(f'train needs numba, which renders the objects: {error}') from error
    train(Recipe.from_yaml(arguments.config), arguments.output, arguments.stop_at)
    print(f'model in {arguments.output / "model"}')
    return 0
