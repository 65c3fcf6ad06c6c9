"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nvs_ros.errors import UserError
from nvs_ros.settings import ModelSettings

if TYPE_CHECKING:
    import numpy as np

    from nvs_ros.observation import Frame


AUTO = 'auto'
"""In place of a mask's file: whatever stands out in the photograph."""


def add_model(parser: argparse.ArgumentParser, more: str = '') -> None:
    """``--model`` and ``--device``; ``more`` is added to the help of the model."""
    parser.add_argument(
        '--model',
        default=ModelSettings.source,
        help=f'as for model.source{more} (default %(default)s)',
    )
    parser.add_argument('--device', help='cuda, cpu, ... (default: cuda where there is one)')


def add_sampling(parser: argparse.ArgumentParser, preset: str, seed: str) -> None:
    """``--preset`` with its default, and ``--seed`` with its help."""
    parser.add_argument('--preset', default=preset, help='(default %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help=f'{seed} (default %(default)s)')


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """``--json FILE``, and what is written there."""
    parser.add_argument('--json', type=Path, metavar='FILE', help=what)


def add_photographs(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Photographs of an object, the object in them, and where they were taken from; ``more`` is
    added to the help."""
    parser.add_argument(
        'photo',
        type=Path,
        nargs='*',
        help='photograph of one object; RGBA brings its mask. Several with --transforms, which '
        f'takes all of its frames when none is given.{more}',
    )
    parser.add_argument(
        '--mask',
        metavar='FILE',
        help='picture of the same size: its alpha, or above 0 is the object; auto: whatever stands '
        'out, by U2-Net where it is installed',
    )
    parser.add_argument(
        '--source-elevation',
        type=float,
        default=0.0,
        metavar='DEG',
        help='how far above the object the photograph was taken (default %(default)s)',
    )
    parser.add_argument(
        '--transforms',
        type=Path,
        metavar='JSON',
        help="cameras of the photographs, nerfstudio's transforms.json; its masks and depth are "
        'taken, viewpoints are counted from the first photograph',
    )
    parser.add_argument(
        '--centre',
        type=float,
        nargs=3,
        metavar=('X', 'Y', 'Z'),
        help='of the object in the world of --transforms, metres (default: from the masks)',
    )


def read_photographs(
    arguments: argparse.Namespace, size_m: float | None
) -> tuple[list[Frame], tuple[str, ...]]:
    """Calibrated frames of what :func:`add_photographs` was given, and what was assumed.

    Parameters
    ----------
    arguments : argparse.Namespace
    size_m : float, optional
        Longest side of the object's bounding box.

    Returns
    -------
    frames : list of Frame
        None without ``--transforms``: see :func:`read_one`.
    assumptions : tuple of str

    Raises
    ------
    UserError
        Arguments that do not go together, or files that cannot be used.
    """
    if arguments.transforms is None:
        if arguments.centre is not None:
            raise UserError('--centre: expected --transforms with it, got none')
        if len(arguments.photo) != 1:
            raise UserError(
                f'expected one photograph, or their cameras with --transforms, got '
                f'{len(arguments.photo)}'
            )
        return [], ()
    if arguments.mask not in (None, AUTO):
        raise UserError(
            '--mask: expected auto with --transforms, whose frames name masks of their own '
            f'(mask_path), got {arguments.mask}'
        )
    if arguments.source_elevation:
        raise UserError('--source-elevation: expected none with --transforms, which says it')
    from nvs_ros.photographs.frames import read_frames

    def read(file: Path, mask_file: Path | None) -> tuple[np.ndarray, np.ndarray]:
        return _read(file, arguments.mask if mask_file is None else mask_file)

    return read_frames(
        arguments.transforms, arguments.photo, read, centre_m=arguments.centre, size_m=size_m
    )


def read_one(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """The one photograph and its mask; see :func:`nvs_ros.image_files.read_photograph`."""
    return _read(arguments.photo[0], arguments.mask)


def _read(file: Path, mask: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    from nvs_ros.image_files import read_photograph, read_rgb

    if mask != AUTO:
        return read_photograph(file, None if mask is None else Path(mask))
    from nvs_ros.photographs.salient import salient_mask

    image = read_rgb(file)
    return image, salient_mask(image)


def sources_of(arguments: argparse.Namespace) -> list[Path]:
    """Files that must not be overwritten."""
    sources = list(arguments.photo)
    if arguments.mask not in (None, AUTO):
        sources.append(Path(arguments.mask))
    if arguments.transforms is not None:
        from nvs_ros.photographs.frames import files_of

        sources += [arguments.transforms, *files_of(arguments.transforms)]
    return sources


def name_of(arguments: argparse.Namespace) -> str:
    """What the pictures came from, for provenance."""
    names = [photo.name for photo in arguments.photo] or [arguments.transforms.name]
    return ' '.join(names)


def add_bag_parameters(parser: argparse.ArgumentParser) -> None:
    """How the frames of a bag are to be taken."""
    parser.add_argument('--params-file', type=Path, metavar='YAML', help="the node's parameters")
    parser.add_argument(
        '-p',
        '--param',
        action='append',
        default=[],
        metavar='NAME:=VALUE',
        help='one parameter of the node, e.g. -p preset:=hourglass -p model.source:=FOLDER',
    )
    parser.add_argument(
        '--remap',
        nargs='+',
        default=[],
        metavar='INPUT:=TOPIC',
        help='where image, camera_info, mask, ... are recorded under other names',
    )


def pairs(option: str, rules: list[str]) -> dict[str, str]:
    """``name:=value`` of each rule.

    Raises
    ------
    UserError
        A rule is something else.
    """
    found = {}
    for rule in rules:
        name, assigned, value = rule.partition(':=')
        if not (name and assigned and value):
            raise UserError(f'{option}: expected name:=value, got {rule!r}')
        found[name] = value
    return found


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


def write_section(file: Path, section: str, text: str | None = None) -> None:
    """Put a text between the marks of a section of a Markdown file, or only see that it could be.

    Raises
    ------
    UserError
        The file has no such section, or cannot be written.
    """
    from nvs_ros.evaluation.markdown_tables import replaced

    try:
        content = replaced(file.read_text(), section, text or '')
        if text is not None:
            file.write_text(content)
    except (OSError, ValueError) as error:
        raise UserError(f'{file}: {error}') from error
