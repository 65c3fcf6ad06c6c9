"""What the hand would touch: the points that the fingers close on, and those it may not hit on its
way there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nvs_ros.evaluation.grasps.gripper import Gripper
from nvs_ros.evaluation.grasps.points import Points

CLEARANCE_M = 0.003
"""Between the hand and what it may not touch."""
SWEEP_M = 0.08
"""The hand comes in a straight line from so far away."""
SPARE_M = 0.012
"""The fingers come so much wider open on each side, where they can."""
TIP_M = 0.003
"""At least so much of the pads lies beyond the middle of what is grasped."""
TOUCHED_M = 0.003
"""Depth of the layer of points that a closing finger touches."""


class Contacts(NamedTuple):
    """What the fingers close on in each of some grasps; those that cannot be are left out.

    Attributes
    ----------
    object_from_grasp : (G, 4, 4) float64
    opening_m, width_m : (G,) float64
    cosine : (G,) float64
        Between finger and surface, mean over the points of the worse side; 1 is flat on it.
    skew : (G,) float64
        Cosine between closing direction and the line that joins the middles of both sides.
    patch : (G,) float64
        Points that the side with fewer of them touches.
    reach : (G,) float64
        How far from the tips, of the side that is nearer to them, metres.
    confidence, synthetic : (G,) float64
        Mean over the points of the worse side.
    """

    object_from_grasp: NDArray[np.float64]
    opening_m: NDArray[np.float64]
    width_m: NDArray[np.float64]
    cosine: NDArray[np.float64]
    skew: NDArray[np.float64]
    patch: NDArray[np.float64]
    reach: NDArray[np.float64]
    confidence: NDArray[np.float64]
    synthetic: NDArray[np.float64]


def contacts_of(
    points: Points,
    gripper: Gripper,
    middle: NDArray[np.float64],
    width_m: float,
    rotations: NDArray[np.float64],
    table_m: float,
) -> Contacts:
    """Close the gripper about a place, coming different ways.

    The gripper is moved along its closing direction until both fingers touch at once, and back from
    the table where its tips would touch that.

    Parameters
    ----------
    points : Points
        All that is known of the object.
    gripper : Gripper
    middle : (3,) float64
        Of what is to be grasped, between the pads.
    width_m : float
        Of what is to be grasped; the fingers start a little farther apart.
    rotations : (G, 3, 3) float64
        Object from grasp.
    table_m : float
        Height of the table; -inf for none.

    Returns
    -------
    Contacts
        Of those in which the fingers touch something on both sides, it fits between them, and
        neither they nor the palm hit points or the table.
    """
    origins = middle + gripper.pad_m * rotations[:, :, 2]
    reached = min(width_m / 2 + SPARE_M, gripper.opening_m / 2)
    low = table_m + CLEARANCE_M - _lowest(origins, rotations, gripper, 2 * reached)
    # On a table the tips grasp flat things, as far as there is enough of them left for that.
    back = np.clip(low, 0, None) / np.maximum(-rotations[:, 2, 2], 1e-6)
    above = back < gripper.pad_m - TIP_M
    rotations, origins, back = rotations[above], origins[above], back[above]
    origins = origins - back[:, None] * rotations[:, :, 2]
    x, y, z = _local(points.places, rotations, origins)
    _, width, length = gripper.finger_m
    between = (np.abs(y) < width / 2) & (z < 0) & (z > -length) & (np.abs(x) < reached)
    high = np.where(between, x, -np.inf).max(1)
    low = np.where(between, x, np.inf).min(1)
    found = high > low
    high, low = np.where(found, high, 0.0), np.where(found, low, 0.0)
    shift, extent = (high + low) / 2, high - low
    opening = np.minimum(extent + 2 * SPARE_M, gripper.opening_m)
    fine = found & (extent < gripper.widest_m)
    fine &= ~_hits(x - shift[:, None], y, z, gripper, opening)
    sides = between & (x > high[:, None] - TOUCHED_M), between & (x < low[:, None] + TOUCHED_M)
    normal = rotations[:, :, 0] @ points.normals.T
    middles, means = [], []
    for side, sign in zip(sides, (1, -1), strict=True):
        # Points inside a wall, which face the other way, are touched by no finger.
        count = (side := side & (sign * normal > 0)).sum(1)
        fine &= count > 0

        def mean(values: NDArray, side=side, count=count) -> NDArray[np.float64]:
            return (values * side).sum(1) / np.maximum(count, 1)

        middles.append(np.stack([mean(x), mean(y), mean(z)], 1))
        means.append((mean(sign * normal), count, mean(points.confidence), mean(points.synthetic)))
    cosine, patch, confidence, _ = np.minimum(*np.array(means))
    synthetic = np.maximum(means[0][3], means[1][3])
    line = middles[0] - middles[1]
    skew = line[:, 0] / np.maximum(np.linalg.norm(line, axis=1), 1e-9)
    reach = -np.maximum(middles[0][:, 2], middles[1][:, 2])
    poses = np.tile(np.eye(4), (len(rotations), 1, 1))
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = origins + shift[:, None] * rotations[:, :, 0]
    made = (poses, opening, extent, cosine, skew, patch, reach, confidence, synthetic)
    return Contacts(*(array[fine] for array in made))


def _local(
    places: NDArray[np.float64], rotations: NDArray[np.float64], origins: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points (N, 3) in each grasp frame: x, y and z, (3, G, N)."""
    axes = rotations.transpose(2, 0, 1)
    return axes @ places.T - (axes * origins).sum(2)[:, :, None]


def _hits(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    gripper: Gripper,
    opening_m: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether points (G, N) of the grasp frame are in the way of fingers or palm, (G,)."""
    thickness, width, length = gripper.finger_m
    inner = opening_m[:, None] / 2
    out = np.abs(x)
    fingers = (out > inner) & (out < inner + thickness + CLEARANCE_M)
    fingers &= (np.abs(y) < width / 2 + CLEARANCE_M) & (z < CLEARANCE_M)
    far = -length - gripper.palm_m[2] - SWEEP_M
    palm = (out < gripper.palm_m[0] / 2 + CLEARANCE_M) & (z < -length + CLEARANCE_M)
    palm &= np.abs(y) < gripper.palm_m[1] / 2 + CLEARANCE_M
    return np.any((fingers | palm) & (z > far), axis=1)


def _lowest(
    origins: NDArray[np.float64],
    rotations: NDArray[np.float64],
    gripper: Gripper,
    opening_m: float,
) -> NDArray[np.float64]:
    """Height of the hand's lowest corner, (G,)."""
    up = rotations[:, 2]
    centres, halves = gripper.boxes(opening_m)
    return (origins[:, 2, None] + up @ centres.T - np.abs(up) @ halves.T).min(1)
