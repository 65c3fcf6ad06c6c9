"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nvs_ros.errors import UserError


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


def check_output(option: str, file: Path | None) -> None:
    """Refuse a place that cannot be written to, before the work is done.

    Parameters
    ----------
    option : str
        What it was given as, for the message.
    file : Path, optional

    Raises
    ------
    UserError
        There is no such folder, it or the file is not ours to write, or a folder has the name.
    """
    if file is None:
        return
    expected = f'{option}: expected a file in a folder that exists'
    if file.is_dir():
        raise UserError(f'{expected}, got the folder {file}')
    if not file.parent.is_dir():
        raise UserError(f'{expected}, got {file}: no such folder: {file.parent}')
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f'{option}: {file} may not be written')


def make_output_folder(option: str, folder: Path | None) -> None:
    """Make a folder for what will be written, before the work is done.

    Raises
    ------
    UserError
        It cannot be made or written to.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{option}: {folder} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK):
        raise UserError(f'{option}: {folder} may not be written')
