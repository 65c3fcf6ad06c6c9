"""``python -m nvs_ros train``: the embedded model from nothing, or from another model."""

from __future__ import annotations

import argparse
import dataclasses
import time
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
        '--steps', type=int, help='of the last stage, instead of what the recipe says'
    )
    parser.add_argument(
        '--stop-at', type=int, metavar='STEP', help='stop the last stage early, to go on later'
    )
    parser.add_argument(
        '--time-limit',
        type=float,
        metavar='SECONDS',
        help='begin no step later than this, to go on later; saving takes some seconds more',
    )


def run(arguments: argparse.Namespace) -> int:
    started_s = time.monotonic()
    for name in ('steps', 'stop_at', 'time_limit'):
        value = getattr(arguments, name)
        if value is not None and not value >= 1:
            option = name.replace('_', '-')
            raise UserError(f'--{option}: expected at least 1, got {value}')
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{arguments.output}: cannot be made: {error.strerror}') from error

    from nvs_ros.training.loop import Until
    from nvs_ros.training.recipe import Recipe
    from nvs_ros.training.run import train

    recipe = Recipe.from_yaml(arguments.config)
    if arguments.steps is not None:
        diffusion = dataclasses.replace(recipe.diffusion, steps=arguments.steps)
        recipe = dataclasses.replace(recipe, diffusion=diffusion)
    until = Until(step=arguments.stop_at)
    if arguments.time_limit is not None:
        until = dataclasses.replace(until, time_s=started_s + arguments.time_limit)
    finished = train(recipe, arguments.output, until)
    model = arguments.output / 'model'
    if not finished:
        print('stopped before the end; the same command goes on')
    if model.exists():
        print(f'model in {model}')
    return 0
