"""``python -m nvs_ros process BAG OUT.mcap``."""

from __future__ import annotations

import argparse
from pathlib import Path

from nvs_ros.commands.arguments import add_bag_parameters, make_output_folder, pairs
from nvs_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('bag', type=Path, help='mcap, db3 or ROS 1 bag; or the folder of a bag')
    parser.add_argument('output', type=Path, help='new mcap file; interrupted, call again to go on')
    add_bag_parameters(parser)
    parser.add_argument(
        '--shapes',
        type=Path,
        metavar='FOLDER',
        help='write a cloud (PLY) and a mesh (OBJ) of each object in each frame as well, and the '
        'topics of both into the output',
    )
    parser.add_argument('--every', type=int, default=1, metavar='N', help='every Nth frame only')


def run(arguments: argparse.Namespace) -> int:
    """Process the bag."""
    if arguments.every < 1:
        raise UserError(f'--every: expected 1 or more, got {arguments.every}')
    if arguments.output.suffix != '.mcap':
        raise UserError(f'expected an output ending in .mcap, got {arguments.output}')
    make_output_folder('--shapes', arguments.shapes)
    from nvs_ros.bag.parameters import read_configuration
    from nvs_ros.bag.process import process

    process(
        arguments.bag,
        arguments.output,
        read_configuration(arguments.params_file, pairs('--param', arguments.param)),
        remap=pairs('--remap', arguments.remap),
        every=arguments.every,
        shapes=arguments.shapes,
    )
    return 0
