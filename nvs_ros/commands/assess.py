"""``python -m nvs_ros assess``: completed shapes and the confidence of views against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nvs_ros.commands.arguments import (
    add_document,
    add_json,
    add_model,
    add_set,
    check_document,
    check_output,
    make_output_folder,
    write_section,
)
from nvs_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_set(parser)
    parser.add_argument(
        '--objects', type=int, default=40, metavar='N', help='of the test split (default 40)'
    )
    parser.add_argument(
        '--frames',
        type=int,
        default=1,
        choices=(1, 2, 3),
        help='measured of each object: the camera goes to the next best view (default 1)',
    )
    parser.add_argument(
        '--fit',
        type=int,
        default=0,
        metavar='N',
        help='first calibrate the confidence on N objects of the validation split, and write it '
        'into the model (a folder, or the embedded one)',
    )
    add_json(parser, 'write numbers of all objects')
    add_document(parser, 'the set')
    parser.add_argument('--plots', type=Path, metavar='DIR', help='write pictures')


def run(arguments: argparse.Namespace) -> int:
    if arguments.objects < 1:
        raise UserError(f'--objects: expected at least 1, got {arguments.objects}')
    if arguments.fit < 0:
        raise UserError(f'--fit: expected at least 0, got {arguments.fit}')
    index = _model_index(arguments.model) if arguments.fit else None
    check_output('--json', arguments.json)
    make_output_folder('--plots', arguments.plots)
    section = arguments.set.partition(':')[0]
    check_document(arguments.document, section)
    from nvs_ros.evaluation.sets import open_set
    from nvs_ros.evaluation.shape_protocol import assess, fit
    from nvs_ros.evaluation.shape_report import summarise, table, write_plots
    from nvs_ros.settings import CompletionSettings
    from nvs_ros.synthesizer import Synthesizer

    settings = CompletionSettings()
    try:
        synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
        synthesizer.preset(settings.preset)
        size = synthesizer.components.image_size
        objects = open_set(arguments.set, split='test', views=2, size=size)
        if index is not None:
            _write(fit(synthesizer, objects, arguments.fit, settings).profile(), index)
            print(f'the confidence is calibrated: {index}')
            synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    count = min(arguments.objects, objects.size or arguments.objects)
    results = list(assess(synthesizer, objects, count, settings, arguments.frames))
    summary = summarise(results)
    print(table(summary))
    if arguments.document is not None:
        write_section(arguments.document, section, table(summary))
    if arguments.json is not None:
        numbers = [{k: result[k] for k in ('name', 'views', 'shapes')} for result in results]
        arguments.json.write_text(json.dumps({**summary, 'results': numbers}, indent=1) + '\n')
    if arguments.plots is not None:
        write_plots(summary, results, arguments.plots)
    return 0


def _model_index(model: str) -> Path:
    """The ``model_index.json`` of a model, which contains its profile."""
    from nvs_ros.zero123.components import EMBEDDED

    index = (EMBEDDED if model == 'embedded' else Path(model)) / 'model_index.json'
    if not index.is_file():
        raise UserError(f'--fit: expected the embedded model or a folder of a model, got {model}')
    check_output('--fit', index)
    return index


def _write(confidence: dict[str, float], index: Path) -> None:
    content = json.loads(index.read_text())
    content.setdefault('profile', {})['confidence'] = confidence
    try:
        index.write_text(json.dumps(content, indent=2) + '\n')
    except OSError as error:
        raise UserError(f'{index}: cannot be written: {error.strerror}') from error
