"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvs_ros.errors import UserError
from nvs_ros.settings import ModelSettings

if TYPE_CHECKING:
    import numpy as np

    from nvs_ros.observation import Frame


AUTO = 'auto'
"""Value of ``--mask`` for the salient object in the photograph, in place of a file."""


def add_model(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add ``--model`` and ``--device``; ``more`` is appended to the help of the former."""
    parser.add_argument(
        '--model',
        default=ModelSettings.source,
        help=f'as for model.source{more} (default %(default)s)',
    )
    parser.add_argument('--device', help='cuda, cpu, ... (default: cuda where there is one)')


def add_sampling(parser: argparse.ArgumentParser, preset: str, seed: str) -> None:
    """Add ``--preset`` with its default, and ``--seed`` with its help."""
    parser.add_argument('--preset', default=preset, help='(default %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help=f'{seed} (default %(default)s)')


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--json FILE``; ``what`` is its help."""
    parser.add_argument('--json', type=Path, metavar='FILE', help=what)


def add_set(parser: argparse.ArgumentParser) -> None:
    """``--set``: which objects are evaluated."""
    parser.add_argument(
        '--set',
        default='household',
        help='procedural, household, meshes:PKG or meshes:/FOLDER, as for evaluate '
        '(default %(default)s)',
    )


def add_document(parser: argparse._ActionsContainer, section: str) -> None:
    """``--document``: a Markdown file for the tables, and which ``section`` of it they go to."""
    parser.add_argument(
        '--document',
        type=Path,
        metavar='FILE',
        help=f'write the tables between the marks of {section} in a Markdown file',
    )


def add_photographs(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add the arguments for photographs, their masks and cameras; ``more`` is appended to the help
    of the photographs."""
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
    """Read the calibrated frames given by the arguments of :func:`add_photographs`.

    Parameters
    ----------
    arguments : argparse.Namespace
    size_m : float, optional
        Longest side of the object's bounding box.

    Returns
    -------
    frames : list of Frame
        Empty without ``--transforms``: then read the one photograph with :func:`read_one`.
    assumptions : tuple of str
        What was assumed, in sentences for a person.

    Raises
    ------
    UserError
        The arguments do not fit each other, or a file cannot be used.
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
    from nvs_ros.reconcile import reconcile

    def read(file: Path, mask_file: Path | None) -> tuple[np.ndarray, np.ndarray]:
        return _read(file, arguments.mask if mask_file is None else mask_file)

    frames, assumptions = read_frames(
        arguments.transforms, arguments.photo, read, centre_m=arguments.centre, size_m=size_m
    )
    try:
        found = [reconcile(frame) for frame in frames]
    except ValueError as error:
        raise UserError(f'{arguments.transforms}: {error}') from error
    remarks = [f'frame {i}: {text}' for i, (_, said) in enumerate(found, 1) for text in said]
    return [frame for frame, _ in found], (*assumptions, *remarks)


def read_one(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Read the one photograph and its mask; see :func:`nvs_ros.image_files.read_photograph`."""
    return _read(arguments.photo[0], arguments.mask)


def _read(file: Path, mask: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    from nvs_ros.image_files import read_photograph, read_rgb

    if mask != AUTO:
        return read_photograph(file, None if mask is None else Path(mask))
    from nvs_ros.photographs.salient import salient_mask

    image = read_rgb(file)
    return image, salient_mask(image)


def sources_of(arguments: argparse.Namespace) -> list[Path]:
    """All input files, which must not be overwritten."""
    sources = list(arguments.photo)
    if arguments.mask not in (None, AUTO):
        sources.append(Path(arguments.mask))
    if arguments.transforms is not None:
        from nvs_ros.photographs.frames import files_of

        sources += [arguments.transforms, *files_of(arguments.transforms)]
    return sources


def name_of(arguments: argparse.Namespace) -> str:
    """Names of the input files, for provenance."""
    names = [photo.name for photo in arguments.photo] or [arguments.transforms.name]
    return ' '.join(names)


def add_bag_parameters(parser: argparse.ArgumentParser) -> None:
    """Add the arguments with which frames are read from a bag."""
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
    """Parse rules ``name:=value`` to a dict.

    Raises
    ------
    UserError
        A rule has another form.
    """
    found = {}
    for rule in rules:
        name, assigned, value = rule.partition(':=')
        if not (name and assigned and value):
            raise UserError(f'{option}: expected name:=value, got {rule!r}')
        found[name] = value
    return found


def check_output(option: str, file: Path | None) -> None:
    """Check that a file can be written, before the work begins.

    Parameters
    ----------
    option : str
        Name of the option, for the message.
    file : Path, optional

    Raises
    ------
    UserError
        Its folder does not exist, it may not be written, or it is a folder.
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


@contextlib.contextmanager
def results_folder(json_file: Path | None, config: dict[str, Any]) -> Iterator[Path]:
    """Folder for the results of single objects, where an interrupted run continues.

    Parameters
    ----------
    json_file : Path, optional
        The argument of ``--json``: the folder is beside it, ``<name>.objects``. Without it a folder
        that is removed at the end.
    config : dict
        Configuration of the run.

    Raises
    ------
    UserError
        The folder has results of another configuration.
    """
    from nvs_ros.evaluation.protocol import open_folder, results_of

    with contextlib.ExitStack() as stack:
        if json_file is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = results_of(json_file)
        open_folder(folder, config)
        yield folder


def check_document(file: Path | None, section: str) -> None:
    """Refuse a document without the section, or one that cannot be written, before the work is
    done.

    Raises
    ------
    UserError
        What is wrong with it.
    """
    if file is not None:
        check_output('--document', file)
        write_section(file, section)


def make_output_folder(option: str, folder: Path | None) -> None:
    """Create a folder for results, before the work begins.

    Raises
    ------
    UserError
        It cannot be created or written to.
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
