"""Pictures of clouds with the grasps that were found on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nvs_ros.contact_sheet import contact_sheet
from nvs_ros.evaluation.grasps.clouds import CLOUDS
from nvs_ros.evaluation.grasps.gripper import Grasp, Gripper
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.grasps.trials import cloud_files, kept_cloud
from nvs_ros.geometry import Camera, inverse, look_at
from nvs_ros.image_files import CONTENT, save_view

MEASURED, IMAGINED = (70, 90, 130), (235, 150, 50)
HELD, LOST = (30, 150, 60), (200, 30, 30)
EDGES = [
    (0, 1),
    (0, 2),
    (0, 4),
    (1, 3),
    (1, 5),
    (2, 3),
    (2, 6),
    (3, 7),
    (4, 5),
    (4, 6),
    (5, 7),
    (6, 7),
]
"""Of a box, by its corners in binary order."""
SHEET_OBJECTS = 8
SIDES = ((1.0, 0.4, 0.5), (-0.4, 1.0, 0.5))
"""From where the object is shown."""


def picture(
    points: Points,
    grasps: Sequence[tuple[Grasp, bool]],
    direction: np.ndarray | tuple[float, float, float],
    *,
    gripper: Gripper | None = None,
    reach_m: float = 0.25,
    size: int = 320,
) -> np.ndarray:
    """Points and hands as seen from afar.

    Parameters
    ----------
    points : Points
        Measured ones blue, imagined ones orange.
    grasps : sequence of (Grasp, bool)
        Green those that held, red the others.
    direction : (3,)
        From the object to where it is seen from.
    gripper : Gripper, optional
    reach_m : float
        What the picture shows from its middle to each side, about.
    size : int
        Side, pixels.

    Returns
    -------
    (size, size, 3) uint8
        RGB.
    """
    gripper, camera = gripper or Gripper(), Camera.canonical(size)
    away = reach_m / np.tan(np.radians(49.1 / 2))
    pose = look_at(away * np.asarray(direction) / np.linalg.norm(direction))
    shown = np.full((size, size, 3), 255, np.uint8)

    def pixels(places: np.ndarray) -> np.ndarray:
        world = places @ inverse(pose)[:3, :3].T + inverse(pose)[:3, 3]
        return np.rint(camera.project(world)).astype(int)

    depth = np.linalg.norm(points.places - pose[:3, 3], axis=1)
    facing = (points.normals * (pose[:3, 3] - points.places)).sum(1) / np.maximum(depth, 1e-9)
    order = np.argsort(-depth)
    shade = 0.45 + 0.55 * np.clip(facing, 0, 1)
    colors = np.where(points.synthetic[:, None] > 0.5, IMAGINED, MEASURED) * shade[:, None]
    for (x, y), color in zip(pixels(points.places)[order], colors[order], strict=True):
        cv2.circle(shown, (int(x), int(y)), 2, color.tolist(), -1)
    corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing='ij'), -1).reshape(8, 3)
    for grasp, held in grasps:
        for centre, half in zip(*gripper.boxes(grasp.opening_m), strict=True):
            places = centre + corners * half
            places = places @ grasp.object_from_grasp[:3, :3].T + grasp.object_from_grasp[:3, 3]
            ends = pixels(places)
            for a, b in EDGES:
                start, end = tuple(map(int, ends[a])), tuple(map(int, ends[b]))
                cv2.line(shown, start, end, HELD if held else LOST, 1, cv2.LINE_AA)
    return shown


def write_sheet(results: Sequence[dict[str, Any]], clouds: Path, file: Path) -> None:
    """The best grasp on each cloud of the first objects, from two sides one above the other.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.grasps.trials.try_all`; of each object the first view and
        seed is shown.
    clouds : Path
        Folder that the clouds are kept in.
    file : Path
        PNG.
    """
    rows: list[list[np.ndarray | None]] = []
    captions: list[list[str]] = []
    for result in results[:SHEET_OBJECTS]:
        rows.append([])
        captions.append([])
        for record in result['records']:
            name = record['method']
            if name not in CLOUDS or record['view'] or record['seed']:
                continue
            points = kept_cloud(cloud_files(clouds, result['object'], 0, 0)[name])
            made = [
                (
                    Grasp(np.array(g['object_from_grasp']), g['opening_m'], g['width_m']),
                    g['what'] == 'held',
                )
                for g in record['grasps'][:1]
            ]
            reach = 0.75 * result['size_m'] + 0.06
            sides = [picture(points, made, side, reach_m=reach) for side in SIDES]
            rows[-1].append(np.concatenate(sides))
            what = record['grasps'][0]['what'] if record['grasps'] else 'none'
            captions[-1].append(f'{result["name"][-16:]} {name}: {what}')
    save_view(contact_sheet(rows, captions), file, {'content': CONTENT})
