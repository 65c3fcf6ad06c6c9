"""Frame in to views out: the real node in a process of its own, through DDS both ways.

    python benchmarks/node.py [--model embedded] [--preset NAME] [--views 1]
                              [--size 640x480] [--frames 30] [--rate HZ] [--json FILE]

Without ``--rate`` a frame goes out when the views of the frame before have come: the latency of one
frame. With it frames go out at that rate and newer ones replace those that wait: ``missed_frames``.
What the node adds to the network is measured by ``benchmarks/overhead.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))
os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(REPOSITORY / 'config' / 'fastdds.xml')

from nvs_ros.computer.cores import share_cores  # noqa: E402

share_cores()  # as the node does, before NumPy is imported

import rclpy  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from nvs_interfaces.msg import NovelViewArray  # noqa: E402
from nvs_ros.computer.allocator import keep_freed_memory  # noqa: E402
from nvs_ros.computer.timing import config_hash, machine, stream_figures  # noqa: E402
from nvs_ros.node.executor import ThreadedExecutor  # noqa: E402
from nvs_ros.node.view_node import ViewNode  # noqa: E402
from nvs_ros.testing.robot import Robot, Spinning  # noqa: E402

FIRST_TIMEOUT_S, TIMEOUT_S = 120.0, 60.0
DOMAIN = 77
WARM_UP = 3


def arguments_of(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--model', default='embedded', help='as for model.source')
    parser.add_argument('--preset', default='zero-to-hero')
    parser.add_argument('--views', type=int, default=1, help='of each frame')
    parser.add_argument('--size', default='640x480', help='of the frames, pixels')
    parser.add_argument('--frames', type=int, default=30)
    parser.add_argument('--rate', type=float, help='frames a second')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def serve(arguments: argparse.Namespace) -> None:
    """Be the node until the process is ended."""
    keep_freed_memory()
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    step = 360.0 / (arguments.views + 1)
    overrides = {
        'model.source': arguments.model,
        'preset': arguments.preset,
        'views.azimuths_deg': [step * (i + 1) for i in range(arguments.views)],
        'on_demand': False,
    }
    node = ViewNode(
        context=context,
        parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()],
    )
    executor = ThreadedExecutor(4, context=context)
    executor.add_node(node)
    node.start()
    executor.spin()


def stamp_ns(message: NovelViewArray) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


class Clock:
    """When frames went out and when their views had come, by stamp."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.sent: dict[int, float] = {}
        self.came: dict[int, float] = {}
        self.received = queue.Queue()
        robot.node.create_subscription(NovelViewArray, '/nvs/views', self._take, 10)

    def _take(self, message: NovelViewArray) -> None:
        self.came[stamp_ns(message)] = time.monotonic()
        self.received.put(stamp_ns(message))

    def send(self) -> int:
        self.robot.stamp_ns += 100_000_000
        messages = self.robot.scene.messages(self.robot.stamp_ns)
        self.sent[self.robot.stamp_ns] = time.monotonic()
        self.robot.publish(messages)
        return self.robot.stamp_ns

    def wait_for(self, stamp: int, timeout_s: float) -> None:
        """Wait for the views of a frame; images go best effort, so they may never come."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Empty):
            while self.received.get(timeout=max(0.0, deadline - time.monotonic())) != stamp:
                pass

    def figures(self, stamps: list[int]) -> dict:
        return stream_figures(
            [self.sent[stamp] for stamp in stamps], [self.came.get(stamp) for stamp in stamps]
        )


def first_view(clock: Clock) -> None:
    """Send frames until the node answers: it loads, and discovery takes its time."""
    deadline = time.monotonic() + FIRST_TIMEOUT_S
    while time.monotonic() < deadline:
        clock.send()
        try:
            clock.received.get(timeout=1.0)
            return
        except queue.Empty:
            continue
    raise SystemExit(f'expected views within {FIRST_TIMEOUT_S:.0f} s, got none')


def measure(arguments: argparse.Namespace) -> dict:
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    width, height = map(int, arguments.size.split('x'))
    with Spinning(Robot(context, width=width, height=height)) as robot:
        clock = Clock(robot)
        first_view(clock)
        stamps = []
        if arguments.rate is None:
            for _ in range(WARM_UP + arguments.frames):
                stamps.append(clock.send())
                clock.wait_for(stamps[-1], TIMEOUT_S)
        else:
            due = time.monotonic()
            for _ in range(WARM_UP + arguments.frames):
                stamps.append(clock.send())
                due += 1 / arguments.rate
                time.sleep(max(0.0, due - time.monotonic()))
            clock.wait_for(stamps[-1], TIMEOUT_S)
        figures = clock.figures(stamps[WARM_UP:])
    rclpy.shutdown(context=context)
    return figures


def main() -> None:
    arguments = arguments_of()
    if arguments.serve:
        serve(arguments)
        return
    command = [sys.executable, __file__, *sys.argv[1:], '--serve']
    with subprocess.Popen(command) as node:
        try:
            figures = measure(arguments)
        finally:
            node.terminate()
    asked = {k: v for k, v in vars(arguments).items() if k not in ('json', 'serve')}
    report = machine() | asked | {'config_hash': config_hash(asked)} | figures
    print(json.dumps(report, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
