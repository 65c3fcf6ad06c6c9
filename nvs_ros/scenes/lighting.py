"""Light and gloss of a scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nvs_ros.scenes.render import AMBIENT, EXPONENT, LIGHT_IN_CAMERA

MOVES_WITH_CAMERA = 0.5
"""Share of scenes whose light moves with the camera; in the others it is fixed to the object."""
GLOSSY = 0.4
"""Share of objects with highlights."""


@dataclass(frozen=True)
class Lighting:
    """One light, and how the object reflects it.

    Attributes
    ----------
    towards : (3,) float
        Unit vector towards the light: in the camera's optical frame if ``with_camera``, else in the
        object frame.
    with_camera : bool
        Whether the light moves with the camera.
    ambient, gloss, exponent : float
        As in :func:`nvs_ros.scenes.render.render`.
    """

    towards: np.ndarray = field(default_factory=lambda: LIGHT_IN_CAMERA)
    with_camera: bool = True
    ambient: float = AMBIENT
    gloss: float = 0.0
    exponent: float = EXPONENT

    @classmethod
    def random(cls, rng: np.random.Generator) -> Lighting:
        """Random light: from above the object, or from the camera's side and moving with it."""
        with_camera = bool(rng.random() < MOVES_WITH_CAMERA)
        if with_camera:
            towards = LIGHT_IN_CAMERA + rng.normal(0, 0.3, 3)
        else:
            azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 1.0)
            around = np.sqrt(1 - height**2)
            towards = np.array([around * np.cos(azimuth), around * np.sin(azimuth), height])
        return cls(
            towards / np.linalg.norm(towards),
            with_camera,
            float(rng.uniform(0.4, 0.8)),
            float(rng.uniform(0.05, 0.5)) if rng.random() < GLOSSY else 0.0,
            float(np.exp(rng.uniform(np.log(5), np.log(150)))),
        )

    def seen_from(self, object_from_camera: np.ndarray) -> dict[str, Any]:
        """Arguments of :func:`nvs_ros.scenes.render.render` for a camera pose (4, 4)."""
        towards = self.towards
        if not self.with_camera:
            towards = object_from_camera[:3, :3].T @ towards
        return {
            'light': towards,
            'ambient': self.ambient,
            'gloss': self.gloss,
            'exponent': self.exponent,
        }
