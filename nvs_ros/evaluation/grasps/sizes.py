"""How large objects are in metres: their own size where it is known, else one drawn from what such
things have."""

from __future__ import annotations

import numpy as np

from nvs_ros.evaluation.grasps.conditions import Conditions
from nvs_ros.evaluation.mesh_sets import MeshFile, metric_size
from nvs_ros.evaluation.sets import ObjectSet
from nvs_ros.scenes.mesh import Mesh

LONGEST_M = {
    'mug': (0.09, 0.13),
    'teapot': (0.14, 0.22),
    'bottle': (0.18, 0.27),
    'can': (0.09, 0.15),
    'bowl': (0.12, 0.18),
    'carton': (0.15, 0.24),
    'hammer': (0.22, 0.32),
    'screwdriver': (0.15, 0.25),
    'car': (0.1, 0.18),
    'lamp': (0.2, 0.32),
    'banana': (0.16, 0.22),
    'duck': (0.08, 0.14),
}
"""Longest side of generated objects, lowest and highest."""
ANY_M = (0.08, 0.2)
"""Of objects of no known kind."""
SHORTEST_M = 0.07
"""Those whose size is drawn are made smaller until their shortest side is at most this, less than
the gripper opens, unless they are to have their true size."""
METRES = (0.02, 0.6)
"""A mesh file whose longest side is in between is taken to be in metres."""


def real_size(
    objects: ObjectSet,
    index: int,
    name: str,
    mesh: Mesh,
    conditions: Conditions | None = None,
) -> float:
    """Longest side of an object, metres.

    Parameters
    ----------
    objects : ObjectSet
    index : int
        Of the object in the set.
    name : str
        Its kind.
    mesh : Mesh
        Longest side 1.
    conditions : Conditions, optional
        Whether what has its size drawn is made small enough for the gripper.
    """
    file = objects.files[index] if objects.files else None
    if isinstance(file, MeshFile):
        size = metric_size(file)
        if METRES[0] <= size <= METRES[1]:
            return size
    rng = np.random.default_rng([objects.settings.seed, index, 3])
    drawn = rng.uniform(*LONGEST_M.get(name, ANY_M))
    if (conditions or Conditions()).sizes == 'true':
        return float(drawn)
    return float(min(drawn, SHORTEST_M / np.ptp(mesh.vertices, axis=0).min()))
