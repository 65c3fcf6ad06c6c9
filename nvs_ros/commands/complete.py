"""``python -m nvs_ros complete``: the whole shape of an object, from photographs or a bag."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from nvs_ros.commands.arguments import (
    add_bag_parameters,
    add_model,
    add_photographs,
    add_sampling,
    check_output,
    name_of,
    pairs,
    read_one,
    read_photographs,
)
from nvs_ros.errors import UserError
from nvs_ros.settings import SEEDS, CompletionSettings

if TYPE_CHECKING:
    import numpy as np

    from nvs_ros.observation import Frame, Observation
    from nvs_ros.synthesizer import Synthesizer

BAGS = ('.mcap', '.db3', '.bag')
"""Endings of bags; a folder is one as well."""
PHOTOGRAPH_PX = 256
"""Side of the picture that gives silhouette and colours."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = CompletionSettings()
    add_photographs(parser, ' In their place a bag: the object in its last frame')
    add_bag_parameters(parser)
    parser.add_argument(
        '--size',
        type=float,
        metavar='M',
        help='longest side of the object, metres (default: from depth or masks of --transforms, '
        'else 1)',
    )
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('completed.ply'), help='PLY of the cloud to write'
    )
    parser.add_argument(
        '--mesh', type=Path, help='PLY, GLB, OBJ or STL of the surface to write as well'
    )
    parser.add_argument(
        '--views', type=int, default=8, help='round the object, with the source (default 8)'
    )
    parser.add_argument(
        '--seeds', type=int, default=defaults.seeds, help='of each view (default %(default)s)'
    )
    parser.add_argument(
        '--cells', type=int, default=defaults.cells, help='of the hull (default %(default)s)'
    )
    parser.add_argument(
        '--min-confidence',
        type=float,
        default=defaults.min_confidence,
        help='views under it are not used (default %(default)s)',
    )
    add_sampling(parser, defaults.preset, 'the first one')
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    bag = _bag(arguments)
    frames, assumptions, picture = [], (), None
    if bag is None:
        frames, assumptions = read_photographs(arguments, arguments.size)
        picture = None if frames else read_one(arguments)

    from tqdm import tqdm

    from nvs_ros.completion.export import save_cloud, save_mesh
    from nvs_ros.completion.pipeline import assess_views, complete_shape, provenance_of
    from nvs_ros.geometry import orbit, target_from_angles
    from nvs_ros.synthesizer import Synthesizer

    try:
        settings = CompletionSettings(
            preset=arguments.preset,
            seeds=arguments.seeds,
            cells=arguments.cells,
            min_confidence=arguments.min_confidence,
        )
        synthesizer = Synthesizer.from_pretrained(arguments.model, device=arguments.device)
        synthesizer.preset(settings.preset)
        if bag is not None:
            frames = _frames_of(bag, arguments, synthesizer)
        observation, frames = _observed(arguments, synthesizer, frames, picture)
        source = observation.source
        targets = [target_from_angles(source, *v) for v in orbit(arguments.views)[1:]]
        with tqdm(desc='sampling', unit='evaluation', leave=False) as bar:
            views = assess_views(
                synthesizer,
                observation,
                targets,
                settings,
                seed=arguments.seed,
                callback=lambda state: bar.update(),
            )
        completion = complete_shape(frames, observation, views, settings)
    except (ValueError, RuntimeError) as error:
        raise UserError(str(error)) from error
    size_m = source.unit_m
    if picture is not None:
        size_m = arguments.size or 1.0
        completion = completion.scaled(size_m)
    provenance = {
        **provenance_of(views, settings),
        'source': name_of(arguments),
        'size_m': size_m,
        'frame': 'object: z up, ' + _axes(bag is not None, picture is not None),
    }
    save_cloud(completion.cloud, arguments.output, provenance)
    if arguments.mesh is not None:
        save_mesh(completion.surface, arguments.mesh, provenance)
    _report(arguments, (*assumptions, *source.assumptions), views, completion)
    return 0


