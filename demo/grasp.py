"""``make demo-grasp``: one look at a thing on a table, its far side completed, and a grasp on that.

A camera before a simulated table publishes image, depth and mask; the node, which is told neither
pose nor size, completes the object; the best grasp on its cloud is tried on the true shape in
MuJoCo. Leaves ``grasp.png``, a strip of what happened, in the output folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from client import Client, DemoError
from PIL import Image as Picture
from run import (  # sets up the graph, before rclpy is imported
    HERE,
    check_running,
    process,
    show_failure,
)
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from nvs_ros.contact_sheet import contact_sheet
from nvs_ros.errors import UserError
from nvs_ros.evaluation.grasps.gripper import Grasp, Gripper
from nvs_ros.evaluation.grasps.physics import Moment, Outcome
from nvs_ros.evaluation.grasps.pictures import picture
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.grasps.ranking import find_grasps
from nvs_ros.evaluation.grasps.trials import Laid, lay
from nvs_ros.evaluation.sets import open_set
from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.geometry import Camera, look_at
from nvs_ros.geometry.spherical import Spherical
from nvs_ros.messages.cameras import message_from_camera
from nvs_ros.messages.images import image_from_array
from nvs_ros.observation import Frame
from nvs_ros.scenes.mesh import Mesh, block
from nvs_ros.scenes.render import render

CAMERA = Spherical(0.6, 0.55, 1.9)
"""Where the wrist camera stands; radius in longest sides of the object."""
PERIOD_S = 0.5
"""Between two images."""
SHEET = 'grasp.png'
CELL = 220
STEEL, FINGER = np.array([0.45, 0.48, 0.52]), np.array([0.15, 0.15, 0.17])
TABLE = np.array([0.86, 0.82, 0.75])
NUMPY_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 8: 'f8'}
"""``PointField`` -> NumPy."""


class Arm(Client):
    """A wrist camera in the graph, and a planner that listens for the completed cloud."""

    def __init__(self, deadline_s: float, tick, frame: Frame) -> None:
        super().__init__(deadline_s, tick)
        kinds = {'image': Image, 'camera_info': CameraInfo, 'mask': Image, 'depth': Image}
        self._publishers = {n: self._node.create_publisher(k, n, 1) for n, k in kinds.items()}
        self._frame, self._shown_s = frame, -PERIOD_S
        self.clouds: list[PointCloud2] = []
        self._node.create_subscription(PointCloud2, '/nvs/completed_cloud', self.clouds.append, 1)

    def look(self) -> PointCloud2:
        """Publish what the camera sees until the node has completed the object."""

        def cloud() -> PointCloud2 | None:
            if time.monotonic() - self._shown_s >= PERIOD_S:
                self._shown_s = time.monotonic()
                self._publish()
            return self.clouds[0] if self.clouds else None

        return self.wait_until(cloud, 'completing the object')

    def _publish(self) -> None:
        frame = self._frame
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id='wrist_camera')
        messages = {
            'image': image_from_array(frame.image, 'rgb8', header),
            'camera_info': message_from_camera(frame.camera, header),
            'mask': image_from_array(frame.mask, 'mono8', header),
            'depth': image_from_array(np.asarray(frame.depth_m, np.float32), '32FC1', header),
        }
        for name, message in messages.items():
            self._publishers[name].publish(message)


def points_from_message(cloud: PointCloud2) -> Points:
    """What a planner takes of ``~/completed_cloud`` (``completion.normals: true``)."""
    kind = np.dtype(
        {
            'names': [field.name for field in cloud.fields],
            'formats': [NUMPY_TYPES[field.datatype] for field in cloud.fields],
            'offsets': [field.offset for field in cloud.fields],
            'itemsize': cloud.point_step,
        }
    )
    points = np.frombuffer(bytes(cloud.data), kind)
    places, normals = (
        np.stack([points[prefix + axis] for axis in 'xyz'], -1).astype(np.float64)
        for prefix in ('', 'normal_')
    )
    synthetic = (points['synthetic'].view(np.uint32) > 0).astype(np.float64)
    return Points(places, normals, points['confidence'].astype(np.float64), synthetic)


def run(output: Path, index: int, time_limit_s: float) -> Outcome | None:
    """Run the demo; None where no grasp was found.

    Parameters
    ----------
    output : Path
    index : int
        Of the object in the household test set, which training never saw.
    time_limit_s : float
        Until the completed cloud.

    Raises
    ------
    DemoError
        It cannot go on.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / SHEET).unlink(missing_ok=True)
    laid = lay(open_set('household', split='test', views=2, size=64), index)
    frame = table_scene(laid.mesh, CAMERA, np.random.default_rng(0), size_m=laid.size_m).frame
    points = _completed(frame, output / 'node.log', time.monotonic() + time_limit_s)
    # The camera is calibrated to the arm: the robot knows where in its world the cloud is.
    points = points.moved(frame.object_from_camera).thinned(0.002)
    grasps = find_grasps(points, table_m=laid.world.table_m, rng=np.random.default_rng(0))
    moments: list[Moment] = []
    outcome = laid.world.attempt(grasps[0], moments.append) if grasps else None
    _write_sheet(laid, frame, points, grasps[:1], outcome, moments, output / SHEET)
    _report(laid, points, grasps[:1], outcome, output / SHEET)
    return outcome


