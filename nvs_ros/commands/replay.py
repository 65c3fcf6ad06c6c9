"""``python -m nvs_ros replay BAG``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from nvs_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('bag', type=Path, help='mcap, db3 or ROS 1 bag; or the folder of a bag')
    parser.add_argument('--topics', nargs='+', default=[], metavar='TOPIC', help='only these')
    parser.add_argument('--rate', type=float, default=1.0, help='speed (default: 1, as recorded)')
    parser.add_argument('--loop', action='store_true', help='begin again at the end')
    parser.add_argument(
        '--clock',
        type=float,
        nargs='?',
        const=40.0,
        default=0.0,
        metavar='HZ',
        help='publish the time of the bag on /clock (40 times a second)',
    )
    parser.add_argument(
        '--wait',
        type=float,
        default=3.0,
        metavar='S',
        help='longest wait for every topic to have a subscriber (default: 3 s)',
    )
    parser.add_argument(
        '--remap', nargs='+', default=[], metavar='FROM:=TO', help='ROS remapping rules'
    )


def run(arguments: argparse.Namespace) -> int:
    """Replay the bag."""
    for name, low in (('rate', 1e-3), ('clock', 0.0), ('wait', 0.0)):
        value = getattr(arguments, name)
        if not low <= value < math.inf:
            raise UserError(f'--{name}: expected a number of at least {low:g}, got {value:g}')
    from nvs_ros.bag.replay import replay

    replay(
        arguments.bag,
        topics=arguments.topics,
        rate=arguments.rate,
        loop=arguments.loop,
        clock_hz=arguments.clock,
        wait_s=arguments.wait,
        remap=arguments.remap,
    )
    return 0
