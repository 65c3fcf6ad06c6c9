"""Make the bundled bag and its ground truth again: ``python demo/make_bag.py``.

``mug.mcap``: three seconds of raw 320x240 images at 5 Hz with their camera_info, aligned depth,
mask and object pose. The images are raw, which the node reads by default; they are few and small,
because noise does not compress (160 kB per image, 20 kB per depth image).

``truth/``: true images of the mug from the node's default viewpoints and one more that the demo
requests, all relative to the camera at rest. The camera rests in the first and in the last second,
so that the truth fits the frame that the node takes, whether an early one or the last.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scene
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm
from truth import OWN_VIEWPOINT_DEG

from nvs_ros.geometry import (
    Camera,
    Spherical,
    inverse,
    pose_from_spherical,
    quaternion_from_rigid,
)
from nvs_ros.settings import ViewSettings

FOLDER = Path(__file__).parent
FRAMES, PERIOD_NS = 15, 200_000_000
START_NS = 1_760_000_000_000_000_000
ARRIVAL_NS = {'/image': 9, '/camera_info': 10, '/depth': 21, '/mask': 48, '/object_pose': 61}
"""Topic -> delay of its message after the exposure, milliseconds."""
TRUTH_SIZE = 256

TYPES = get_typestore(Stores.ROS2_HUMBLE)
Header = TYPES.types['std_msgs/msg/Header']
Time = TYPES.types['builtin_interfaces/msg/Time']
Image = TYPES.types['sensor_msgs/msg/Image']
CameraInfo = TYPES.types['sensor_msgs/msg/CameraInfo']
RegionOfInterest = TYPES.types['sensor_msgs/msg/RegionOfInterest']
PoseStamped = TYPES.types['geometry_msgs/msg/PoseStamped']
Pose = TYPES.types['geometry_msgs/msg/Pose']
Point = TYPES.types['geometry_msgs/msg/Point']
Quaternion = TYPES.types['geometry_msgs/msg/Quaternion']


def sway(index: int) -> float:
    """Displacement of the hand at a frame, 0..1; not 0 only in the middle second."""
    phase = (index - 4) / 7
    return math.sin(math.pi * phase) ** 2 if 0 < phase < 1 else 0.0


def frame(index: int) -> dict[str, Any]:
    """The messages of one frame: topic -> message."""
    stamp_ns = START_NS + index * PERIOD_NS
    header = Header(Time(stamp_ns // 10**9, stamp_ns % 10**9), 'camera_optical_frame')
    pose = scene.object_from_camera(sway(index))
    image, mask = scene.picture(pose, np.random.default_rng([*scene.OBJECT_SEED, index]))
    depth_rng = np.random.default_rng([*scene.OBJECT_SEED, index, 1])
    return {
        '/image': _image(header, 'rgb8', image),
        '/camera_info': _camera_info(header),
        '/depth': _image(header, '16UC1', scene.depth(pose, depth_rng)),
        '/mask': _image(header, 'mono8', mask),
        '/object_pose': PoseStamped(header, _pose(inverse(pose))),
    }


def _image(header: Any, encoding: str, pixels: np.ndarray) -> Any:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder('<')).reshape(-1).view(np.uint8)
    return Image(header, height, width, encoding, 0, pixels[0].nbytes, data)


def _camera_info(header: Any) -> Any:
    return CameraInfo(
        header,
        scene.HEIGHT,
        scene.WIDTH,
        'plumb_bob',
        np.array(scene.DISTORTION),
        scene.MATRIX.ravel(),
        np.eye(3).ravel(),
        np.column_stack([scene.MATRIX, np.zeros(3)]).ravel(),
        0,
        0,
        RegionOfInterest(0, 0, 0, 0, False),
    )


def _pose(target_from_source: np.ndarray) -> Any:
    return Pose(
        Point(*map(float, target_from_source[:3, 3])),
        Quaternion(*map(float, quaternion_from_rigid(target_from_source))),
    )


def write_bag(path: Path) -> None:
    """Write all frames; each message is recorded at the time of its arrival."""
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder, 'bag')
        writer = Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            topics = {}
            for index in tqdm(range(FRAMES), 'frames'):
                for topic, message in frame(index).items():
                    name = message.__msgtype__
                    if topic not in topics:
                        topics[topic] = writer.add_connection(topic, name, typestore=TYPES)
                    arrival_ns = START_NS + index * PERIOD_NS + ARRIVAL_NS[topic] * 10**6
                    writer.write(topics[topic], arrival_ns, TYPES.serialize_cdr(message, name))
        shutil.move(bag / 'bag.mcap', path)


def viewpoints_deg() -> list[tuple[float, float]]:
    """Azimuth and elevation of every image in ``truth/``, relative to the camera at rest."""
    return [
        *((azimuth, elevation) for azimuth, elevation, _ in ViewSettings().viewpoints),
        OWN_VIEWPOINT_DEG,
    ]


def truths() -> Iterator[tuple[dict, np.ndarray]]:
    """Description and image (RGBA, uint8) of every viewpoint."""
    camera = truth_camera()
    for azimuth_deg, elevation_deg in viewpoints_deg():
        pose = pose_from_spherical(
            Spherical(
                scene.REST.azimuth_rad + math.radians(azimuth_deg),
                scene.REST.elevation_rad + math.radians(elevation_deg),
                scene.REST.radius,
            )
        )
        true = scene.truth(pose, camera.matrix, TRUTH_SIZE)
        description = {
            'file': f'azimuth_{azimuth_deg:03.0f}_elevation_{elevation_deg:+03.0f}.png',
            'azimuth_deg': azimuth_deg,
            'elevation_deg': elevation_deg,
            'object_from_camera': pose.tolist(),
        }
        yield description, np.dstack([true.image, true.mask])


def truth_camera() -> Camera:
    """Zero-1-to-3's camera, zoomed so that the mug appears as large as training objects."""
    return Camera.canonical(TRUTH_SIZE, zoom=scene.REST.radius / scene.OBJECT_SIZE_M / 1.85)


def write_truth(folder: Path) -> None:
    """Write the images, composited on white with the mask as alpha, and ``truth.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptions = []
    for description, picture in truths():
        bgra = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
        cv2.imwrite(str(folder / description['file']), bgra, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        descriptions.append(description)
    text = {
        'comment': 'Metres and pixels; camera frames are optical. Made by demo/make_bag.py.',
        'object_size_m': scene.OBJECT_SIZE_M,
        'size': TRUTH_SIZE,
        'k': truth_camera().matrix.ravel().tolist(),
        'views': descriptions,
    }
    (folder / 'truth.json').write_text(json.dumps(text, indent=1) + '\n')


def main() -> None:
    parser = argparse.ArgumentParser(description='Make the bundled bag and its ground truth.')
    parser.add_argument('--output', type=Path, default=FOLDER, help='folder (default: beside me)')
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    write_truth(output / 'truth')
    write_bag(output / 'mug.mcap')


if __name__ == '__main__':
    main()
