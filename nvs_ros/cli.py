"""The command line. Each command is a module of :mod:`nvs_ros.commands`, imported only when it is
used."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from types import FrameType
from typing import NoReturn

from nvs_ros import __version__
from nvs_ros.computer.allocator import keep_freed_memory
from nvs_ros.computer.cores import share_cores
from nvs_ros.errors import WITHOUT_ROS, UserError

COMMANDS = {
    'synthesize': 'A view of an object from photographs.',
    'convert': 'Original Zero-1-to-3 checkpoint to a diffusers folder.',
    'fetch': 'Download a known public checkpoint.',
    'replay': 'Publish a bag into the running ROS graph.',
    'process': 'Make the views of a bag, without a ROS graph.',
    'evaluate': 'A model on objects that training never saw.',
    'evaluate-grasps': 'What completed clouds are worth to a gripper, in simulation.',
    'complete': 'The whole shape of an object from photographs or a bag.',
    'assess': 'Completed shapes and the confidence of views, against the truth.',
    'bench': 'How fast a model is on this machine.',
    'train': 'Train the embedded model.',
    'train-filter': 'Learn a filter of attention maps for a model.',
}
"""Name of a command -> one line of help; its module is ``nvs_ros.commands.<name>``, with ``_`` for
``-``."""

FOLLOWING = {'synthesize', 'complete', 'process'}
"""Commands that adapt the number of threads to other programs; training and benchmarks do not."""

EXTRAS = {
    'evaluate': 'evaluate',
    'evaluate-grasps': 'grasp',
    'assess': 'evaluate',
    'train': 'train',
    'train-filter': 'train',
}
"""Command -> extra of the package that installs its imports; ``inference`` for other commands."""

EXTRAS_OF_OPTIONS = {'ray': 'ray'}
"""Library that only an option needs -> extra of the package that installs it."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print an error as one line, without the usage, and exit with code 2."""
        self.exit(2, f'{self.prog}: {message}; see --help\n')


class _Interrupts:
    """Records SIGINT, because some libraries swallow a KeyboardInterrupt during their import."""

    def __init__(self) -> None:
        self.came = False

    def count(self) -> None:
        """Begin to record."""
        signal.signal(signal.SIGINT, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.default_int_handler(number, frame)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program name; ``sys.argv[1:]`` when omitted.

    Returns
    -------
    int
        0: success; 2: an input cannot be used or does not fit into memory; 130: interrupted.
    """
    is_own_process, argv = argv is None, sys.argv[1:] if argv is None else argv
    chosen = next((word for word in argv if not word.startswith('-')), None)
    interrupts = _Interrupts()
    if is_own_process:
        interrupts.count()
        keep_freed_memory()
        share_cores(threads=chosen in FOLLOWING)
    parser = _Parser(
        prog='python -m nvs_ros',
        description='Let a robot see the sides of an object that its camera does not.',
    )
    parser.add_argument('--version', action='version', version=f'nvs_ros {__version__}')
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name == chosen:
            try:
                command = importlib.import_module(f'nvs_ros.commands.{name.replace("-", "_")}')
            except KeyboardInterrupt:  # some commands import torch, which takes seconds
                return 130
            except ImportError as error:
                return _lacks(chosen, error)
            command.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    try:
        return command.run(arguments)
    except ImportError as error:
        return _lacks(arguments.command, error)
    except UserError as error:
        if interrupts.came:  # a library has swallowed it
            return 130
        # The message may contain one of a library with several lines.
        print(f'nvs_ros {chosen}: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    except MemoryError as error:
        said = ' '.join(str(error).split()) or 'more memory is needed than there is'
        print(f'nvs_ros {chosen}: {said}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _lacks(command: str, error: ImportError) -> int:
    """Print how to install a library that a command needs; return the exit code.

    Raises
    ------
    ImportError
        The missing module is one of this package.
    """
    library = (error.name or '').partition('.')[0]
    if library in ('', 'nvs_ros'):  # a fault of this package, not of the installation
        raise error
    if library in ('rclpy', 'nvs_interfaces') or library.endswith('_msgs'):
        advice = WITHOUT_ROS
    else:
        extra = EXTRAS_OF_OPTIONS.get(library) or EXTRAS.get(command, 'inference')
        advice = f"needs {library}: pip install 'nvs_ros[{extra}]'"
    print(f'nvs_ros {command}: {advice} ({error})', file=sys.stderr)
    return 2
