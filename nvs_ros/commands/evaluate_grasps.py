"""``python -m nvs_ros evaluate-grasps``: what a completed cloud is worth to a gripper."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from nvs_ros import __version__
from nvs_ros.commands.arguments import (
    add_document,
    add_json,
    add_model,
    add_set,
    check_document,
    check_output,
    make_output_folder,
    results_folder,
    write_section,
)
from nvs_ros.errors import UserError
from nvs_ros.evaluation.grasps.conditions import APPROACH, SIZES, Conditions
from nvs_ros.hashes import sha256_of

CLOUDS_DEPEND_ON = (
    'version',
    'weights_sha256',
    'set',
    'split',
    'faults',
    'place',
    'sizes',
    'completion',
    'mujoco',
    'convex',
)
"""Parts of the configuration that change clouds; all others change what is done with them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_set(parser)
    parser.add_argument(
        '--split',
        choices=('test', 'validation'),
        default='test',
        help='what is tuned is tuned on the validation split (default %(default)s)',
    )
    parser.add_argument('--objects', type=int, default=40, metavar='N', help='(default 40)')
    parser.add_argument(
        '--views', type=int, default=3, metavar='N', help='cameras about each (default 3)'
    )
    parser.add_argument(
        '--seeds', type=int, default=3, metavar='N', help='of noise and jitter (default 3)'
    )
    parser.add_argument(
        '--clouds', metavar='NAME,...', help='some of the clouds alone (default: all of them)'
    )
    parser.add_argument(
        '--faults', action='store_true', help='depth and mask as a real sensor gives them'
    )
    parser.add_argument(
        '--place',
        choices=('known', 'found'),
        default='known',
        help='of the object and its size: true ones are given, or they are found from mask and '
        'depth (default %(default)s)',
    )
    _add_conditions(parser)
    parser.add_argument(
        '--margin',
        type=float,
        metavar='SHARE',
        help='what is imagined may be wider by this share of the object and has to fit between '
        'the fingers still (default: none)',
    )
    add_json(
        parser,
        'write the numbers; clouds and the figures of each object go to FILE.objects, where a run '
        'goes on that was interrupted',
    )
    parser.add_argument(
        '--share',
        type=Path,
        metavar='DIR',
        help='keep clouds there instead, by what they depend on: runs that differ in the hand '
        'alone make them once',
    )
    add_document(parser, 'a section')
    parser.add_argument(
        '--section', metavar='NAME', help='of --document (default: household, meshes, ...)'
    )
    parser.add_argument('--plots', type=Path, metavar='DIR', help='write pictures of grasps')


def _add_conditions(parser: argparse.ArgumentParser) -> None:
    for name, known, what in (
        ('approach', APPROACH, 'from where the hand can come'),
        ('sizes', SIZES, 'of objects whose size is drawn'),
    ):
        meaning = '; '.join(f'{value}: {text}' for value, text in known.items())
        parser.add_argument(
            f'--{name}',
            choices=tuple(known),
            default=getattr(Conditions, name),
            help=f'{what} ({meaning}; default %(default)s)',
        )


def _ranking(margin: float | None) -> Any:
    from nvs_ros.evaluation.grasps.ranking import Ranking

    try:
        return Ranking() if margin is None else Ranking(margin=margin)
    except ValueError as error:
        raise UserError(f'--{error}') from error


def run(arguments: argparse.Namespace) -> int:
    for name in ('objects', 'views', 'seeds'):
        if getattr(arguments, name) < 1:
            raise UserError(f'--{name}: expected at least 1, got {getattr(arguments, name)}')
    check_output('--json', arguments.json)
    make_output_folder('--share', arguments.share)
    make_output_folder('--plots', arguments.plots)
    section = arguments.section or arguments.set.partition(':')[0]
    check_document(arguments.document, section)
    from nvs_ros.evaluation.grasps.summary import summarise, table
    from nvs_ros.evaluation.grasps.trials import try_all

    trials, config = _prepare(arguments)
    with results_folder(arguments.json, config) as folder:
        count = min(arguments.objects, trials.objects.size or arguments.objects)
        clouds = folder if arguments.share is None else _shared(arguments.share, config)
        results = try_all(trials, count, folder, clouds)
        summary = summarise(results)
        print(table(summary))
        if arguments.document is not None:
            write_section(arguments.document, section, table(summary))
        if arguments.json is not None:
            text = json.dumps({**summary, 'config': config, 'results': results}, indent=1)
            arguments.json.write_text(text + '\n')
        if arguments.plots is not None:
            from nvs_ros.evaluation.grasps.pictures import write_sheet

            write_sheet(results, clouds, arguments.plots / 'grasps.png')
    return 0


def _shared(folder: Path, config: dict[str, Any]) -> Path:
    """The part of a folder that clouds of this configuration are kept in."""
    from nvs_ros.evaluation.protocol import open_folder

    own = {name: config[name] for name in CLOUDS_DEPEND_ON}
    key = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    open_folder(folder / key[:12], own)
    return folder / key[:12]


def _prepare(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """What is tried, and what it is made with."""
    from nvs_ros.evaluation.grasps import convex, physics, trials
    from nvs_ros.evaluation.grasps.clouds import CLOUDS
    from nvs_ros.evaluation.sets import open_set
    from nvs_ros.settings import CompletionSettings
    from nvs_ros.synthesizer import Synthesizer
    from nvs_ros.zero123.components import find_model

    mujoco = physics.require_mujoco()
    clouds = tuple(arguments.clouds.split(',')) if arguments.clouds else tuple(CLOUDS)
    if unknown := [name for name in clouds if name not in CLOUDS]:
        raise UserError(f'--clouds: expected some of {", ".join(CLOUDS)}, got {unknown[0]!r}')
    settings = CompletionSettings()
    try:
        synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
        synthesizer.preset(settings.preset)
        size = synthesizer.components.image_size
        objects = open_set(arguments.set, split=arguments.split, views=2, size=size)
        weights = sha256_of(find_model(arguments.model).weight_paths)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    made = trials.Trials(
        synthesizer,
        objects,
        clouds,
        arguments.views,
        arguments.seeds,
        settings,
        faults=arguments.faults,
        found=arguments.place == 'found',
        ranking=_ranking(arguments.margin),
        conditions=Conditions(arguments.approach, arguments.sizes),
    )
    config = {
        'version': __version__,
        'mujoco': mujoco.__version__,
        'model': synthesizer.components.model_id,
        'weights_sha256': weights,
        'set': arguments.set,
        'split': arguments.split,
        'clouds': list(clouds),
        'views': arguments.views,
        'seeds': arguments.seeds,
        'faults': arguments.faults,
        'place': arguments.place,
        **dataclasses.asdict(made.conditions),
        'completion': dataclasses.asdict(settings),
        'gripper': json.loads(json.dumps(dataclasses.asdict(made.gripper))),
        'ranking': dataclasses.asdict(made.ranking),
        'convex': convex.SETTINGS,
    }
    return made, config
