"""From where a hand can come: what the arm that carries it can reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvs_ros.evaluation.grasps.conditions import Conditions

CONE_DEG = 45.0
"""How far the hand's way may be off the direction of ``above`` and ``front``."""
RISING = 0.1
"""A hand that comes from below rises by more than this share of its way."""
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Reach:
    """Ways that the hand can come.

    Attributes
    ----------
    direction : (3,) float64, optional
        Middle of the cone of these ways, object frame (z up), unit length; None: all ways but those
        from below.
    cone_deg : float
        Half the angle at the tip of the cone.
    """

    direction: NDArray[np.float64] | None = None
    cone_deg: float = CONE_DEG

    @classmethod
    def of(cls, conditions: Conditions, camera_position: NDArray[np.float64]) -> Reach:
        """What the conditions say.

        Parameters
        ----------
        conditions : Conditions
        camera_position : (3,) float64
            Of the camera in the object frame, in any unit.
        """
        if conditions.approach == 'any':
            return cls()
        if conditions.approach == 'above':
            return cls(np.array([0.0, 0.0, -1.0]))
        return cls(-np.asarray(camera_position, float) / np.linalg.norm(camera_position))

    def allows(self, rotations: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the hand can come so.

        Parameters
        ----------
        rotations : (G, 3, 3) float64
            Object from grasp.

        Returns
        -------
        (G,) bool
        """
        ways = rotations[:, :, 2]
        fine = ways[:, 2] < RISING
        if self.direction is None:
            return fine
        return fine & (ways @ self.direction > np.cos(np.radians(self.cone_deg)) - _ROUNDING)