def _completed(frame: Frame, log: Path, deadline_s: float) -> Points:
    """The node's cloud of the object, in the frame of the camera."""
    values = ('input.objects:=mask', 'input.depth:=true', 'completion.normals:=true')
    parameters = [word for value in ('autostart:=false', *values) for word in ('-p', value)]
    command = ['nvs_ros.node.main', '--ros-args', *parameters]

    with log.open('w') as file, process(command, file) as node:
        arm = Arm(deadline_s, lambda: check_running(node), frame)
        try:
            arm.start()
            return points_from_message(arm.look())
        finally:
            arm.close()


def _report(
    laid: Laid, points: Points, grasps: list[Grasp], outcome: Outcome | None, sheet: Path
) -> None:
    imagined = points.synthetic.mean()
    print(f'{laid.name} of {100 * laid.size_m:.0f} cm, {imagined:.0%} of its cloud imagined')
    if outcome is not None:
        (grasp,) = grasps
        print(
            f'best grasp: {grasp.synthetic:.0%} of what the fingers touch imagined, confidence '
            f'{grasp.confidence:.2f}, score {grasp.score:.2f}: {outcome.what}'
        )
    else:
        print('no grasp was found')
    print(f'  {sheet}')


def _write_sheet(
    laid: Laid,
    frame: Frame,
    points: Points,
    grasps: list[Grasp],
    outcome: Outcome | None,
    moments: list[Moment],
    file: Path,
) -> None:
    """What the camera saw, the cloud with the grasp, and what the hand did."""
    reach = 0.75 * laid.size_m + 0.08
    held = outcome is not None and outcome.success
    side = np.array([0.9, -0.7, 0.45])
    shown = [frame.image, picture(points, [(g, held) for g in grasps], side, reach_m=reach)]
    captions = ['the camera', 'cloud: blue measured, orange not']
    for moment in moments:
        shown.append(_scene(laid, moment, side, reach))
        captions.append(moment.what)
    if outcome is not None:
        captions[-1] += f': {outcome.what}'
    Picture.fromarray(contact_sheet([shown], [captions], CELL)).save(file)


def _scene(laid: Laid, moment: Moment, side: np.ndarray, reach_m: float) -> np.ndarray:
    """Object, hand and table at a moment (S, S, 3) uint8."""
    thing = laid.mesh.transformed(
        laid.size_m * moment.world_from_object[:3, :3], moment.world_from_object[:3, 3]
    )
    gripper = Gripper()
    hand = [
        _box(2 * half, color, moment.world_from_grasp, centre)
        for centre, half, color in zip(
            *gripper.boxes(moment.opening_m), (FINGER, FINGER, STEEL), strict=True
        )
    ]
    table_m = laid.world.table_m
    size = np.array([3 * reach_m, 3 * reach_m, 0.01])
    table = block(size, TABLE).transformed(np.eye(3), (0, 0, table_m - 0.01))
    middle = np.array([0, 0, 0.05])
    camera = Camera.canonical(CELL)
    away = reach_m / np.tan(np.radians(49.1 / 2))
    pose = look_at(away * side / np.linalg.norm(side))
    pose[:3, 3] += middle
    everything = sum(hand, thing + table)
    return render(everything, pose, camera.matrix, CELL, CELL).image


def _box(sides: np.ndarray, color: np.ndarray, pose: np.ndarray, centre: np.ndarray) -> Mesh:
    made = block(sides, color).transformed(np.eye(3), centre - [0, 0, sides[2] / 2])
    return made.transformed(pose[:3, :3], pose[:3, 3])


def main() -> int:
    """Run the demo from the command line; 1 when it fails or nothing was held."""
    parser = argparse.ArgumentParser(description='One look, the far side, a grasp, the lift.')
    parser.add_argument('--output', type=Path, default=HERE.parent / 'out', help='folder')
    parser.add_argument(
        '--object', type=int, default=1, help='of the household test set (default %(default)s)'
    )
    parser.add_argument(
        '--time-limit', type=float, default=100.0, metavar='S', help='give up after'
    )
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        outcome = run(arguments.output, arguments.object, arguments.time_limit)
    except UserError as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except DemoError as error:
        show_failure(arguments.output / 'node.log', error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if outcome is not None and outcome.success else 1


if __name__ == '__main__':
    os.chdir(HERE.parent)
    sys.exit(main())
