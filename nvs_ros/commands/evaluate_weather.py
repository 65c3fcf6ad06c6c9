"""``python -m nvs_ros evaluate --weather``: the part of ``evaluate`` that disturbs the frames."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvs_ros import __version__
from nvs_ros.commands.arguments import (
    add_document,
    check_document,
    check_output,
    make_output_folder,
    results_folder,
    write_section,
)
from nvs_ros.errors import UserError
from nvs_ros.hashes import sha256_of

DEFAULTS = {'objects': 12, 'views': 1}
"""Of these options of ``evaluate``, where frames are disturbed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate`` with which frames are disturbed."""
    group = parser.add_argument_group(
        'rough weather',
        'One frame with depth of each object, disturbed; views as for completion, with their '
        'confidence (docs/robustness.md). --set, --split, --objects (default {objects}), --views '
        '(of the default viewpoints, default {views}), --json and --plots as above; --quick: one '
        'seed and no confidence.'.format(**DEFAULTS),
    )
    group.add_argument(
        '--disturb',
        action='append',
        default=[],
        metavar='KIND[:LEVEL]',
        help='a kind of disturbance at one level, 0 to 5, or at those of --levels; may be given '
        'again',
    )
    group.add_argument('--weather', action='store_true', help='all kinds of disturbance')
    group.add_argument(
        '--levels', default='1,2,3,4,5', help='with commas between (default %(default)s)'
    )
    group.add_argument(
        '--shapes', action='store_true', help='also complete shapes, from the views that are made'
    )
    group.add_argument(
        '--as-given',
        action='store_true',
        help='leave mask and depth as they are, as the node does with input.reconcile:=false',
    )
    group.add_argument(
        '--against',
        type=Path,
        metavar='FILE',
        help='results of another run (its --json): a column says by how much this one is better, '
        'paired over objects',
    )
    add_document(group, 'the set')


def is_asked(arguments: argparse.Namespace) -> bool:
    """Whether the arguments of ``evaluate`` ask for disturbed frames."""
    return bool(arguments.weather or arguments.disturb)


def run(arguments: argparse.Namespace) -> int:
    """Measure disturbed frames; see :func:`nvs_ros.commands.evaluate.run`."""
    check_output('--json', arguments.json)
    make_output_folder('--plots', arguments.plots)
    section = arguments.set.partition(':')[0]
    check_document(arguments.document, section)
    cases = _cases(arguments)
    from nvs_ros.evaluation.weather.protocol import chosen_objects, measure_weather, read_object
    from nvs_ros.evaluation.weather.report import summarise, tables

    weather, config = _prepare(arguments)
    count = DEFAULTS['objects'] if arguments.objects is None else arguments.objects
    indices = chosen_objects(weather.objects.size, count)
    others = _others(arguments.against, indices, config)
    with results_folder(arguments.json, config) as folder:
        measure_weather(weather, indices, cases, folder)
        summary = summarise([read_object(folder, index) for index in indices], config, others)
        print(tables(summary))
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(summary, indent=1) + '\n')
        if arguments.document is not None:
            write_section(arguments.document, section, tables(summary))
        if arguments.plots is not None:
            _write_plots(arguments.plots, section, summary, weather, indices[0])
    return 0


def _others(
    file: Path | None, indices: Sequence[int], config: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """The same objects in the run that ``--against`` names.

    Raises
    ------
    UserError
        There are no such results, or they are of other frames or another model.
    """
    from nvs_ros.evaluation.protocol import results_of
    from nvs_ros.evaluation.weather.protocol import read_object

    if file is None:
        return None
    folder = results_of(file)
    try:
        found = json.loads((folder / 'config.json').read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'--against: {folder} cannot be read: {error}') from error
    same = ('set', 'split', 'views', 'quick', 'weights_sha256')
    if differ := [name for name in same if found.get(name) != config[name]]:
        raise UserError(f'--against: expected a run of the same {differ[0]}, got {file}')
    return [read_object(folder, index) for index in indices]


def _cases(arguments: argparse.Namespace) -> list[Any]:
    from nvs_ros.evaluation.weather.kinds import KINDS, parse_cases, parse_levels

    for option in ('objects', 'views'):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UserError(f'--{option}: expected at least 1, got {value}')
    try:
        levels = parse_levels(arguments.levels)
    except ValueError as error:
        raise UserError(f'--levels: {error}') from error
    try:
        return parse_cases([*arguments.disturb, *(KINDS if arguments.weather else ())], levels)
    except ValueError as error:
        raise UserError(f'--disturb: {error}') from error


def _prepare(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """What is measured, and its configuration for the results."""
    import torch

    from nvs_ros.evaluation.sets import open_set
    from nvs_ros.evaluation.weather.protocol import Weather
    from nvs_ros.settings import CompletionSettings
    from nvs_ros.synthesizer import Synthesizer
    from nvs_ros.zero123.components import find_model

    settings = CompletionSettings()
    try:
        synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
        synthesizer.preset(settings.preset)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    split, size = arguments.split or 'test', synthesizer.components.image_size
    # Two cameras are the fewest that a set draws; the first is the source.
    objects = open_set(arguments.set, split=split, views=2, size=size)
    views = DEFAULTS['views'] if arguments.views is None else arguments.views
    how = {
        'views': views,
        'shapes': arguments.shapes,
        'quick': arguments.quick,
        'reconciled': not arguments.as_given,
    }
    try:
        weather = Weather(synthesizer, objects, settings, **how)
    except ValueError as error:
        raise UserError(f'--{error}') from error
    config = {
        'version': __version__,
        'torch': torch.__version__,
        'model': synthesizer.components.model_id,
        'weights_sha256': sha256_of(find_model(arguments.model).weight_paths),
        'device': synthesizer.components.device.type,
        'set': arguments.set,
        'split': split,
        **how,
    }
    return weather, config


def _write_plots(
    folder: Path, name: str, summary: dict[str, Any], weather: Any, index: int
) -> None:
    from nvs_ros.evaluation.weather.plots import write_inputs, write_plots
    from nvs_ros.evaluation.weather.protocol import ask

    write_plots({name: summary}, folder / 'weather.png')
    seed: Sequence[int] = (weather.objects.settings.seed, index)
    write_inputs(ask(weather, index)[1].sight, seed, folder / 'inputs.png')
