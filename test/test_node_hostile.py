"""Malformed and extreme messages of every subscribed type, mixed with good ones.

The node never dies, every good frame that comes afterwards is served, and the counters add up.
"""

import array
import math

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from robot import graph, wait_until
from sensor_msgs.msg import CompressedImage, Image

from nvs_interfaces.msg import NovelViewArray, Viewpoint
from nvs_ros.node import conversions

ODD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300)


class Hostile:
    """Takes a good message and spoils it."""

    def __init__(self, robot, seed):
        self.robot = robot
        self.rng = np.random.default_rng(seed)

    def message(self, name):
        message = self.robot.scene.messages(self.robot.stamp_ns)[name]
        kind = 'image' if name in ('mask', 'depth') else name
        if isinstance(message, CompressedImage):
            kind = 'compressed'
        spoil = [getattr(self, attribute) for attribute in dir(self) if attribute.startswith(kind)]
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

    def image_encoding(self, message):
        message.encoding = str(
            self.rng.choice(['', 'nonsense', '64FC1', 'bayer_rggb8', 'mono16', '32FC1', 'yuv422'])
        )

    def image_empty(self, message):
        message.data = array.array('B', bytes(len(message.data)))

    def image_endian(self, message):
        message.is_bigendian = int(self.rng.integers(2, 256))

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


def compressed(image):
    """A picture message as PNG."""
    pixels = conversions.array_from_image(image)
    _, data = cv2.imencode('.png', pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return CompressedImage(header=image.header, format='png', data=array.array('B', data.tobytes()))


class Camera:
    """Publishes frames as raw pictures with depth, or as compressed ones."""

    def __init__(self, robot, kind):
        self.robot, self.kind = robot, kind
        self.inputs = ['image', 'camera_info', 'mask', 'object_pose']
        node = robot.node
        if kind == 'compressed':
            for name in ('image', 'mask'):
                robot.publishers[name] = node.create_publisher(
                    CompressedImage, f'{name}/compressed', 5
                )
        else:
            self.inputs.append('depth')
            robot.publishers['depth'] = node.create_publisher(Image, 'depth', 5)
        self.plain = robot.scene.messages
        robot.scene.messages = self.messages

    def messages(self, stamp_ns):
        messages = self.plain(stamp_ns)
        if self.kind == 'compressed':
            return messages | {name: compressed(messages[name]) for name in ('image', 'mask')}
        depth = np.full(self.robot.scene.mask.shape, 200, np.uint16)
        messages['depth'] = conversions.image_from_array(depth, '16UC1', messages['image'].header)
        return messages


SETTINGS = {
    'raw': {'input.depth': True},
    'compressed': {'input.image_transport': 'compressed', 'input.mask_transport': 'compressed'},
}


@pytest.mark.parametrize(('kind', 'number'), [('raw', 2000), ('compressed', 500)])
def test_the_node_survives_and_serves_every_good_frame(kind, number):
    with graph({**SETTINGS[kind], 'views.azimuths_deg': [30.0]}) as running:
        robot = running.robot
        camera = Camera(robot, kind)
        hostile = Hostile(robot, seed=1)
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        intake = running.node._session.intake
        for i in range(number):
            robot.stamp_ns += 10_000_000
            name = camera.inputs[i % len(camera.inputs)]
            spoilt = hostile.message(name)
            before = intake.statistics.received[name]
            if i % 3 == 0:  # one spoilt message among good ones
                robot.publish({**robot.scene.messages(robot.stamp_ns), name: spoilt})
            else:
                robot.publish({name: spoilt})
            # In step with the node: nothing is lost on the way and every message counts.
            wait_until(lambda n=name, b=before: intake.statistics.received[n] > b)
            if i % 100 == 99:
                while not views.empty():
                    views.get()
                served = robot.frames_until_message(views)
                assert served.views[0].synthetic
        assert running.thread.is_alive()
        running.node.trigger_deactivate()
        counts = intake.statistics
        assert sum(counts.received.values()) >= number
        assert all(counts.malformed[name] > number / 50 for name in camera.inputs)
        assert counts.images == counts.used + counts.dropped.total() + intake.waiting()
        running.node.trigger_activate()
        robot.frames_until_message(views)


@pytest.mark.parametrize('seed', range(3))
def test_hostile_requests_are_answered(seed):
    """Random numbers in every field of a request: an answer each time, and then a good one."""
    rng = np.random.default_rng(seed)
    with graph() as running:
        robot = running.robot
        robot.frames_until(lambda: running.node._session.intake.newest)
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
