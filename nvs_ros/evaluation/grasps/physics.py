"""Grasps tried on the true shape in MuJoCo: approach, close, lift, shake, hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from nvs_ros.errors import UserError
from nvs_ros.evaluation.grasps.gripper import Grasp, Gripper
from nvs_ros.geometry import rigid

DENSITY = 300.0
"""Of objects, kg/m^3: packed goods and things with hollows."""
MASSES_KG = (0.03, 0.6)
"""Lightest and heaviest object."""
STEP_S = 0.002
APPROACH_M = 0.08
"""The hand comes along the grasp's z axis from so far away."""
LIFT_M = 0.1
SHAKE_M, SHAKE_HZ = 0.01, 3.0
"""Amplitude and frequency, along x and then along y."""
APPROACH_S, CLOSE_S, LIFT_S, SHAKE_S, HOLD_S, REST_S = 0.6, 0.6, 0.6, 0.7, 2.0, 1.0
CLOSING_M_S = 0.1
"""Speed of each finger."""
ARM_N_M = 4000.0
"""Stiffness of the arm: 5 mm off its way it pushes with 20 N."""
OFF_M = 0.005
"""A hand that is stopped by more before it closes has hit something, and so has one that has pushed
the object by more."""
PARKED_M = 1.0
"""Height of the hand while the object comes to rest."""
OUTCOMES = ('held', 'blocked', 'missed', 'dropped')
"""Held to the end; the hand was stopped before it closed; nothing stayed between the fingers when
they closed; lost, or left on the table, when it was lifted or shaken."""


@dataclass(frozen=True, eq=False)
class Moment:
    """Where everything is.

    Attributes
    ----------
    what : str
        What the hand is doing: ``approach``, ``close``, ``lift``, ``shake`` or ``hold``.
    world_from_object, world_from_grasp : (4, 4) float64
        The world is the frame that the parts were given in; metres.
    opening_m : float
        Distance between the fingers.
    """

    what: str
    world_from_object: NDArray[np.float64]
    world_from_grasp: NDArray[np.float64]
    opening_m: float


@dataclass(frozen=True)
class Outcome:
    """What became of a grasp.

    Attributes
    ----------
    what : str
        One of :data:`OUTCOMES`.
    collided : bool
        The hand was stopped, or pushed the object, before it closed.
    """

    what: str
    collided: bool

    @property
    def success(self) -> bool:
        return self.what == 'held'


def require_mujoco():
    """The module.

    Raises
    ------
    UserError
        It is not installed.
    """
    try:
        import mujoco
    except ImportError:
        raise UserError(
            "grasps are tried in MuJoCo, which is not installed; pip install 'nvs_ros[grasp]'"
        ) from None
    return mujoco