def _bag(arguments: argparse.Namespace) -> Path | None:
    """The bag that is given in place of a photograph."""
    given = arguments.photo
    is_bag = len(given) == 1 and (given[0].suffix in BAGS or given[0].is_dir())
    of_photographs = ('mask', 'transforms', 'centre', 'source_elevation')
    of_bags = ('params_file', 'param', 'remap')
    for name in of_photographs if is_bag else of_bags:
        if getattr(arguments, name):
            wanted, got = ('photographs', 'a bag') if is_bag else ('a bag', 'photographs')
            raise UserError(f'--{name.replace("_", "-")}: expected {wanted} with it, got {got}')
    return given[0] if is_bag else None


def _frames_of(bag: Path, arguments: argparse.Namespace, synthesizer: Synthesizer) -> list[Frame]:
    from nvs_ros.bag.latest_object import latest_object
    from nvs_ros.bag.parameters import read_configuration

    given = {} if arguments.size is None else {'object.diameter_m': str(arguments.size)}
    configuration = read_configuration(
        arguments.params_file, given | pairs('--param', arguments.param)
    )
    remap = pairs('--remap', arguments.remap)
    return latest_object(bag, configuration, synthesizer, remap).frames


def _observed(
    arguments: argparse.Namespace,
    synthesizer: Synthesizer,
    frames: list[Frame],
    picture: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Observation, list[Frame]]:
    """What the network is shown, and the frames that carve: of a photograph a sharper picture."""
    from nvs_ros.geometry import photograph_view
    from nvs_ros.synthesizer import Frame

    if picture is None:
        return synthesizer.observe(frames), frames
    given = {'elevation_rad': math.radians(arguments.source_elevation)}
    observation = synthesizer.observe(synthesizer.photograph(*picture, **given))
    fill = synthesizer.components.profile.photograph_fill
    sharp = photograph_view(*picture, image_size=PHOTOGRAPH_PX, fill=fill, **given)
    pose = sharp.object_from_camera
    return observation, [Frame(sharp.image, sharp.mask, sharp.camera, pose, 1.0)]


def _axes(is_bag: bool, is_photograph: bool) -> str:
    if is_bag:
        return "those of the object's pose in the bag"
    return 'x towards the camera' if is_photograph else 'axes of the world'


def _check(arguments: argparse.Namespace) -> None:
    from nvs_ros.completion.export import MESHES

    if arguments.views < 2:
        raise UserError(f'--views: expected at least 2, got {arguments.views}')
    if arguments.size is not None and not 0 < arguments.size < math.inf:
        raise UserError(f'--size: expected a positive number of metres, got {arguments.size}')
    if not 0 <= arguments.seed < SEEDS:
        raise UserError(f'--seed: expected 0 to {SEEDS - 1}, got {arguments.seed}')
    if arguments.output.suffix.lower() != '.ply':
        raise UserError(f'expected an output ending in .ply, got {arguments.output}')
    if arguments.mesh is not None and arguments.mesh.suffix.lower() not in MESHES:
        raise UserError(f'expected a mesh ending in {", ".join(MESHES)}, got {arguments.mesh}')
    check_output('--output', arguments.output)
    check_output('--mesh', arguments.mesh)
    if arguments.mesh == arguments.output:
        raise UserError(f'the mesh would overwrite {arguments.output}: give another --mesh')


def _report(arguments, assumptions, views, completion) -> None:
    for assumption in assumptions:
        print(f'assumed: {assumption}')
    for warning in dict.fromkeys(w for view in views for w in view.warnings):
        print(f'warning: {warning}')
    for i, view in enumerate(views):
        azimuth_deg = math.degrees(view.estimate.target.relative.delta_azimuth_rad)
        best = '  <- a real picture from here would add most'
        note = best if i == completion.next_best_view else ''
        print(f'view {i}: azimuth {azimuth_deg:+4.0f} deg, confidence {view.confidence:.2f}{note}')
    synthetic = int(completion.cloud.synthetic.sum())
    print(f'{arguments.output}: {len(completion.cloud.points)} points, {synthetic} synthetic')
    if arguments.mesh is not None:
        print(f'{arguments.mesh}: {len(completion.surface.faces)} triangles, synthetic')
