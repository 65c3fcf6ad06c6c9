"""``python -m nvs_ros synthesize``: views of an object from photographs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from nvs_ros.commands.arguments import (
    add_model,
    add_photographs,
    add_sampling,
    check_output,
    name_of,
    read_one,
    read_photographs,
    sources_of,
)
from nvs_ros.errors import UserError
from nvs_ros.settings import DEFAULT_PRESET, SEEDS

if TYPE_CHECKING:
    from nvs_ros.synthesizer import View


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photographs(parser)
    parser.add_argument(
        '--object-size',
        type=float,
        metavar='M',
        help='longest side of the object, metres, with --transforms (default: from depth or masks)',
    )
    parser.add_argument(
        '--azimuth',
        type=float,
        default=0.0,
        metavar='DEG',
        help='from the source view, positive moves the camera to its right (default %(default)s)',
    )
    parser.add_argument(
        '--elevation',
        type=float,
        default=0.0,
        metavar='DEG',
        help='from the source view, positive moves the camera up (default %(default)s)',
    )
    parser.add_argument(
        '--distance',
        type=float,
        default=0.0,
        metavar='SIZES',
        help="from the source view, in the object's longest sides, positive moves the camera away "
        '(default %(default)s)',
    )
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('view.png'), help='PNG or JPEG to write'
    )
    parser.add_argument(
        '--size', type=int, help="side of the picture in pixels (default: the model's)"
    )
    parser.add_argument(
        '--mark',
        action='store_true',
        help='striped border beside the object, by which people see that the picture is synthetic',
    )
    add_model(parser)
    add_sampling(parser, DEFAULT_PRESET, 'same seed, same view')


def run(arguments: argparse.Namespace) -> int:
    from nvs_ros.image_files import save_view
    from nvs_ros.mark import marked

    size_m = arguments.object_size
    if size_m is not None and arguments.transforms is None:
        raise UserError('--object-size: expected --transforms with it, got none')
    frames, assumptions = read_photographs(arguments, size_m)
    picture = None if frames else read_one(arguments)
    _check_output(arguments.output, *sources_of(arguments))
    _check_numbers(arguments)

    from tqdm import tqdm

    from nvs_ros.geometry.camera import Camera
    from nvs_ros.geometry.target import target_from_angles
    from nvs_ros.synthesizer import Synthesizer

    try:
        synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
        settings = synthesizer.preset(arguments.preset)
        if picture is None:
            observation = synthesizer.observe(frames)
        else:
            elevation = math.radians(arguments.source_elevation)
            photograph = synthesizer.photograph(*picture, elevation_rad=elevation)
            observation = synthesizer.observe(photograph)
        source = observation.source
        camera = None if arguments.size is None else Camera.canonical(arguments.size)
        target = target_from_angles(
            source,
            math.radians(arguments.azimuth),
            math.radians(arguments.elevation),
            arguments.distance * source.unit_m,
            camera,
        )
        with tqdm(desc='sampling', unit='evaluation', leave=False) as bar:

            def progress(state: dict) -> None:
                bar.total = state['evaluations']
                bar.update()

            (view,) = synthesizer.synthesize(
                observation, [target], settings, seed=arguments.seed, callback=progress
            )
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    image, remarks = marked(view.image, view.mask) if arguments.mark else (view.image, ())
    save_view(image, arguments.output, _provenance(arguments, view))
    for assumption in (*assumptions, *source.assumptions):
        print(f'assumed: {assumption}')
    for warning in (*view.warnings, *remarks):
        print(f'warning: {warning}')
    height, width = view.mask.shape
    share = f'{view.measured_share:.0%} of it measured' if view.measured_share else 'not measured'
    print(f'{arguments.output}: {width}x{height}, synthesised, {share}')
    return 0


def _provenance(arguments: argparse.Namespace, view: View) -> dict[str, object]:
    return {
        'model': view.model_id,
        'preset': arguments.preset,
        'seed': view.seed,
        'source': name_of(arguments),
        'azimuth_deg': arguments.azimuth,
        'elevation_deg': arguments.elevation,
        'distance_sizes': arguments.distance,
        'measured_share': f'{view.measured_share:.3f}',
    }


def _check_numbers(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.seed < SEEDS:
        raise UserError(f'--seed: expected 0 to {SEEDS - 1}, got {arguments.seed}')
    if arguments.size is not None and not 16 <= arguments.size <= 4096:
        raise UserError(f'--size: expected 16 to 4096 pixels, got {arguments.size}')


def _check_output(output: Path, *sources: Path) -> None:
    if output.suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        raise UserError(f'expected an output ending in .png or .jpg, got {output}')
    check_output('--output', output)
    if output.exists() and any(source.exists() and output.samefile(source) for source in sources):
        raise UserError(f'the view would overwrite {output}: give another --output')
