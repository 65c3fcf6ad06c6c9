"""The best grasps on a cloud, best first. The same for every cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvs_ros.evaluation.grasps.contacts import Contacts, contacts_of
from nvs_ros.evaluation.grasps.gripper import Grasp, Gripper
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.grasps.reach import Reach
from nvs_ros.evaluation.grasps.sampling import antipodal_pairs, approaches

OBSTACLE_SPACING_M = 0.003
"""Between points that are looked at for collisions and contacts."""
FULL_PATCH = 15
"""So many points on both sides are as good as more."""
SAFE_REACH_M = 0.008
"""So far from the tips, contact is as good as farther."""
ARM_M = 0.1
"""Distance from the middle of the object that counts as 1."""
STEEPEST = 0.7
"""Least cosine between fingers and what they lie on. That is outside of the friction cone, but the
surface of a cloud is rough, and the score knows."""
APART_M, APART_DEG = 0.02, 30.0
"""Grasps nearer to a better one, and turned by less, are left out."""


@dataclass(frozen=True)
class Ranking:
    """What a grasp's score is the sum of, weights of parts that are each about 0..1; and what it
    has to allow for.

    Attributes
    ----------
    normal : float
        How flat the fingers lie on, and how straight opposite each other.
    patch : float
        How much they touch.
    reach : float
        That it is not the tips alone.
    centre : float
        How near the middle of the object is (taken off).
    confidence : float
        That of the points touched.
    measured : float
        Share of these points that was measured.
    margin : float
        What is imagined may be wider by this share of the longest side of all points, and has to
        fit between the fingers still.

    Raises
    ------
    ValueError
        The margin is below 0 or not finite.
    """

    normal: float = 1.0
    patch: float = 0.5
    reach: float = 0.3
    centre: float = 0.7
    confidence: float = 0.5
    measured: float = 0.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < np.inf:
            raise ValueError(f'margin: expected a share of at least 0, got {self.margin}')


def find_grasps(
    points: Points,
    *,
    gripper: Gripper | None = None,
    table_m: float = -np.inf,
    count: int = 5,
    ranking: Ranking | None = None,
    reach: Reach | None = None,
    rng: np.random.Generator | None = None,
) -> list[Grasp]:
    """Look for grasps on the points of an object.

    Parameters
    ----------
    points : Points
        z up, metres.
    gripper : Gripper, optional
        The default one when omitted.
    table_m : float
        Height that the hand does not go below.
    count : int
        Grasps that are wanted; fewer come where there are no more.
    ranking : Ranking, optional
    reach : Reach, optional
        Ways that the hand can come; all but those from below when omitted.
    rng : numpy.random.Generator, optional
        Which pairs of points are looked at; seed 0 when omitted.

    Returns
    -------
    list of Grasp
        Best first, none like another.

    Raises
    ------
    ValueError
        Points that are not finite.
    """
    if not all(np.isfinite(array).all() for array in vars(points).values()):
        raise ValueError('points: expected finite places, normals and confidence, got others')
    gripper, ranking, reach = gripper or Gripper(), ranking or Ranking(), reach or Reach()
    rng = rng or np.random.default_rng(0)
    thin = points.thinned(OBSTACLE_SPACING_M)
    if len(thin) < 2:
        return []
    middles, lines = antipodal_pairs(points, gripper, rng)
    made = [
        contacts_of(
            thin,
            gripper,
            middle,
            float(np.linalg.norm(line)),
            turns[reach.allows(turns)],
            table_m,
        )
        for middle, line, turns in zip(middles, lines, map(approaches, lines), strict=True)
    ]
    if not made:
        return []
    contacts = Contacts(*(np.concatenate(arrays) for arrays in zip(*made, strict=True)))
    chosen = np.minimum(contacts.cosine, contacts.skew) > STEEPEST
    unsure_m = ranking.margin * float(np.ptp(thin.places, axis=0).max())
    chosen &= contacts.width_m + unsure_m * contacts.synthetic < gripper.widest_m
    contacts = Contacts(*(array[chosen] for array in contacts))
    scores = score(contacts, gripper, _middle(thin), ranking)
    return _distinct(contacts, scores, count)


def score(
    contacts: Contacts, gripper: Gripper, middle: NDArray[np.float64], ranking: Ranking
) -> NDArray[np.float64]:
    """How good grasps look, (G,).

    Parameters
    ----------
    contacts : Contacts
    gripper : Gripper
    middle : (3,)
        Of the object.
    ranking : Ranking
    """
    cone = 1 / np.hypot(1, gripper.friction)
    normal = (np.minimum(contacts.cosine, contacts.skew) - cone) / (1 - cone)
    poses = contacts.object_from_grasp
    held = poses[:, :3, 3] - gripper.pad_m * poses[:, :3, 2]
    off = np.linalg.norm(np.cross(held - middle, poses[:, :3, 0]), axis=1)
    return (
        ranking.normal * normal
        + ranking.patch * np.minimum(contacts.patch / FULL_PATCH, 1)
        + ranking.reach * np.minimum(contacts.reach / SAFE_REACH_M, 1)
        - ranking.centre * off / ARM_M
        + ranking.confidence * contacts.confidence
        + ranking.measured * (1 - contacts.synthetic)
    )


def _middle(points: Points) -> NDArray[np.float64]:
    """Of the bounding box: the mean of points that one side has more of would lean to it."""
    return (points.places.min(0) + points.places.max(0)) / 2


def _distinct(contacts: Contacts, scores: NDArray[np.float64], count: int) -> list[Grasp]:
    """The best of those that are like each other."""
    chosen: list[int] = []
    poses = contacts.object_from_grasp
    for i in np.argsort(-scores, kind='stable'):
        apart = np.linalg.norm(poses[chosen, :3, 3] - poses[i, :3, 3], axis=1)
        along = (poses[chosen, :3, :3] * poses[i, :3, :3]).sum(1)
        # Half a turn about z makes the same of a gripper with two equal fingers.
        trace = np.abs(along[:, 0] + along[:, 1]) + along[:, 2]
        turn = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
        if ((apart > APART_M) | (turn > APART_DEG)).all():
            chosen.append(int(i))
        if len(chosen) == count:
            break
    return [
        Grasp(
            poses[i],
            float(contacts.opening_m[i]),
            float(contacts.width_m[i]),
            float(scores[i]),
            float(contacts.confidence[i]),
            float(contacts.synthetic[i]),
        )
        for i in chosen
    ]
