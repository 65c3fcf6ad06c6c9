"""Time that the node adds to the network: image in to views out, 640x480, through DDS.

    .venv/bin/python benchmarks/overhead.py [--frames 200] [--views 1] [--object 90]

The node runs in a process of its own with the synthesizer of the tests, which answers at once with
the picture of the frame; camera and subscriber are this process. Printed are the time from the
first message of a frame to its views, and the processor time that the node spent on a frame, which
other work on the machine leaves as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]
os.environ |= {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_DOMAIN_ID': '79'}
os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(ROOT / 'config' / 'fastdds.xml')

import cv2  # noqa: E402
import rclpy  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from robot import RED, LightSynthesizer, Robot, Spinning  # noqa: E402

from nvs_interfaces.msg import NovelViewArray  # noqa: E402
from nvs_ros.node.executor import ThreadedExecutor  # noqa: E402
from nvs_ros.node.view_node import ViewNode  # noqa: E402

PAUSE_S = 0.03
TIMEOUT_S = 300.0
LOST_S = 1.0


def serve(views: int) -> None:
    """Be the node until the standard input ends."""
    rclpy.init()
    azimuths_deg = [30.0 + i for i in range(views)]
    node = ViewNode(
        lambda settings, log: LightSynthesizer(),
        parameter_overrides=[Parameter('views.azimuths_deg', value=azimuths_deg)],
    )
    executor = ThreadedExecutor(10)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    node.start()
    sys.stdin.read()
    node.stop(TIMEOUT_S)
    executor.shutdown()
    thread.join()
    node.destroy_node()  # leaves no shared memory behind
    rclpy.shutdown()


def measure(node: subprocess.Popen, frames: int, object_px: int) -> None:
    """Send frames one by one and print the times."""
    context = rclpy.Context()
    rclpy.init(context=context)
    robot = Robot(context, width=640, height=480)
    box = (320 - object_px // 2, 240 - object_px // 2, object_px, object_px)
    for picture, colour in ((robot.scene.image, RED), (robot.scene.mask, 255)):
        cv2.rectangle(picture, box, colour, cv2.FILLED)
    with Spinning(robot):
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views, TIMEOUT_S)
        seconds, before_s = [], cpu_s(node.pid)
        for _ in range(frames):
            time.sleep(PAUSE_S)
            robot.stamp_ns += 100_000_000
            messages = robot.scene.messages(robot.stamp_ns)
            started_s = time.monotonic()
            robot.publish(messages)
            with contextlib.suppress(queue.Empty):  # pictures are best effort
                while robot.stamp_ns != stamp_ns(views.get(timeout=LOST_S)):
                    pass
                seconds.append(time.monotonic() - started_s)
        spent_s = cpu_s(node.pid) - before_s
    rclpy.shutdown(context=context)
    tenths = statistics.quantiles(seconds, n=10)
    print(
        f'message in to views out: median {1e3 * statistics.median(seconds):.1f} ms, '
        f'10 % under {1e3 * tenths[0]:.1f} ms, 90 % under {1e3 * tenths[-1]:.1f} ms; '
        f'processor time of the node {1e3 * spent_s / frames:.1f} ms a frame; '
        f'{frames - len(seconds)} of {frames} frames were lost'
    )


def stamp_ns(message: NovelViewArray) -> int:
    """Stamp of a message."""
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, seconds."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def main() -> None:
    """Start the node and measure it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=int, default=200)
    parser.add_argument('--views', type=int, default=1)
    parser.add_argument('--object', type=int, default=90, help='side of the object in pixels')
    parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.views)
    command = [sys.executable, __file__, '--serve', '--views', str(arguments.views)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as node:
        try:
            measure(node, arguments.frames, arguments.object)
        finally:
            node.stdin.close()


if __name__ == '__main__':
    main()
