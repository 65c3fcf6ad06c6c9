"""Malformed and extreme messages of every subscribed type, mixed with good ones.

The node never dies, every good frame that comes in between is served, and the counters add up.
"""

import array
import os
import time
from collections import Counter

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CompressedImage

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_ros.geometry import inverse
from nvs_ros.messages import images, objects
from nvs_ros.messages.cameras import pose_from_rigid
from nvs_ros.testing.hostile import LABEL, ODD, Hostile
from nvs_ros.testing.robot import TIMEOUT_S, graph, wait_until

NUMBER = int(os.environ.get('NVS_HOSTILE', '2000'))
"""Messages of each type."""


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
