"""Time that the node adds to the network: image in to views out, 640x480, through DDS.

    .venv/bin/python benchmarks/overhead.py [--frames 200] [--views 1] [--object 90]

The node runs in a process of its own with the synthesizer of the tests, which answers at once with
the picture of the frame; camera and subscriber are this process. Printed are the time from the
first message of a frame to its views, and the processor time that the node spent on a frame, which
other work on the machine leaves as it is. The floor is the same of a process that takes the same
messages and answers the last one of a frame with views that it has made before: DDS and rclpy both
ways. The two get frames in turn.
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
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', '79')
os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(ROOT / 'config' / 'fastdds.xml')

from nvs_ros.computer.cores import share_cores  # noqa: E402

share_cores()  # as the node does, before NumPy is imported

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from rclpy.executors import ExternalShutdownException  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from nvs_interfaces.msg import NovelView, NovelViewArray  # noqa: E402
from nvs_ros.messages.cameras import message_from_camera  # noqa: E402
from nvs_ros.messages.images import image_from_array  # noqa: E402
from nvs_ros.node.executor import ThreadedExecutor  # noqa: E402
from nvs_ros.node.view_node import ViewNode  # noqa: E402
from nvs_ros.testing.robot import RED, LightSynthesizer, Robot, Scene, Spinning  # noqa: E402

FLOOR = '/floor'
"""Namespace of the process that only answers."""
PAUSE_S = 0.03
SIDE = 64
"""Of the pictures of the synthesizer of the tests, pixels."""
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


def answer(views: int) -> None:
    """Be what the node cannot be faster than, until the process is told to end."""
    rclpy.init(args=['--ros-args', '-r', f'__ns:={FLOOR}'])
    node = rclpy.create_node('nvs')
    made, header = Scene(), Header()
    picture = image_from_array(np.zeros((SIDE, SIDE, 3), np.uint8), 'rgb8', header)
    mask = image_from_array(np.zeros((SIDE, SIDE), np.uint8), 'mono8', header)
    view = NovelView(image=picture, mask=mask, measured=mask)
    view.camera_info = message_from_camera(made.camera, header)
    publisher = node.create_publisher(NovelViewArray, '~/views', QoSProfile(depth=1))
    waiting: dict[int, set[str]] = {}

    def take(name: str, message: Any) -> None:
        stamp = stamp_ns(message)
        waiting.setdefault(stamp, set()).add(name)
        if len(waiting[stamp]) == len(Robot.KINDS):
            waiting.clear()
            publisher.publish(NovelViewArray(header=message.header, views=[view] * views))

    for name, kind in Robot.KINDS.items():
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(kind, name, partial(take, name), qos)
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node)


class Camera:
    """Sends frames to a process and waits for its views."""

    def __init__(self, namespace: str, process: subprocess.Popen, object_px: int) -> None:
        self.process = process
        self.context = rclpy.Context()
        rclpy.init(args=['--ros-args', '-r', f'__ns:={namespace}'], context=self.context)
        self.robot = Robot(self.context, width=640, height=480)
        box = (320 - object_px // 2, 240 - object_px // 2, object_px, object_px)
        scene = self.robot.scene
        for picture, colour in ((scene.image, RED), (scene.mask, 255)):
            cv2.rectangle(picture, box, colour, cv2.FILLED)
        self.views = self.robot.subscribe(NovelViewArray, f'{namespace.rstrip("/")}/nvs/views')
        self.seconds: list[float] = []
        self.spent_s = 0.0
        self.lost = 0

    def send(self) -> None:
        """Send a frame; note how long its views took and what the process spent on them."""
        self.robot.stamp_ns += 100_000_000
        messages = self.robot.scene.messages(self.robot.stamp_ns)
        before_s, started_s = cpu_s(self.process.pid), time.monotonic()
        self.robot.publish(messages)
        try:
            while self.robot.stamp_ns != stamp_ns(self.views.get(timeout=LOST_S)):
                pass
            self.seconds.append(time.monotonic() - started_s)
        except queue.Empty:  # pictures are best effort
            self.lost += 1
        time.sleep(PAUSE_S)
        self.spent_s += cpu_s(self.process.pid) - before_s

    def report(self, name: str) -> None:
        """Print the figures."""
        tenths = statistics.quantiles(self.seconds, n=10)
        frames = len(self.seconds) + self.lost
        print(
            f'{name}: message in to views out: median {1e3 * statistics.median(self.seconds):.1f} '
            f'ms, 10 % under {1e3 * tenths[0]:.1f} ms, 90 % under {1e3 * tenths[-1]:.1f} ms; '
            f'processor time {1e3 * self.spent_s / frames:.1f} ms a frame; '
            f'{self.lost} of {frames} frames were lost'
        )


def measure(cameras: dict[str, Camera], frames: int) -> None:
    """Send frames in turn and print the times."""
    with contextlib.ExitStack() as stack:
        for camera in cameras.values():
            stack.callback(rclpy.shutdown, context=camera.context)
            robot = stack.enter_context(Spinning(camera.robot))
            robot.frames_until_message(camera.views, TIMEOUT_S)
        for _ in range(frames):
            for camera in cameras.values():
                camera.send()
    for name, camera in cameras.items():
        camera.report(name)


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
    parser.add_argument('--serve', choices=('node', 'floor'), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return {'node': serve, 'floor': answer}[arguments.serve](arguments.views)
    with contextlib.ExitStack() as stack:
        cameras = {}
        for name, namespace in (('node', '/'), ('floor', FLOOR)):
            command = [sys.executable, __file__, '--serve', name, '--views', str(arguments.views)]
            process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            stack.callback(process.terminate if name == 'floor' else process.stdin.close)
            cameras[name] = Camera(namespace, process, arguments.object)
        measure(cameras, arguments.frames)


if __name__ == '__main__':
    main()
