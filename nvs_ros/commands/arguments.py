"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_photograph(parser: argparse.ArgumentParser) -> None:
    """A photograph, the object in it, and where it was taken from."""
    parser.add_argument('photo', type=Path, help='photograph of one object; RGBA brings its mask')
    parser.add_argument(
        '--mask', type=Path, help='picture of the same size: its alpha, or above 0 is the object'
    )
    parser.add_argument(
        '--source-elevation',
        type=float,
        default=0.0,
        metavar='DEG',
        help='how far above the object the photograph was taken (default %(default)s)',
    )
