"""The node under everything at once, for long: it stays as large as it was, and serves.

    .venv/bin/python benchmarks/soak.py [--minutes 10] [--cycle 60] [--rate 30] [--json FILE]

The real node with the embedded model, in a process of its own; camera and clients are this one.
Meanwhile: a camera that moves in TF (tf2_ros, or where it is not installed the light one of the
tests) round an object that stands in another frame; malformed messages of every input, some of them
cut off in the middle; requests and orbits good and bad, some of them cancelled; parameters set
rightly and wrongly; cleanup and configure in every cycle. What is looked at:

- memory (RSS and PSS), threads, files and shared memory of the node, at work and, after each
  cleanup, at rest. The first third of the cycles is warm-up. Flat is what, from then to the end,
  grows by no more than `allowed` in `soaked_node.py` says: the median slope of all pairs of samples
  times the time between the first and the last of them;
- every request is answered, good parameters are taken and wrong ones are refused;
- at the end every good frame and every good request is served, and SIGTERM ends the node with
  code 0 in two seconds, without a traceback in its log and without shared memory left behind.

The exit code is 1 if any of it fails. `--leak memory threads files shared` has the node leak one of
each at every cleanup, to see that it is noticed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ.setdefault('ROS_DOMAIN_ID', '81')
os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] = str(ROOT / 'config' / 'fastdds.xml')

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from soaked_node import LEAKS, Node, Sample, allowed, grown, not_flat  # noqa: E402

from nvs_interfaces.action import SynthesizeOrbit  # noqa: E402
from nvs_interfaces.msg import NovelViewArray, Viewpoint  # noqa: E402
from nvs_interfaces.srv import SynthesizeView  # noqa: E402
from nvs_ros.geometry import Spherical, pose_from_spherical  # noqa: E402
from nvs_ros.messages import transforms  # noqa: E402
from nvs_ros.messages.cameras import pose_from_rigid  # noqa: E402
from nvs_ros.testing import light_tf2  # noqa: E402
from nvs_ros.testing.hostile import ODD, Hostile  # noqa: E402
from nvs_ros.testing.robot import FRAME, Robot, Spinning  # noqa: E402

NODE = '/nvs'
START_S, ANSWER_S = 120.0, 60.0
WORLD = 'map'
ROUND_S = 20.0
"""The camera goes back and forth along an arc."""
LAST_FRAMES, LAST_REQUESTS = 30, 10
SENT_AGAIN = 3
"""Pictures go best effort: a frame that is lost on the way goes out again."""
PARAMETERS = {
    'preset': 'fast',
    'views.azimuths_deg': '[40.0]',
    'model.threads': '1',
    'fixed_frame': WORLD,
}
TUNING = [
    ({'seed': 3, 'views.azimuths_deg': [30.0, -60.0]}, True),
    ({'preset': 'nonsense'}, False),
    ({'views.azimuths_deg': [50.0, 100.0, 150.0], 'views.elevations_deg': [10.0]}, True),
    ({'views.azimuths_deg': [float('nan')]}, False),
    ({'on_demand': False}, True),
    ({'sampler.guidance_scale': -1.0}, False),
    ({'enabled': False}, True),
    ({'seed': 'three'}, False),
    ({'model.source': 'elsewhere'}, False),
    ({'enabled': True, 'on_demand': True}, True),
    ({'views.azimuths_deg': [40.0], 'views.elevations_deg': [0.0], 'seed': 0}, True),
]
"""Parameters, and whether the node ought to take them."""


class World:
    """Camera, clients and what went wrong so far."""

    def __init__(self, robot: Robot, rate: float, process: Node) -> None:
        self.robot = robot
        self.process = process
        self.rate = rate
        self.rng = np.random.default_rng(1)
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.ended = threading.Event()
        self.spoil = threading.Event()
        self.active = threading.Event()
        """Set while nothing is being configured or cleaned up, when each call is answered."""
        self.turns = 0
        self.last_diagnosis = 'no diagnostics'
        node = robot.node
        self._served: deque[int] = deque(maxlen=1000)
        self._came = threading.Condition()
        node.create_subscription(NovelViewArray, f'{NODE}/views', self._take_views, 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 10)
        self.change = node.create_client(ChangeState, f'{NODE}/change_state')
        self.set = node.create_client(SetParameters, f'{NODE}/set_parameters')
        tf2 = transforms.tf2_ros or light_tf2
        self._broadcaster = tf2.TransformBroadcaster(node)
        self._still_messages = robot.scene.messages
        robot.scene.messages = self._messages
        self._hostile = Hostile(robot, seed=1)

    def _take_views(self, message: NovelViewArray) -> None:
        stamp = message.header.stamp
        with self._came:
            self.counts['views'] += len(message.views)
            self._served.append(stamp.sec * 10**9 + stamp.nanosec)
            self._came.notify_all()

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        status = message.status[0]
        if status.level == DiagnosticStatus.ERROR:
            self.faults.append(f'diagnostics: {status.message}')
        self.last_diagnosis = status.message

    def _messages(self, stamp_ns: int) -> dict:
        """A frame, in which the object's pose is where the object stands in the world."""
        found = self._still_messages(stamp_ns)
        found['object_pose'].header.frame_id = WORLD
        found['object_pose'].pose = pose_from_rigid(np.eye(4))
        return found

    def _send_frame(self, frame: dict | None = None) -> None:
        """Publish where the camera is, and a frame: the next one, or what was made of it."""
        stamp_ns = self.robot.stamp_ns
        azimuth_rad = np.sin(2 * np.pi * stamp_ns * 1e-9 / ROUND_S)
        world_from_camera = pose_from_spherical(Spherical(azimuth_rad, np.radians(20), 0.2))
        transform = light_tf2.message(WORLD, FRAME, stamp_ns, world_from_camera)
        self._broadcaster.sendTransform([transform])
        self.robot.publish(self.robot.scene.messages(stamp_ns) if frame is None else frame)
        self.counts['frames'] += 1

    def film(self) -> None:
        """Publish frames at the rate; with malformed messages among them, if asked."""
        due_s = time.monotonic()
        names = list(self.robot.publishers)
        while not self.ended.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + 1 / self.rate, time.monotonic() - 1.0)
            self.robot.stamp_ns += round(1e9 / self.rate)
            frame = self.robot.scene.messages(self.robot.stamp_ns)
            number = self.counts['frames']
            if self.spoil.is_set():
                name = names[number % len(names)]
                spoilt = self._hostile.message(name)
                if number % 10 == 0:
                    data = serialize_message(spoilt)
                    self.robot.publish({name: data[: self.rng.integers(len(data))]})
                elif number % 3:
                    self.robot.publish({name: spoilt})
                else:
                    frame[name] = spoilt
                self.counts['malformed'] += 1
            self._send_frame(frame)

    def call(self, client: Any, request: Any, what: str) -> Any:
        """Response; None if there is none, a fault unless its server went away meanwhile."""
        turn = self.turns if self.active.is_set() else None
        future = client.call_async(request) if client.wait_for_service(ANSWER_S) else None
        return self._answer(future, turn, what)

    def _answer(self, future: Any, turn: int | None, what: str) -> Any:
        done = threading.Event()
        if future is not None:
            future.add_done_callback(lambda _: done.set())
        started_s = time.monotonic()
        while not done.wait(0.1):
            waited_s = time.monotonic() - started_s
            if not self.process.alive:
                return None  # a fault by itself
            if turn is not None and self.turns != turn and waited_s > 5:
                return None
            if waited_s > ANSWER_S or future is None:
                self.faults.append(f'{what}: no answer in {ANSWER_S:.0f} s')
                return None
        self.counts[what] += 1
        return future.result()

    def ask(self) -> None:
        """Requests and orbits, good and bad, until the end."""
        while not self.ended.wait(0.3):
            if not self.active.wait(1.0):
                continue
            request = self._request(bad=self.rng.random() < 0.3)
            response = self.call(self.robot.view_client, request, 'requests')
            if response is not None and not (response.success or response.message):
                self.faults.append('a request was refused without a reason')
            self.counts['requests served'] += response is not None and response.success
            if self.rng.random() < 0.2:
                self._orbit(cancel=self.rng.random() < 0.5)

    def _request(self, bad: bool) -> SynthesizeView.Request:
        """A viewpoint by angles, or as the pose of a camera that looks from where ours was."""
        viewpoint = Viewpoint(azimuth_rad=float(self.rng.uniform(-3, 3)))
        if self.rng.random() < 0.3:
            earlier_ns = self.robot.stamp_ns - int(self.rng.integers(30)) * round(1e9 / self.rate)
            pose = PoseStamped(pose=pose_from_rigid(np.eye(4)))
            pose.header.frame_id = FRAME
            pose.header.stamp.sec, pose.header.stamp.nanosec = divmod(earlier_ns, 10**9)
            viewpoint = Viewpoint(kind=Viewpoint.POSE, camera_pose=pose)
        request = SynthesizeView.Request(viewpoint=viewpoint, seed=int(self.rng.integers(9)))
        if bad:
            viewpoint.kind = int(self.rng.choice([0, 1, 2, 255]))
            viewpoint.distance_m = float(self.rng.choice(ODD))
            viewpoint.camera_pose.header.frame_id = str(self.rng.choice(['', FRAME, 'moon']))
            viewpoint.camera_pose.pose.position.z = float(self.rng.choice(ODD))
            viewpoint.camera_info.width = int(self.rng.choice([0, 8, 2**32 - 1]))
            viewpoint.camera_info.k[0] = self.rng.choice(ODD)
            request.preset = str(self.rng.choice(['', '', 'nonsense']))
            request.object_id = str(self.rng.choice(['', '', 'elsewhere']))
        return request

    def _orbit(self, cancel: bool) -> None:
        if not (self.active.is_set() and self.robot.orbit_client.wait_for_server(ANSWER_S)):
            return
        turn, begun = self.turns, threading.Event()
        goal = SynthesizeOrbit.Goal(count=int(self.rng.integers(0, 7)))
        future = self.robot.orbit_client.send_goal_async(goal, lambda message: begun.set())
        handle = self._answer(future, turn, 'goals')
        if handle is None or not handle.accepted:
            return
        if cancel:
            begun.wait(1.0)
            self._answer(handle.cancel_goal_async(), turn, 'cancels')
        self._answer(handle.get_result_async(), turn, 'orbits')

    def tune(self) -> None:
        """Set parameters rightly and wrongly, until the end."""
        for number in range(10**9):
            if self.ended.wait(0.7):
                return
            values, good = TUNING[number % len(TUNING)]
            response = self.change_parameters(values)
            if response is None:
                continue
            taken = all(result.successful for result in response.results)
            if taken != good:
                reasons = [result.reason for result in response.results]
                self.faults.append(f'{values} was {"taken" if taken else f"refused: {reasons}"}')

    def change_parameters(self, values: dict[str, Any]) -> Any:
        """Response to a change, which there is in every state of the node."""
        parameters = [Parameter(k, value=v).to_parameter_msg() for k, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        return self._answer(self.set.call_async(request), None, 'changes')

    def turn(self, *transitions: int) -> None:
        """Go through transitions of the lifecycle; each must succeed."""
        self.active.clear()
        self.turns += 1
        for transition in transitions:
            request = ChangeState.Request(transition=Transition(id=transition))
            response = self.call(self.change, request, 'transitions')
            if response is not None and not response.success:
                self.faults.append(f'transition {transition} failed')
        self.active.set()

    def serve_frame(self, timeout_s: float) -> bool:
        """Publish the next frame; return whether its views came in time."""
        self.robot.stamp_ns += 100_000_000
        stamp_ns = self.robot.stamp_ns
        self._send_frame()
        with self._came:
            return self._came.wait_for(lambda: stamp_ns in self._served, timeout_s)

    def serve_last(self) -> None:
        """Good frames one by one, then good requests; the views of each come."""
        for _ in range(LAST_FRAMES):
            sent = 1
            while not self.serve_frame(ANSWER_S / SENT_AGAIN):
                if sent == SENT_AGAIN or not self.process.alive:
                    self.faults.append(f'a good frame was not served: {self.last_diagnosis}')
                    return
                sent += 1
            self.counts['last frames served'] += 1
            self.counts['last frames sent again'] += sent - 1
        for _ in range(LAST_REQUESTS):
            response = self.call(self.robot.view_client, SynthesizeView.Request(), 'last requests')
            if response is None or not response.success:
                self.faults.append(f'a good request was refused: {response and response.message}')


def soak(world: World, minutes: float, cycle_s: float) -> list[tuple[Sample, Sample]]:
    """Everything at once until the time is over; samples at work and at rest of each cycle."""
    deadline_s = time.monotonic() + START_S
    while not (world.serve_frame(1.0) or world.counts['views']):
        if time.monotonic() > deadline_s or not world.process.alive:
            world.faults.append(f'expected views within {START_S:.0f} s, got none')
            return []
    world.active.set()
    world.spoil.set()
    threads = [
        threading.Thread(target=work, daemon=True) for work in (world.film, world.ask, world.tune)
    ]
    for thread in threads:
        thread.start()
    print(HEADER)
    samples, started_s = [], time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        while (left_s := started_s + 60 * minutes - time.monotonic()) > 0 and world.process.alive:
            time.sleep(min(cycle_s, left_s))
            at_work = world.process.sample()
            world.turn(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
            samples.append((at_work, world.process.sample()))
            minute = (time.monotonic() - started_s) / 60
            print(f'{minute:6.2f}  {line(samples[-1])}  {world.last_diagnosis}', flush=True)
            world.turn(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    seconds = time.monotonic() - started_s
    world.counts['frames a second'] = round(world.counts['frames'] / seconds)
    world.ended.set()
    for thread in threads:
        thread.join(2 * ANSWER_S)
    world.change_parameters(TUNING[-1][0] | {'enabled': True, 'on_demand': True})
    world.serve_last()
    return samples


HEADER = 'minute  RSS, PSS [MB], threads, files, shared [MB]: first at work, then at rest'


def line(samples: tuple[Sample, Sample]) -> str:
    """Samples at work and at rest, for people."""
    return '    '.join(
        f'{one.rss_mb:7.1f} {one.pss_mb:7.1f} {one.threads:4} {one.files:4} '
        f'{one.shared:3} ({one.shared_mb:.0f})'
        for one in samples
    )


def judge(samples: list[tuple[Sample, Sample]], minutes: float) -> list[str]:
    """Print how much everything grew; return what grew too much."""
    faults = []
    for where, series in zip(('at work', 'at rest'), zip(*samples, strict=True), strict=False):
        most = allowed(minutes, where == 'at work')
        faults += not_flat(series, most, where)
        with contextlib.suppress(ValueError):
            print(f'growth after the warm-up (allowed), {where}: {grown(series, most)}')
    return faults


def main() -> int:
    """Run, print, and return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--cycle', type=float, default=60.0, help='seconds between two cleanups')
    parser.add_argument('--rate', type=float, default=30.0, help='frames a second')
    parser.add_argument('--leak', nargs='+', choices=LEAKS, default=[], help='at each cleanup')
    parser.add_argument('--json', type=Path, help='where to write samples, counts and faults')
    arguments = parser.parse_args()
    os.environ['NVS_LEAK'] = ' '.join(arguments.leak)
    command = [str(ROOT / 'benchmarks' / 'soaked_node.py'), '--ros-args']
    command += [word for item in PARAMETERS.items() for word in ('-p', ':='.join(item))]
    process, samples = Node(command), []
    rclpy.init(args=[])
    robot = Robot(rclpy.get_default_context(), width=640, height=480)
    world = World(robot, arguments.rate, process)
    try:
        with Spinning(robot):
            samples = soak(world, arguments.minutes, arguments.cycle)
    finally:
        world.ended.set()
        faults = world.faults + process.end()
        rclpy.try_shutdown()
    faults += judge(samples, arguments.minutes)
    print(dict(world.counts))
    for fault, times in Counter(faults).items():
        print(f'FAULT {fault}' + (f' ({times} times)' if times > 1 else ''))
    print('not as it should be' if faults else 'flat, and every good frame is served')
    if arguments.json is not None:
        report = {
            'at work': [dataclasses.asdict(one) for one, _ in samples],
            'at rest': [dataclasses.asdict(one) for _, one in samples],
            'counts': world.counts,
            'faults': faults,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + '\n')
    return int(bool(faults))


if __name__ == '__main__':
    sys.exit(main())
