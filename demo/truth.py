"""How close views of the bundled mug are to the truth in ``truth/``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nvs_ros.evaluation.metrics import foreground_psnr, mask_iou
from nvs_ros.geometry import Camera, inverse
from nvs_ros.geometry.resample import redraw

FOLDER = Path(__file__).parent / 'truth'
OWN_VIEWPOINT_DEG = (30.0, 15.0)
"""Azimuth and elevation of the view that the demo requests by service."""
MAX_ERROR_M, MAX_ERROR_RAD = 1e-4, 1e-3
"""Largest differences in position and direction between the cameras of a view and its truth."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A true image.

    Attributes
    ----------
    picture : (S, S, 4) uint8
        RGB on white, and coverage.
    camera : Camera
    object_from_camera : (4, 4) float64
    """

    picture: np.ndarray
    camera: Camera
    object_from_camera: np.ndarray

    def seen_by(
        self, camera: Camera, object_from_camera: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The true image and mask, warped into another pinhole camera at the same place."""
        turn = self.object_from_camera[:3, :3].T @ object_from_camera[:3, :3]
        ratio = self.camera.matrix[0, 0] / camera.matrix[0, 0]
        drawn = redraw(self.picture, self.camera, camera, turn, ratio)
        return drawn[..., :3], drawn[..., 3]


def read_truths(folder: Path = FOLDER) -> list[Truth]:
    """Read all true images."""
    text = json.loads((folder / 'truth.json').read_text())
    camera = Camera(text['size'], text['size'], np.reshape(text['k'], (3, 3)))
    return [
        Truth(
            np.asarray(Image.open(folder / view['file'])),
            camera,
            np.array(view['object_from_camera']),
        )
        for view in text['views']
    ]


def truth_at(object_from_camera: np.ndarray, truths: list[Truth]) -> Truth | None:
    """The true image of a camera with this position and direction; None if there is none."""
    for truth in truths:
        apart = inverse(truth.object_from_camera) @ object_from_camera
        turn = np.arccos(np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1, 1))
        if np.linalg.norm(apart[:3, 3]) < MAX_ERROR_M and turn < MAX_ERROR_RAD:
            return truth
    return None


@dataclass(frozen=True)
class Score:
    """Mask IoU (0 .. 1) and foreground PSNR (dB) of an image."""

    iou: float
    psnr_db: float


def score(
    image: np.ndarray, mask: np.ndarray, true_image: np.ndarray, true_mask: np.ndarray
) -> Score:
    """Compare an image (S, S, 3) and mask (S, S) with the true ones."""
    return Score(mask_iou(mask, true_mask), foreground_psnr(image, true_image, true_mask))


def mean(scores: list[Score]) -> Score:
    """Means of IoU and PSNR."""
    return Score(
        float(np.mean([s.iou for s in scores])), float(np.mean([s.psnr_db for s in scores]))
    )