class World:
    """A table, an object of convex parts on it, and a hand on a stiff arm.

    Parameters
    ----------
    parts : sequence of (n, 3) float
        Vertices of the convex parts, object frame (z up), metres.
    gripper : Gripper
    table_m : float, optional
        Height of the table in the object frame; the lowest point of the object when omitted.
    rest : bool
        First let the object come to rest; else it is grasped just where it was put.

    Raises
    ------
    UserError
        MuJoCo is not installed.
    ValueError
        No parts.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[np.float64]],
        gripper: Gripper | None = None,
        table_m: float | None = None,
        *,
        rest: bool = True,
    ) -> None:
        if not len(parts):
            raise ValueError('parts: expected at least one convex part, got none')
        self._mujoco = require_mujoco()
        self.gripper = gripper or Gripper()
        self.table_m = min(p[:, 2].min() for p in parts) if table_m is None else table_m
        spec = self._mujoco.MjSpec.from_string(_xml(self.gripper, self.table_m))
        thing, density = spec.body('object'), _density(parts)
        for i, vertices in enumerate(parts):
            spec.add_mesh(name=f'part{i}', uservert=np.asarray(vertices, np.float64).ravel())
            thing.add_geom(
                type=self._mujoco.mjtGeom.mjGEOM_MESH,
                meshname=f'part{i}',
                density=density,
                contype=2,
                conaffinity=5,
            )
        self._model = spec.compile()
        self._data = self._mujoco.MjData(self._model)
        self._start = self._rest() if rest else self._data.qpos[5:12].copy()

    @property
    def rest_from_object(self) -> NDArray[np.float64]:
        """Where the object came to rest from how it was put, (4, 4)."""
        turn = Rotation.from_quat(self._start[3:], scalar_first=True)
        return rigid(turn.as_matrix(), self._start[:3])

    def _rest(self) -> NDArray[np.float64]:
        """Place and quaternion (7,) of the object when it has come to rest."""
        self._mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[2] = self._data.ctrl[2] = self.table_m + PARKED_M
        self._run(REST_S, lambda share: None)
        return self._data.qpos[5:12].copy()

    def attempt(
        self, grasp: Grasp, watch: Callable[[Moment], None] = lambda moment: None
    ) -> Outcome:
        """Try a grasp on the object at rest; the same grasp has the same outcome.

        Parameters
        ----------
        grasp : Grasp
            In the frame that the parts were given in.
        watch : callable
            Told where everything is at the end of each thing that the hand does.
        """

        def show(what: str) -> None:
            watch(self._moment(what, grasp))

        goal, away = grasp.object_from_grasp[:3, 3], grasp.object_from_grasp[:3, 2]
        self._put(grasp, goal - APPROACH_M * away)
        self._run(APPROACH_S, lambda share: self._go(goal - (1 - share) * APPROACH_M * away))
        self._run(0.1, lambda share: None)
        show('approach')
        stopped = np.linalg.norm(self._data.qpos[:3] - goal) > OFF_M
        moved = np.linalg.norm(self._data.qpos[5:8] - self._start[:3]) > OFF_M
        if stopped:
            return Outcome('blocked', True)
        speed = CLOSING_M_S * CLOSE_S
        self._run(CLOSE_S, lambda share: self._open(grasp.opening_m / 2 - speed * share))
        show('close')
        if not self._is_held():
            return Outcome('missed', bool(moved))
        up, across = np.array([0, 0, LIFT_M]), SHAKE_M * np.eye(3)
        self._run(LIFT_S, lambda share: self._go(goal + share * up))
        show('lift')
        for way in across[:2]:
            if not self._is_held():
                break
            self._run(SHAKE_S, partial(self._shake, goal + up, way))
        show('shake')
        self._run(HOLD_S, lambda share: self._go(goal + up), lambda: not self._is_held())
        show('hold')
        held = self._is_held() and not self._is_on_table()
        return Outcome('held' if held else 'dropped', bool(moved))

    def _moment(self, what: str, grasp: Grasp) -> Moment:
        place = self._data.qpos
        turn = Rotation.from_quat(place[8:12], scalar_first=True).as_matrix()
        hand = rigid(grasp.object_from_grasp[:3, :3], place[:3])
        return Moment(what, rigid(turn, place[5:8]), hand, 2 * float(place[3:5].mean()))

    def _put(self, grasp: Grasp, position: NDArray[np.float64]) -> None:
        """The object at rest, the hand at a place."""
        turn = Rotation.from_matrix(grasp.object_from_grasp[:3, :3])
        self._model.body('hand').quat = turn.as_quat(scalar_first=True)
        self._mujoco.mj_setConst(self._model, self._data)
        self._mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[5:12] = self._start
        self._data.qpos[:3], self._data.qpos[3:5] = position, grasp.opening_m / 2
        self._go(position)
        self._open(grasp.opening_m / 2)
        self._mujoco.mj_forward(self._model, self._data)

    def _go(self, position: NDArray[np.float64]) -> None:
        self._data.ctrl[:3] = position

    def _shake(self, middle: NDArray[np.float64], way: NDArray[np.float64], share: float) -> None:
        self._go(middle + np.sin(2 * np.pi * SHAKE_HZ * SHAKE_S * share) * way)

    def _open(self, half_m: float) -> None:
        # Below 0, so that thin things are held with the whole force too.
        self._data.ctrl[3:5] = max(half_m, -0.01)

    def _run(
        self,
        seconds: float,
        control: Callable[[float], None],
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Step on; ``control`` is told which share of the time has passed."""
        steps = round(seconds / STEP_S)
        for step in range(steps):
            control((step + 1) / steps)
            self._mujoco.mj_step(self._model, self._data)
            if step % 50 == 49 and until():
                return

    def _bodies_at(self, geom: str) -> bool:
        """Whether the object touches a geom."""
        wanted, contact = self._model.geom(geom).id, self._data.contact
        thing = self._model.body('object').id
        pairs = contact.geom[(contact.geom == wanted).any(1)]
        return bool((self._model.geom_bodyid[pairs] == thing).any())

    def _is_held(self) -> bool:
        return self._bodies_at('finger0') and self._bodies_at('finger1')

    def _is_on_table(self) -> bool:
        return self._bodies_at('table')


