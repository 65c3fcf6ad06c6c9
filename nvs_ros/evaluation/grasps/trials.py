"""All grasps of an evaluation: for each object, view and seed, the best of each cloud are tried.

One object is one piece of work; its figures are written as soon as they are there, so that a run
can be interrupted and continued, or made longer. Clouds are kept beside them, for other rankings.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from nvs_ros.evaluation.grasps.clouds import CLOUDS, Sight
from nvs_ros.evaluation.grasps.conditions import Conditions
from nvs_ros.evaluation.grasps.convex import convex_parts
from nvs_ros.evaluation.grasps.gripper import Grasp, Gripper
from nvs_ros.evaluation.grasps.physics import World
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.grasps.ranking import Ranking, find_grasps
from nvs_ros.evaluation.grasps.reach import Reach
from nvs_ros.evaluation.grasps.sizes import real_size
from nvs_ros.evaluation.sets import ObjectSet
from nvs_ros.geometry import rigid
from nvs_ros.geometry.spherical import Spherical, position_from_spherical
from nvs_ros.replacing import replacing
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Synthesizer

GRASPS = 5
"""Of each cloud are tried."""
JITTER_M, JITTER_DEG = 0.002, 2.0
"""Standard deviation, along and about each axis, of how far a robot's hand is off where it was
sent."""
ELEVATION_DEG, RADIUS = (15.0, 50.0), (1.6, 2.0)
"""Of the cameras; longest sides."""
TURNED_DEG = 1.0
"""An object that turned by less as it came to rest stood as it was put."""
WEIGHTS = {'ours_no_trust': 0.0, 'ours_more_trust': 2.0}
"""Further rankings of the cloud ``ours``: weight of the confidence."""


class Method(NamedTuple):
    """A cloud, and how its grasps are ranked."""

    cloud: str
    ranking: Ranking


def methods_of(clouds: tuple[str, ...], ranking: Ranking) -> dict[str, Method]:
    """Name -> method: each cloud, and other rankings of ``ours``."""
    made = {name: Method(name, ranking) for name in clouds}
    if 'ours' in clouds:
        for name, weight in WEIGHTS.items():
            made[name] = Method('ours', dataclasses.replace(ranking, confidence=weight))
    return made


@dataclass(frozen=True)
class Trials:
    """What is tried.

    Attributes
    ----------
    synthesizer : Synthesizer
    objects : ObjectSet
    clouds : tuple of str
        Of :data:`nvs_ros.evaluation.grasps.clouds.CLOUDS`.
    views : int
        Cameras about each object.
    seeds : int
        Of the noise of views, of which pairs of points are looked at, and of the jitter.
    settings : CompletionSettings
    gripper : Gripper
    ranking : Ranking
    faults : bool
        Of the depth camera and of the mask.
    found : bool
        See :class:`nvs_ros.evaluation.grasps.clouds.Sight`.
    conditions : Conditions
        From where the hand can come, and how large objects are.
    """

    synthesizer: Synthesizer
    objects: ObjectSet
    clouds: tuple[str, ...] = tuple(CLOUDS)
    views: int = 3
    seeds: int = 3
    settings: CompletionSettings = field(default_factory=CompletionSettings)
    gripper: Gripper = field(default_factory=Gripper)
    ranking: Ranking = field(default_factory=Ranking)
    faults: bool = False
    found: bool = False
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True)
class Laid:
    """An object as it lies on the table.

    Attributes
    ----------
    name : str
    mesh : Mesh
        Longest side 1, centred.
    size_m : float
    world : World
        The physics of it.
    """

    name: str
    mesh: Mesh
    size_m: float
    world: World


def lay(
    objects: ObjectSet,
    index: int,
    gripper: Gripper | None = None,
    conditions: Conditions | None = None,
) -> Laid:
    """Put an object of a set on the table, in its real size, and let it come to rest."""
    name, mesh, _ = objects.draw(index)
    size_m = real_size(objects, index, name, mesh, conditions)
    parts = [size_m * part for part in convex_parts(mesh)]
    turn = World(parts, gripper).rest_from_object[:3, :3]
    if np.degrees(Rotation.from_matrix(turn).magnitude()) < TURNED_DEG:
        return Laid(name, mesh, size_m, World(parts, gripper, rest=False))
    turned = mesh.transformed(turn)
    low, high = turned.vertices.min(0), turned.vertices.max(0)
    parts = [part @ turn.T - size_m * (low + high) / 2 for part in parts]
    size_m *= float((high - low).max())
    return Laid(name, turned.normalised(), size_m, World(parts, gripper, rest=False))


def sight_of(trials: Trials, laid: Laid, index: int, view: int, seed: int) -> Sight:
    """A camera before the object."""
    rng = np.random.default_rng([trials.objects.settings.seed, index, view, 4])
    camera = Spherical(
        rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(*ELEVATION_DEG)), rng.uniform(*RADIUS)
    )
    noise = int(np.random.SeedSequence([index, view, seed]).generate_state(1)[0])
    return Sight(
        trials.synthesizer,
        laid.mesh,
        laid.size_m,
        camera,
        trials.settings,
        noise,
        trials.faults,
        trials.found,
    )


def cloud_files(folder: Path, index: int, view: int, seed: int) -> dict[str, Path]:
    """Where the clouds of a sight are kept."""
    place = folder / 'clouds'
    return {name: place / f'{index:05d}_{view}_{seed}_{name}.npz' for name in CLOUDS}


def kept_cloud(file: Path) -> Points:
    """A cloud from its file."""
    with np.load(file) as kept:
        return Points(*(kept[f.name].astype(np.float64) for f in dataclasses.fields(Points)))


def made_cloud(sight: Sight, name: str, file: Path) -> Points:
    """A cloud from its file; it is made first if it is not there."""
    if not file.exists():
        arrays = {k: v.astype(np.float32) for k, v in vars(sight.cloud(name)).items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial, partial.open('wb') as stream:
            np.savez_compressed(stream, **arrays)
    return kept_cloud(file)


def jittered(grasp: Grasp, rng: np.random.Generator) -> Grasp:
    """Where the hand really goes."""
    turn = Rotation.from_rotvec(np.radians(rng.normal(0, JITTER_DEG, 3))).as_matrix()
    off = rigid(turn, rng.normal(0, JITTER_M, 3))
    return dataclasses.replace(grasp, object_from_grasp=grasp.object_from_grasp @ off)


def try_object(trials: Trials, index: int, clouds: Path) -> dict[str, Any]:
    """Try the best grasps of all methods on one object.

    Parameters
    ----------
    trials : Trials
    index : int
        Of the object.
    clouds : Path
        Folder that they are kept in.

    Returns
    -------
    dict
        ``object``, ``name``, ``size_m``, and ``records``: one for each method, view and seed, with
        ``grasps``: a list of what became of each, best first.
    """
    laid = lay(trials.objects, index, trials.gripper, trials.conditions)
    methods = methods_of(trials.clouds, trials.ranking)
    records = []
    for view in range(trials.views):
        for seed in range(trials.seeds):
            sight = sight_of(trials, laid, index, view, seed)
            files = cloud_files(clouds, index, view, seed)
            for name, grasps in _found(trials, sight, methods, files):
                # The same for all methods.
                rng = np.random.default_rng([trials.objects.settings.seed, index, view, seed, 5])
                made = [_tried(laid.world, grasp, jittered(grasp, rng)) for grasp in grasps]
                records.append({'method': name, 'view': view, 'seed': seed, 'grasps': made})
    return {'object': index, 'name': laid.name, 'size_m': laid.size_m, 'records': records}


def _found(
    trials: Trials,
    sight: Sight,
    methods: Mapping[str, Method],
    files: Mapping[str, Path],
) -> Iterator[tuple[str, list[Grasp]]]:
    """The best grasps of each method."""
    clouds: dict[str, Points] = {}
    reach = Reach.of(trials.conditions, position_from_spherical(sight.camera))
    for name, method in methods.items():
        if method.cloud not in clouds:
            clouds[method.cloud] = made_cloud(sight, method.cloud, files[method.cloud])
        yield (
            name,
            find_grasps(
                clouds[method.cloud],
                gripper=trials.gripper,
                table_m=sight.table_m,
                count=GRASPS,
                ranking=method.ranking,
                reach=reach,
                rng=np.random.default_rng(sight.seed),
            ),
        )


def _tried(world: World, found: Grasp, done: Grasp) -> dict[str, Any]:
    outcome = world.attempt(done)
    return {
        'what': outcome.what,
        'collided': outcome.collided,
        'score': found.score,
        'confidence': found.confidence,
        'synthetic': found.synthetic,
        'width_m': found.width_m,
        'object_from_grasp': found.object_from_grasp.round(5).tolist(),
        'opening_m': found.opening_m,
    }


def try_all(
    trials: Trials, count: int, folder: Path, clouds: Path | None = None
) -> list[dict[str, Any]]:
    """Try the objects that are not tried yet.

    Parameters
    ----------
    trials : Trials
    count : int
        Objects, from the first.
    folder : Path
        Gets ``object_<i>.json`` for each object, see :func:`try_object`.
    clouds : Path, optional
        Gets ``clouds/``; ``folder`` when omitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for index in tqdm(range(count), 'grasp', unit='object'):
        file = folder / f'object_{index:05d}.json'
        if not file.exists():
            result = try_object(trials, index, clouds or folder)
            with replacing(file) as partial:
                partial.write_text(json.dumps(result) + '\n')
        results.append(json.loads(file.read_text()))
    return results
