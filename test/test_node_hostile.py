"""Malformed and extreme messages of every subscribed type, mixed with good ones.

The node never dies, every good frame that comes in between is served, and the counters add up.
"""

import array
import math
import os
import time
from collections import Counter

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from robot import TIMEOUT_S, graph, wait_until
from sensor_msgs.msg import CompressedImage, Image

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_ros.geometry import inverse
from nvs_ros.messages import images, objects
from nvs_ros.messages.cameras import pose_from_rigid

NUMBER = int(os.environ.get('NVS_HOSTILE', '2000'))
"""Messages of each type."""
LABEL = 7
ODD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300)


class Hostile:
    """Takes a good message and spoils it."""

    def __init__(self, robot, seed):
        self.robot = robot
        self.rng = np.random.default_rng(seed)

    def message(self, name):
        message = self.robot.scene.messages(self.robot.stamp_ns)[name]
        if isinstance(message, CompressedImage):
            kinds = ('compressed',)
        else:
            kinds = ('image', name) if isinstance(message, Image) else (name,)
        spoil = [getattr(self, attribute) for attribute in dir(self) if attribute.startswith(kinds)]
        self.rng.choice([*spoil, self.any_stamp, self.any_frame])(message)
        return message

    def any_stamp(self, message):
        message.header.stamp.sec = int(self.rng.choice([-(2**31), -1, 0, 2**31 - 1]))
        message.header.stamp.nanosec = int(self.rng.choice([0, 2**32 - 1]))

    def any_frame(self, message):
        message.header.frame_id = str(self.rng.choice(['', '/', 'moon', 'a' * 5000, 'é\n']))

    def image_step(self, message):
        message.step = int(self.rng.choice([0, 1, message.step - 1, message.step + 7, 2**32 - 1]))

    def image_length(self, message):
        message.data = array.array('B', bytes(int(self.rng.integers(0, 5000))))

    def image_size(self, message):
        for name in ('width', 'height'):
            setattr(message, name, int(self.rng.choice([0, 1, 7, 65536, 2**31, 2**32 - 1])))

    def image_tiny(self, message):
        message.width = message.height = 1
        message.step = 3
        message.data = array.array('B', bytes(3))

    def image_large(self, message):
        message.width = message.height = 700
        message.step = 700 * 3
        message.data = array.array('B', self.rng.bytes(1)) * (700 * 700 * 3)

    def image_encoding(self, message):
        message.encoding = str(
            self.rng.choice(['', 'nonsense', '64FC1', 'bayer_rggb8', 'mono16', '32FC1', 'yuv422'])
        )

    def image_empty(self, message):
        message.data = array.array('B', bytes(len(message.data)))

    def image_endian(self, message):
        message.is_bigendian = int(self.rng.integers(2, 256))

    def mask_without_the_label(self, message):
        other = np.full((message.height, message.width), self.rng.integers(1, LABEL), np.uint16)
        message.data = array.array('B', other.tobytes())

    def compressed_cut(self, message):
        message.data = message.data[: int(self.rng.integers(0, len(message.data)))]

    def compressed_nothing(self, message):
        message.data = array.array('B')

    def compressed_noise(self, message):
        message.data = array.array('B', self.rng.bytes(500))

    def compressed_format(self, message):
        message.format = str(self.rng.choice(['', '16UC1; compressedDepth', 'é']))

    def camera_info_k(self, message):
        message.k[int(self.rng.integers(9))] = self.rng.choice(ODD)

    def camera_info_all_zero(self, message):
        message.k = [0.0] * 9

    def camera_info_d(self, message):
        message.d = [float(self.rng.choice(ODD)) for _ in range(self.rng.integers(0, 20))]
        message.distortion_model = str(
            self.rng.choice(['plumb_bob', 'equidistant', 'rational_polynomial', 'odd'])
        )

    def camera_info_r_and_p(self, message):
        message.r[int(self.rng.integers(9))] = self.rng.choice(ODD)
        message.p[int(self.rng.integers(12))] = self.rng.choice(ODD)

    def camera_info_window(self, message):
        for name in ('x_offset', 'y_offset', 'width', 'height'):
            setattr(message.roi, name, int(self.rng.choice([0, 1, 100, 2**32 - 1])))
        message.binning_x = int(self.rng.choice([0, 1, 2, 1000, 2**32 - 1]))

    def camera_info_size(self, message):
        message.width = int(self.rng.choice([0, 1, 161, 2**32 - 1]))

    def object_pose_rotation(self, message):
        for axis in 'xyzw':
            setattr(message.pose.orientation, axis, float(self.rng.choice(ODD)))

    def object_pose_position(self, message):
        setattr(message.pose.position, self.rng.choice(list('xyz')), float(self.rng.choice(ODD)))

    def object_pose_behind(self, message):
        message.pose.position.z = -message.pose.position.z

    def detections_none(self, message):
        message.detections = []

    def detections_many(self, message):
        message.detections = message.detections * 200

    def detections_id(self, message):
        message.detections[0].id = str(self.rng.choice(['', '0', '-1', '9' * 50, 'é', 'cup']))

    def detections_size(self, message):
        for axis in 'xyz':
            setattr(message.detections[0].bbox.size, axis, float(self.rng.choice(ODD)))

    def detections_pose(self, message):
        pose = message.detections[0].bbox.center
        for part, axes in ((pose.position, 'xyz'), (pose.orientation, 'xyzw')):
            setattr(part, self.rng.choice(list(axes)), float(self.rng.choice(ODD)))