def _density(parts: Sequence[NDArray[np.float64]]) -> float:
    """Density that gives the object a mass within :data:`MASSES_KG`."""
    volume = sum(ConvexHull(part).volume for part in parts)
    return float(np.clip(DENSITY, MASSES_KG[0] / volume, MASSES_KG[1] / volume))


def _xml(gripper: Gripper, table_m: float) -> str:
    """The world without the parts of the object.

    Joints in order: the arm's x, y and z, both fingers, the object's free joint. Nothing of the
    hand touches anything else of it.
    """
    _, halves = gripper.boxes(gripper.opening_m)
    half = [' '.join(f'{v:.6g}' for v in row) for row in halves]
    thickness, _, length = gripper.finger_m
    palm_z = -length - gripper.palm_m[2] / 2
    damping = 2 * np.sqrt(ARM_N_M)
    arm = ''.join(f'<joint name="{a}" type="slide" axis="{v}"/>' for a, v in _AXES.items())
    fingers = ''.join(
        f'<body gravcomp="1"><joint name="f{i}" type="slide" axis="{s} 0 0" armature="0.1" '
        f'range="0 {gripper.opening_m / 2}" limited="true"/>'
        f'<geom name="finger{i}" type="box" size="{half[i]}" mass="0.05" '
        f'pos="{s * thickness / 2} 0 {-length / 2}"/></body>'
        for i, s in enumerate((1, -1))
    )
    drives = ''.join(
        f'<position joint="{a}" kp="{ARM_N_M}" kv="{damping}" forcerange="-60 60"/>' for a in _AXES
    )
    force = gripper.force_n
    drives += ''.join(
        f'<position joint="f{i}" kp="5000" kv="50" forcerange="-{force} {force}"/>' for i in (0, 1)
    )
    return f"""
<mujoco>
  <option timestep="{STEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <default>
    <geom friction="{gripper.friction} 0.005 0.0001" solref="0.004 1" condim="4"
      contype="1" conaffinity="0"/>
  </default>
  <worldbody>
    <geom name="table" type="plane" size="2 2 0.1" pos="0 0 {table_m}" condim="6"
      friction="{gripper.friction} 0.005 0.002" contype="4" conaffinity="1"/>
    <body name="arm" gravcomp="1">{arm}
      <inertial pos="0 0 0" mass="0.4" diaginertia="0.001 0.001 0.001"/>
      <body name="hand" gravcomp="1">
        <geom name="palm" type="box" size="{half[2]}" pos="0 0 {palm_z}" mass="0.5"/>{fingers}
      </body>
    </body>
    <body name="object"><freejoint/></body>
  </worldbody>
  <equality><joint joint1="f0" joint2="f1" solref="0.004 1"/></equality>
  <actuator>{drives}</actuator>
</mujoco>"""


_AXES = {'x': '1 0 0', 'y': '0 1 0', 'z': '0 0 1'}
