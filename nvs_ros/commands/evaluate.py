"""``python -m nvs_ros evaluate``: a model on objects that training never saw."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from nvs_ros import __version__
from nvs_ros.commands import evaluate_weather
from nvs_ros.commands.arguments import (
    add_json,
    add_model,
    check_output,
    make_output_folder,
    results_folder,
)
from nvs_ros.errors import UserError
from nvs_ros.hashes import sha256_of

LADDER = 'zero123,hourglass,resample,amf,msa,zero-to-hero'
QUICK = {'objects': 12, 'views': 3, 'sources': 1, 'seeds': 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        '--presets',
        default=LADDER,
        help='with commas between; PRESET:FIELD=VALUE changes fields of the sampler, windows as '
        'LOW..HIGH; PRESET@depth, @sensor, @mask or @nothing says what it is told of the shape, '
        '@depth+1 that of one more frame; :keep=false leaves its pictures as they are, '
        ':guide=false tells the network nothing; oracle[:layers=BEGINNING][:window=LOW..HIGH] '
        'takes attention maps of the true image '
        '(default %(default)s)',
    )
    parser.add_argument(
        '--filter',
        type=Path,
        metavar='FILE',
        help='a learned filter, from train-filter, instead of that of the model',
    )
    parser.add_argument(
        '--sweep',
        action='store_true',
        help="instead of --presets: the default preset and it with one of the method's constants "
        'changed at a time, on the validation split',
    )
    parser.add_argument(
        '--no-references',
        action='store_true',
        help='without those that need the network, which take as long as ten fast presets',
    )
    _add_objects(parser)
    parser.add_argument(
        '--workers',
        type=int,
        help='processes, of one thread each where there are several (default: one for each core '
        'with the embedded model on a CPU, else 1)',
    )
    add_json(
        parser,
        'write the figures; those of each object go to FILE.objects/ at once, and the same '
        'command, also with more --objects, goes on from there',
    )
    parser.add_argument(
        '--plots', type=Path, metavar='DIR', help='write ladder.png, angle.png and sheet.png'
    )
    evaluate_weather.add_arguments(parser)


def _add_objects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--set',
        default='household',
        help='procedural, what training draws from; household, its household objects; '
        'meshes:PKG[/PATTERN][@y],..., textured meshes of installed packages, @y where y is up; '
        'meshes:/FOLDER[@y] or meshes:./FOLDER[@y], all OBJ files of a folder; furniture:FOLDER, '
        'catalogue objects that training never saw '
        '(default %(default)s)',
    )
    parser.add_argument(
        '--split', choices=('test', 'validation'), help='(default test; of a sweep validation)'
    )
    parser.add_argument('--objects', type=int, help='(default 50, or all meshes)')
    parser.add_argument('--views', type=int, help="of each object (default 8, the paper's)")
    parser.add_argument(
        '--sources',
        type=int,
        help='views of each object that are a source, each with all others as targets; 0: all of '
        "them (default 0, the paper's)",
    )
    parser.add_argument('--seeds', type=int, help="(default 3, the paper's)")
    parser.add_argument(
        '--quick',
        action='store_true',
        help='{objects} objects of {views} views, {sources} source, {seeds} seed, where not said '
        'otherwise: some minutes on two cores'.format(**QUICK),
    )


def run(arguments: argparse.Namespace) -> int:
    if evaluate_weather.is_asked(arguments):
        return evaluate_weather.run(arguments)
    check_output('--json', arguments.json)
    make_output_folder('--plots', arguments.plots)
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f'--workers: expected at least 1, got {arguments.workers}')
    from nvs_ros.evaluation.protocol import evaluate, read_results
    from nvs_ros.evaluation.report import summarise, terminal_text

    evaluation, config, references = _prepare(arguments)
    model = {
        'source': arguments.model,
        'device': arguments.device,
        'learned_filter': arguments.filter,
    }
    with results_folder(arguments.json, config) as folder:
        workers = arguments.workers or _workers(arguments.model, evaluation)
        evaluate(evaluation, folder, model, workers)
        results = read_results(folder, evaluation.settings.objects)
        presets = [m for m in evaluation.methods if m not in references]
        evaluations = {m.name: m.evaluations(evaluation.synthesizer) for m in evaluation.methods}
        summary = summarise(results, presets, references, evaluations, config)
        print(terminal_text(summary))
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(summary, indent=2) + '\n')
        if arguments.plots is not None:
            from nvs_ros.evaluation.plots import write_plots

            write_plots(summary, results, folder, arguments.plots)
    return 0


def _workers(model: str, evaluation: Any) -> int:
    small = model == 'embedded' and evaluation.synthesizer.components.device.type == 'cpu'
    return len(os.sched_getaffinity(0)) if small else 1


def _prepare(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any], list[Any]]:
    """The evaluation to run, its configuration for the results, and the methods among it that are
    references."""
    import torch

    from nvs_ros.evaluation import methods, perceptual, protocol, sets
    from nvs_ros.evaluation.sweep import sweep_methods
    from nvs_ros.synthesizer import Synthesizer
    from nvs_ros.zero123.components import find_model

    chosen = QUICK if arguments.quick else {}
    for name in QUICK:
        if getattr(arguments, name) is not None:
            chosen = chosen | {name: getattr(arguments, name)}
    try:
        settings = protocol.ProtocolSettings(**chosen)
        synthesizer = Synthesizer.from_pretrained(
            arguments.model, device=arguments.device, learned_filter=arguments.filter
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    split = arguments.split or ('validation' if arguments.sweep else 'test')
    size = synthesizer.components.image_size
    object_set = sets.open_set(arguments.set, split=split, views=settings.views, size=size)
    if object_set.size is not None and not 1 <= settings.objects <= object_set.size:
        settings = dataclasses.replace(settings, objects=object_set.size)

    if arguments.sweep:
        presets = sweep_methods(synthesizer)
    else:
        texts = arguments.presets.split(',')
        presets = [methods.parse_preset(synthesizer, text) for text in texts]
    references = [] if arguments.no_references else methods.references(synthesizer)
    distance, lpips = perceptual.find_perceptual()
    wanted = [*references, *presets]
    config = {
        'version': __version__,
        'torch': torch.__version__,
        'model': synthesizer.components.model_id,
        'weights_sha256': sha256_of(find_model(arguments.model).weight_paths),
        'dtype': str(synthesizer.components.dtype),
        'device': synthesizer.components.device.type,
        'set': arguments.set,
        'split': split,
        'views': settings.views,
        'sources': settings.sources or settings.views,
        'seeds': settings.seeds,
        'lpips': lpips,
        'methods': {method.name: method.described() for method in wanted},
    }
    if any(method.settings.learned for method in wanted):
        own = find_model(arguments.model).learned_filter
        files = [file for file in (arguments.filter or own,) if file is not None]
        config['filter_sha256'] = sha256_of(files)
    evaluation = protocol.Evaluation(synthesizer, object_set, wanted, settings, distance)
    return evaluation, config, references
