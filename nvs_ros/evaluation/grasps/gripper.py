"""A parallel gripper, and where it is put to grasp.

The grasp frame: x is the way the fingers close, z the way they come from (towards the object), the
origin lies in the middle between the two finger tips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE_CLEARANCE_M = 0.002
"""Left on each side of the widest thing that is grasped."""


@dataclass(frozen=True)
class Gripper:
    """Two fingers and a palm, all of them boxes. The defaults are about a Robotiq 2F-85.

    Attributes
    ----------
    opening_m : float
        Widest distance between the fingers.
    finger_m : (3,) float
        Thickness (along x), width (y) and length (z) of a finger; the tip is at z = 0, the palm
        begins where the finger ends.
    palm_m : (3,) float
        Sides along x, y and z.
    pad_m : float
        What is grasped lies so far from the tips, in the middle of the pads.
    force_n : float
        With which each finger closes.
    friction : float
        Between fingers and object (Coulomb).
    """

    opening_m: float = 0.085
    finger_m: tuple[float, float, float] = (0.01, 0.02, 0.055)
    palm_m: tuple[float, float, float] = (0.11, 0.06, 0.06)
    pad_m: float = 0.01
    force_n: float = 30.0
    friction: float = 0.5

    @property
    def widest_m(self) -> float:
        """Of what is grasped; a little is left on each side."""
        return self.opening_m - 2 * SIDE_CLEARANCE_M

    def boxes(self, opening_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The boxes of both fingers and of the palm.

        Parameters
        ----------
        opening_m : float
            Distance between the fingers.

        Returns
        -------
        centres : (3, 3) float64
            Finger at +x, finger at -x, palm; grasp frame, metres.
        halves : (3, 3) float64
            Half of their sides.
        """
        thickness, _, length = self.finger_m
        aside = (opening_m + thickness) / 2
        centres = np.array(
            [
                [aside, 0, -length / 2],
                [-aside, 0, -length / 2],
                [0, 0, -length - self.palm_m[2] / 2],
            ]
        )
        return centres, np.array([self.finger_m, self.finger_m, self.palm_m]) / 2


@dataclass(frozen=True, eq=False)
class Grasp:
    """A place for the gripper, and how good it looks.

    Attributes
    ----------
    object_from_grasp : (4, 4) float64
        The grasp frame in the frame of the cloud, metres.
    opening_m : float
        Distance between the fingers when they come.
    width_m : float
        Of what is to be between the fingers.
    score : float
        Higher is better; see :mod:`nvs_ros.evaluation.grasps.ranking`.
    confidence : float
        Of the points that the fingers touch, 0..1: the mean of the less certain side.
    synthetic : float
        Share of these points that nobody measured, 0..1.
    """

    object_from_grasp: NDArray[np.float64]
    opening_m: float
    width_m: float
    score: float = 0.0
    confidence: float = 1.0
    synthetic: float = 0.0
