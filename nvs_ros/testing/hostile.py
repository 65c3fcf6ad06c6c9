"""Good messages, spoiled: every field of every subscribed type, one at a time."""

from __future__ import annotations

import array
import math

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

ODD = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-300)
"""Numbers that no field expects."""
LABEL = 7
"""Of the object, in masks that are label images."""


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
