"""``make demo``: replay a bag to the node, and compare the views with the truth.

Starts the node as its own process, replays the bundled bag through DDS, collects the views and
requests one more. Writes ``contact_sheet.png``, ``views/*.png`` and ``views.mcap`` to the output
folder.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
# Read when rclpy starts: keep the graph apart from other machines and from a second demo.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(HERE.parent / 'config' / 'fastdds.xml')

from client import Client, DemoError  # noqa: E402
from report import is_at_rest, remove_results, report  # noqa: E402
from truth import OWN_VIEWPOINT_DEG  # noqa: E402

from nvs_interfaces.msg import NovelView, NovelViewArray, Viewpoint  # noqa: E402
from nvs_interfaces.srv import SynthesizeView  # noqa: E402

BAG = HERE / 'mug.mcap'
END_S = 5.0
"""How long a process may take to end after SIGINT."""
LOG_LINES = 15
"""Number of lines of the node's log that are shown when the demo fails."""


def run(output: Path, model: str, time_limit_s: float) -> None:
    """Run the demo.

    Parameters
    ----------
    output : Path
    model : str
        Parameter ``model.source`` of the node.
    time_limit_s : float
        Most time until the last view; writing the results takes a few seconds more.

    Raises
    ------
    DemoError
        The node or the replay fails or takes too long.
    """
    started_s = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    remove_results(output)
    views, requested = _views(output / 'node.log', model, started_s + time_limit_s)
    print(f'9 views after {time.monotonic() - started_s:.0f} s')
    report(BAG, views, requested, output)


def _views(log: Path, model: str, deadline_s: float) -> tuple[NovelViewArray, NovelView]:
    """The node's views of the bag, and the requested one."""
    values = ('autostart:=false', 'input.depth:=true', f'model.source:={model}')
    parameters = [word for value in values for word in ('-p', value)]
    command = ['nvs_ros.node.main', '--ros-args', *parameters]
    with log.open('w') as file, process(command, file) as node:
        client = Client(deadline_s, lambda: check_running(node))
        try:
            client.start()
            with process(['nvs_ros', 'replay', str(BAG)]) as replay:
                # The replay shows its own progress.
                client.wait_until(
                    lambda: replay.poll() is not None, 'replaying the bag', show=False
                )
            if replay.returncode:
                raise DemoError(f'the replay ended with code {replay.returncode}')
            answer = client.ask(_request())
            views = client.wait_until(
                lambda: next(filter(is_at_rest, client.received), None), 'making the views'
            )
            return views, answer().view
        finally:
            client.close()


def _request() -> SynthesizeView.Request:
    azimuth_rad, elevation_rad = map(math.radians, OWN_VIEWPOINT_DEG)
    viewpoint = Viewpoint(
        kind=Viewpoint.ANGLES, azimuth_rad=azimuth_rad, elevation_rad=elevation_rad
    )
    return SynthesizeView.Request(viewpoint=viewpoint)


@contextlib.contextmanager
def process(command: list[str], output: IO | None = None) -> Iterator[subprocess.Popen]:
    """Run a Python module as a process, which is ended with the ``with`` block."""
    process = subprocess.Popen(
        [sys.executable, '-m', *command],
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_running(node: subprocess.Popen) -> None:
    if node.poll() is not None:
        raise DemoError(f'the node ended with code {node.returncode}')


def show_failure(log: Path, error: DemoError) -> None:
    """Say on stderr what went wrong, with the end of the node's log."""
    lines = log.read_text(errors='replace').splitlines()[-LOG_LINES:]
    print('\n'.join([f'{log}:', *lines, f'demo: {error}']), file=sys.stderr)


def main() -> int:
    """Run the demo from the command line; returns 1 after printing why if it fails."""
    parser = argparse.ArgumentParser(
        description='A bag through the node: views and how true they are.'
    )
    parser.add_argument('--output', type=Path, default=HERE.parent / 'out', help='folder')
    parser.add_argument('--model', default='embedded', help='weights (parameter model.source)')
    parser.add_argument(
        '--time-limit', type=float, default=100.0, metavar='S', help='give up after'
    )
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    log = arguments.output / 'node.log'
    try:
        run(arguments.output, arguments.model, arguments.time_limit)
    except DemoError as error:
        show_failure(log, error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
