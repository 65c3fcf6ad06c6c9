"""The other side of the node in tests: a camera with an object before it, topics and clients.

Everything goes through real rclpy and DDS. The light synthesizer has the interface of the real one,
without a network: it answers with the canonical picture of the frame as the asked camera shows it.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from nvs_interfaces.action import SynthesizeOrbit
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.geometry import Camera, Spherical, canonical_view, inverse, pose_from_spherical
from nvs_ros.hero.presets import preset
from nvs_ros.messages.cameras import message_from_camera, pose_from_rigid
from nvs_ros.messages.images import image_from_array
from nvs_ros.node.executor import ThreadedExecutor
from nvs_ros.node.view_node import ViewNode
from nvs_ros.observation import Frame, Observation, Source
from nvs_ros.synthesizer import View
from nvs_ros.zero123.profile import ModelProfile

TIMEOUT_S = 20.0
EVALUATIONS = 4
PERIOD_S = 1 / 30
RED = (200, 30, 10)
FRAME = 'camera_optical_frame'
DOMAINS = itertools.count(1)


class LightSynthesizer:
    """The interface of the synthesizer without a network.

    ``gate`` is passed at each evaluation: while it is clear, sampling stands still.
    """

    def __init__(self) -> None:
        self.components = SimpleNamespace(model_id='light', device='cpu', profile=ModelProfile())
        self.gate = threading.Event()
        self.gate.set()
        self.sampling = threading.Event()
        self.evaluation_s = 0.0
        self._never = threading.Event()
        self.on_end = lambda seed: None
        self.error: Exception | None = None
        self.batches: list[int] = []
        self.settings = None

    def preset(self, name, **overrides):
        return preset(name, **overrides)

    def canonical(self, frame):
        return canonical_view(
            frame.image,
            frame.mask,
            frame.camera,
            frame.object_from_camera,
            object_size_m=frame.object_size_m,
            depth_m=frame.depth_m,
            image_size=64,
        )

    def observe(self, frames, measurement=None):
        views = frames if isinstance(frames, list) else [frames]
        views = [self.canonical(view) if isinstance(view, Frame) else view for view in views]
        return Observation(views[0], None, None, tuple(Source(view, None) for view in views[1:]))

    def synthesize(self, observation, targets, settings=None, *, seed=0, callback=None, **_):
        self.batches.append(len(targets))
        self.settings = settings
        if self.error is not None:
            raise self.error
        for i in range(EVALUATIONS):
            self.sampling.set()
            while not self.gate.wait(0.002):
                callback({'evaluation': i, 'evaluations': EVALUATIONS})
            self._never.wait(self.evaluation_s)
            callback({'evaluation': i + 1, 'evaluations': EVALUATIONS})
        source, views = observation.source, []
        seeds = seed if isinstance(seed, tuple) else (seed,) * len(targets)
        for target, own_seed in zip(targets, seeds, strict=True):
            image, mask = target.warp_back(source.image, source.mask)
            view = View(
                image=image,
                mask=mask,
                measured=np.zeros_like(mask),
                camera=target.camera,
                object_from_camera=target.object_from_camera,
                relative=target.relative,
                seed=own_seed,
                model_id='light',
                warnings=target.warnings,
            )
            views.append(view)
        self.on_end(seed)
        return views


class Scene:
    """A red square of 0.1 m that faces a camera 0.2 m away, 20 degrees above it."""

    def __init__(self, width: int = 160, height: int = 120) -> None:
        self.camera = Camera(
            width, height, [[200, 0, width / 2 - 0.5], [0, 200, height / 2 - 0.5], [0, 0, 1]]
        )
        self.object_from_camera = pose_from_spherical(Spherical(0.3, np.radians(20), 0.2))
        self.image = np.full((height, width, 3), 90, np.uint8)
        self.mask = np.zeros((height, width), np.uint8)
        half = 45
        box = (width // 2 - half, height // 2 - half, 2 * half, 2 * half)
        cv2.rectangle(self.image, box, RED, cv2.FILLED)
        cv2.rectangle(self.mask, box, 255, cv2.FILLED)

    def messages(self, stamp_ns: int) -> dict:
        """The messages of one frame by topic."""
        header = Header(frame_id=FRAME)
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
        return {
            'image': image_from_array(self.image, 'rgb8', header),
            'camera_info': message_from_camera(self.camera, header),
            'mask': image_from_array(self.mask, 'mono8', header),
            'object_pose': PoseStamped(
                header=Header(stamp=header.stamp, frame_id=FRAME),
                pose=pose_from_rigid(inverse(self.object_from_camera)),
            ),
        }


class Robot:
    """A node that publishes frames and uses what the view node offers."""

    KINDS = {'image': Image, 'camera_info': CameraInfo, 'mask': Image, 'object_pose': PoseStamped}

    def __init__(self, context, **scene) -> None:
        self.node = Node('robot', context=context)
        self.scene = Scene(**scene)
        self.stamp_ns = 10**9
        self.publishers = {
            name: self.node.create_publisher(kind, name, 5) for name, kind in self.KINDS.items()
        }
        self.view_client = self.node.create_client(SynthesizeView, '/nvs/synthesize_view')
        self.enable_client = self.node.create_client(SetBool, '/nvs/enable')
        self.orbit_client = ActionClient(self.node, SynthesizeOrbit, '/nvs/synthesize_orbit')

    def subscribe(self, kind, topic, qos=10) -> queue.Queue:
        """Queue that fills with the messages of a topic."""
        received = queue.Queue()
        self.node.create_subscription(kind, topic, received.put, qos)
        return received

    def publish(self, messages) -> None:
        for name, message in messages.items():
            self.publishers[name].publish(message)

    def publish_frame(self) -> int:
        """Publish the next frame; return its stamp."""
        self.stamp_ns += 100_000_000
        self.publish(self.scene.messages(self.stamp_ns))
        return self.stamp_ns

    def frames_until(self, condition, timeout_s=TIMEOUT_S):
        """Publish frames, at 30 Hz at most, until a condition holds; return its value."""

        def publish_and_check():
            self.publish_frame()
            return condition()

        return wait_until(publish_and_check, timeout_s, PERIOD_S)

    def frames_until_message(self, received: queue.Queue, timeout_s=TIMEOUT_S):
        """Publish frames until a message comes; return it."""

        def message():
            with contextlib.suppress(queue.Empty):
                return received.get(timeout=0.05)

        return self.frames_until(message, timeout_s)

    def call(self, client, request, timeout_s=TIMEOUT_S):
        """Call a service from a thread that does not spin."""
        assert client.wait_for_service(timeout_s)
        return self.result(client.call_async(request), timeout_s)

    def synthesize(self, timeout_s=TIMEOUT_S, **fields):
        """Call ``~/synthesize_view``."""
        return self.call(self.view_client, SynthesizeView.Request(**fields), timeout_s)

    @staticmethod
    def result(future, timeout_s=TIMEOUT_S):
        """Wait for a future in a thread that does not spin."""
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(timeout_s), 'no answer in time'
        return future.result()


class Orbit:
    """A goal with its feedback."""

    def __init__(self, robot, **goal) -> None:
        self.robot = robot
        self.feedback = []
        self.first = threading.Event()
        assert robot.orbit_client.wait_for_server(TIMEOUT_S)
        future = robot.orbit_client.send_goal_async(
            SynthesizeOrbit.Goal(**goal), feedback_callback=self._take
        )
        self.handle = robot.result(future)
        assert self.handle.accepted

    def _take(self, message) -> None:
        self.feedback.append(message.feedback)
        self.first.set()

    def result(self):
        return self.robot.result(self.handle.get_result_async())


class Spinning:
    """Spins a robot without a view node in its process."""

    def __init__(self, robot) -> None:
        self.robot = robot
        self.executor = ThreadedExecutor(4, context=robot.node.context)
        self.executor.add_node(robot.node)
        self.thread = threading.Thread(target=self.executor.spin)

    def __enter__(self) -> Robot:
        self.thread.start()
        return self.robot

    def __exit__(self, *_) -> None:
        self.executor.shutdown()
        self.thread.join()
        self.robot.node.destroy_node()


class Graph:
    """A view node with a light synthesizer and a robot, spinning."""

    def __init__(self, parameters=None, start=True, load=None, on_error=None, **scene) -> None:
        self.context = rclpy.Context()
        # A domain of its own: nothing is heard of another graph in this process.
        rclpy.init(args=[], context=self.context, domain_id=next(DOMAINS))
        self.synthesizer = LightSynthesizer()
        overrides = [Parameter(k, value=v) for k, v in (parameters or {}).items()]
        self.node = ViewNode(
            load or (lambda settings, log: self.synthesizer),
            context=self.context,
            parameter_overrides=overrides,
        )
        self.robot = Robot(self.context, **scene)
        self.executor = ThreadedExecutor(16, context=self.context, on_error=on_error)
        self.executor.add_node(self.node)
        self.executor.add_node(self.robot.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()
        if start:
            self.node.start()

    def close(self) -> None:
        self.node.stop(TIMEOUT_S)
        self.executor.shutdown()
        self.thread.join()
        self.robot.node.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def wait_until(condition, timeout_s=TIMEOUT_S, period_s=0.002):
    """Wait for what gives no event; return its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, 'it did not happen in time'
        time.sleep(period_s)
    return value


@contextlib.contextmanager
def graph(parameters=None, **arguments):
    """A running :class:`Graph`."""
    running = Graph(parameters, **arguments)
    try:
        yield running
    finally:
        running.close()