def compressed(image):
    """A picture message as PNG."""
    pixels = images.array_from_image(image)
    _, data = cv2.imencode('.png', pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return CompressedImage(header=image.header, format='png', data=array.array('B', data.tobytes()))


def raw_frame(scene, messages):
    """Label image and depth, raw."""
    header = messages['image'].header
    labels = (scene.mask > 0) * np.uint16(LABEL)
    depth = np.full(scene.mask.shape, 200, np.uint16)
    return messages | {
        'mask': images.image_from_array(labels, '16UC1', header),
        'depth': images.image_from_array(depth, '16UC1', header),
    }


def compressed_frame(scene, messages):
    """Picture and mask as PNG."""
    return messages | {name: compressed(messages[name]) for name in ('image', 'mask')}


def detected_frame(scene, messages):
    """A box instead of a pose."""
    from vision_msgs.msg import Detection3D

    header = messages['object_pose'].header
    detection = Detection3D(header=header, id='1')
    detection.bbox.center = pose_from_rigid(inverse(scene.object_from_camera))
    detection.bbox.size.x = 0.1
    detections = objects.Detection3DArray(header=header, detections=[detection])
    del messages['object_pose']
    return messages | {'detections': detections}


COMPRESSED = {'image': 'image/compressed', 'mask': 'mask/compressed'}
# What makes a frame of the scene's messages, parameters, topics that differ, what is spoilt.
KINDS = {
    'raw': (
        raw_frame,
        {'input.depth': True, 'object.label': LABEL},
        {'depth': 'depth'},
        ('image', 'camera_info', 'mask', 'object_pose', 'depth'),
    ),
    'compressed': (
        compressed_frame,
        {'input.image_transport': 'compressed', 'input.mask_transport': 'compressed'},
        COMPRESSED,
        ('image', 'mask'),
    ),
    'detections': (
        detected_frame,
        {'input.objects': 'detections'},
        {'detections': 'detections'},
        ('detections',),
    ),
}


class Camera:
    """Publishes frames of a kind, counts the messages, and sees that good frames are served."""

    def __init__(self, running, make_frame, topics):
        self.robot = running.robot
        self.sent = Counter()
        plain, scene = self.robot.scene.messages, self.robot.scene
        scene.messages = lambda stamp_ns: make_frame(scene, plain(stamp_ns))
        for name, topic in topics.items():
            kind = type(scene.messages(0)[name])
            self.robot.publishers[name] = self.robot.node.create_publisher(kind, topic, 5)
        self.views = self.robot.subscribe(NovelViewArray, '/nvs/views', 100)
        self.robot.frames_until_message(self.views)

    def publish(self, messages):
        self.robot.publish(messages)
        self.sent.update(messages.keys())

    def serve(self):
        """Publish one good frame; its views come."""
        self.robot.stamp_ns += 100_000_000
        self.publish(self.robot.scene.messages(self.robot.stamp_ns))
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            stamp = self.views.get(timeout=deadline - time.monotonic()).header.stamp
            if stamp.sec * 10**9 + stamp.nanosec == self.robot.stamp_ns:
                return


@pytest.mark.parametrize(
    'kind',
    [
        'raw',
        'compressed',
        pytest.param(
            'detections',
            marks=pytest.mark.skipif(objects.Detection3DArray is None, reason='no vision_msgs'),
        ),
    ],
)
def test_the_node_survives_and_serves_every_good_frame(kind):
    make_frame, parameters, topics, spoilt_inputs = KINDS[kind]
    with graph({**parameters, 'views.azimuths_deg': [30.0]}) as running:
        camera, robot = Camera(running, make_frame, topics), running.robot
        camera.serve()  # nothing from before is on its way any more
        camera.sent.clear()
        hostile = Hostile(robot, seed=1)
        synchronizer = running.node._session.synchronizer
        before = synchronizer.statistics
        for i in range(NUMBER * len(spoilt_inputs)):
            robot.stamp_ns += 100_000_000
            name = spoilt_inputs[i % len(spoilt_inputs)]
            spoilt = hostile.message(name)
            if i % 7 == 0:  # one spoilt message among good ones
                camera.publish({**robot.scene.messages(robot.stamp_ns), name: spoilt})
            else:
                camera.publish({name: spoilt})
            # In step with the node: nothing is lost on the way and every message counts.
            wait_until(lambda: synchronizer.statistics.received - before.received == camera.sent)
            if i % 20 == 19:
                camera.serve()
        assert running.thread.is_alive()
        running.node.trigger_deactivate()
        counts = synchronizer.statistics
        assert counts.received - before.received == camera.sent
        assert all(counts.malformed[name] > NUMBER / 10 for name in spoilt_inputs)
        assert counts.images == counts.used + counts.dropped.total() + synchronizer.waiting()
        running.node.trigger_activate()
        robot.frames_until_message(camera.views)


@pytest.mark.parametrize('seed', range(3))
def test_hostile_requests_are_answered(seed):
    """Random numbers in every field of a request: an answer each time, and then a good one."""
    rng = np.random.default_rng(seed)
    with graph() as running:
        robot = running.robot
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        for _ in range(100):
            viewpoint = Viewpoint(
                kind=int(rng.choice([0, 1, 1, 2, 255])),
                azimuth_rad=float(rng.choice(ODD)),
                elevation_rad=float(rng.choice(ODD)),
                distance_m=float(rng.choice(ODD)),
            )
            pose = viewpoint.camera_pose
            pose.header.frame_id = str(rng.choice(['', 'camera_optical_frame', 'moon']))
            pose.header.stamp.sec = int(rng.choice([-5, 0, 2**31 - 1]))
            for axis in 'xyzw':
                setattr(pose.pose.orientation, axis, float(rng.choice([0.0, 0.5, *ODD])))
            for axis in 'xyz':
                setattr(pose.pose.position, axis, float(rng.choice([0.1, *ODD])))
            info = viewpoint.camera_info
            info.width, info.height = (int(v) for v in rng.choice([0, 0, 8, 2**32 - 1], 2))
            info.k[:] = rng.choice([0.0, 0.0, 1.0, 50.0, *ODD], 9)
            info.d = [float(v) for v in rng.choice(ODD, int(rng.choice([0, 0, 5, 8])))]
            response = robot.synthesize(viewpoint=viewpoint, seed=int(rng.integers(-5, 2**62)))
            assert response.success or response.message
            assert 'failed:' not in response.message, response.message
        assert robot.synthesize().success
