"""``python -m nvs_ros train-filter``: a filter of attention maps, learned for a model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from nvs_ros.commands.arguments import add_model
from nvs_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from nvs_ros.training.filter_recipe import FilterRecipe

    add_model(parser)
    parser.add_argument(
        '--output', type=Path, required=True, help='folder of this run; continued when it exists'
    )
    for field in dataclasses.fields(FilterRecipe):
        default: Any = field.default
        several = isinstance(default, tuple)
        parser.add_argument(
            f'--{field.name}',
            type=type(default[0] if several else default),
            nargs='+' if several else None,
            default=default,
            help=f'{field.metadata["description"]} (default %(default)s)',
        )


def run(arguments: argparse.Namespace) -> int:
    from nvs_ros.training.filter_recipe import FilterRecipe
    from nvs_ros.training.learned_filter import learn_filter

    names = [field.name for field in dataclasses.fields(FilterRecipe)]
    try:
        recipe = FilterRecipe(**{name: getattr(arguments, name) for name in names})
        arguments.output.mkdir(parents=True, exist_ok=True)
        learn_filter(arguments.model, recipe, arguments.output)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    print(f'filter in {arguments.output / "filter.safetensors"}, its figures in fit.json')
    return 0
