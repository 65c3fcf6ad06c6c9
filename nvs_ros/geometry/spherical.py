"""Spherical coordinates of a camera about the object, and the relative pose given to Zero-1-to-3.

Object frame: origin in the centre of the object's bounding box, z up. Azimuth is atan2(y, x),
counter-clockwise seen from above; elevation is measured from the horizontal plane, up positive.

At the poles azimuth is undefined. Closer than :data:`POLE_RAD` to one, it is read from the up
direction of the image instead: it is the azimuth of the meridian along which a level camera would
have to be raised or lowered to get this up direction. Elevation is then measured along that
meridian, so a camera a little past the pole has up to 95 degrees; its distance from the meridian,
less than 5 degrees, is neglected. For a level camera both definitions agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvs_ros.geometry.rigid import check_rigid, rigid

POLE_RAD = math.radians(5)
"""Angle from the vertical below which azimuth comes from the image's up direction."""


@dataclass(frozen=True)
class Spherical:
    """A camera's position about the object.

    Parameters
    ----------
    azimuth_rad : float
        Counter-clockwise seen from above, 0 on the object's x axis.
    elevation_rad : float
        -pi/2 (below) ... pi/2 (above), past it by at most :data:`POLE_RAD`.
    radius : float
        Distance from the object's centre, in the unit of the position it came from.
    """

    azimuth_rad: float
    elevation_rad: float
    radius: float


@dataclass(frozen=True)
class RelativePose:
    """Target minus source, as Zero-1-to-3 takes it (its section 3.2 and ``get_T``).

    Parameters
    ----------
    delta_polar_rad : float
        Polar angles are measured from the zenith: positive moves the camera down.
    delta_azimuth_rad : float
        -pi ... pi, positive moves the camera to its right.
    delta_radius : float
        Model units (longest side of the object's bounding box = 1), positive moves the camera away.
    """

    delta_polar_rad: float
    delta_azimuth_rad: float
    delta_radius: float

    def vector(self) -> NDArray[np.float64]:
        """(4,): delta polar, sin and cos of delta azimuth, delta radius."""
        return np.array(
            [
                self.delta_polar_rad,
                math.sin(self.delta_azimuth_rad),
                math.cos(self.delta_azimuth_rad),
                self.delta_radius,
            ]
        )


def relative_pose(source: Spherical, target: Spherical) -> RelativePose:
    """Pose of the target relative to the source; both radii in model units."""
    return RelativePose(
        delta_polar_rad=source.elevation_rad - target.elevation_rad,
        delta_azimuth_rad=wrap_angle(target.azimuth_rad - source.azimuth_rad),
        delta_radius=target.radius - source.radius,
    )


def wrap_angle(angle_rad: float) -> float:
    """The same direction in [-pi, pi]."""
    return math.remainder(angle_rad, 2 * math.pi)


def spherical_from_position(position: ArrayLike) -> Spherical:
    """Azimuth, elevation and radius of a point (3,); at a pole the azimuth is 0."""
    x, y, z = np.asarray(position, np.float64)
    horizontal = math.hypot(x, y)
    azimuth = math.atan2(y, x) if horizontal > 0 else 0.0
    return Spherical(azimuth, math.atan2(z, horizontal), math.hypot(horizontal, z))


def position_from_spherical(spherical: Spherical) -> NDArray[np.float64]:
    """The point (3,) in the object frame."""
    azimuth, elevation = spherical.azimuth_rad, spherical.elevation_rad
    return spherical.radius * np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )


def look_at(position: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> NDArray[np.float64]:
    """Pose of a camera that looks at the origin without roll.

    Parameters
    ----------
    position : array_like (3,)
        The camera, in the object frame.
    up : array_like (3,)
        Direction that points up in the image.

    Returns
    -------
    ndarray (4, 4)
        ``object_from_camera``.

    Raises
    ------
    ValueError
        The position is the origin or not finite, or the camera looks along ``up``.
    """
    position = np.asarray(position, np.float64)
    distance = float(np.linalg.norm(position))
    if not 0 < distance < math.inf:
        raise ValueError(
            f'position: expected a finite point off the origin, got {position.tolist()}'
        )
    forward = -position / distance
    up = np.asarray(up, np.float64)
    right = np.cross(forward, up)
    length = float(np.linalg.norm(right))
    if not length > 1e-9 * float(np.linalg.norm(up)):
        raise ValueError(f'up: expected a direction across the line of sight, got {up.tolist()}')
    right /= length
    return rigid(np.column_stack([right, np.cross(forward, right), forward]), position)


def pose_from_spherical(spherical: Spherical) -> NDArray[np.float64]:
    """``object_from_camera`` (4, 4) of a level camera that looks at the origin; poles included."""
    azimuth, elevation = spherical.azimuth_rad, spherical.elevation_rad
    up = position_from_spherical(Spherical(azimuth, elevation + math.pi / 2, 1.0))
    return look_at(position_from_spherical(spherical), up)


def canonical_pose(object_from_camera: ArrayLike) -> NDArray[np.float64]:
    """Rotate a camera about its own centre so that it looks at the object and is level.

    Near a pole, where level is undefined, it keeps the up direction of the given camera.

    Parameters
    ----------
    object_from_camera : array_like (4, 4)

    Returns
    -------
    ndarray (4, 4)
        ``object_from_canonical``: same position, other rotation.

    Raises
    ------
    ValueError
        The pose is not rigid, or the camera stands at the origin.
    """
    transform = check_rigid(object_from_camera, 'object_from_camera')
    position = transform[:3, 3]
    return look_at(position, -transform[:3, 1] if _is_polar(position) else (0.0, 0.0, 1.0))


def spherical_from_pose(object_from_camera: ArrayLike) -> Spherical:
    """Azimuth, elevation and radius of a camera pose ``object_from_camera`` (4, 4).

    Near a pole its up direction decides the azimuth, see the module.

    Raises
    ------
    ValueError
        The pose is not rigid, or the camera stands at the origin.
    """
    canonical = canonical_pose(object_from_camera)
    x, y, z = canonical[:3, 3]
    spherical = spherical_from_position((x, y, z))
    if not _is_polar(canonical[:3, 3]):
        return spherical
    # Up points away from the camera's meridian above the object, along it below.
    pole = math.copysign(1.0, z)
    meridian_x, meridian_y = pole * canonical[:2, 1]
    length = math.hypot(meridian_x, meridian_y)
    polar = math.atan2((x * meridian_x + y * meridian_y) / length, abs(z))
    azimuth = math.atan2(meridian_y, meridian_x)
    return Spherical(azimuth, pole * (math.pi / 2 - polar), spherical.radius)


def upright_frame(
    reference_from_object: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)
) -> NDArray[np.float64]:
    """The object frame of this package: origin and heading of the object, z axis up.

    Parameters
    ----------
    reference_from_object : array_like (4, 4)
        Pose of the object's centre as it was estimated, in any orientation.
    up : array_like (3,)
        Up in the reference frame; z by REP-103.

    Returns
    -------
    ndarray (4, 4)
        ``reference_from_upright``. Its x axis is the object's x axis projected to the horizontal;
        if that one is nearly vertical, y is the object's y axis projected to the horizontal.

    Raises
    ------
    ValueError
        The pose is not rigid, or ``up`` is no direction of 3 finite numbers.
    """
    transform = check_rigid(reference_from_object, 'reference_from_object')
    up = np.asarray(up, np.float64)
    length = float(np.linalg.norm(up)) if up.shape == (3,) else math.nan
    if not 0 < length < math.inf:
        raise ValueError(f'up: expected a direction of 3 finite numbers, got {up.tolist()}')
    z = up / length
    y = np.cross(z, transform[:3, 0])
    if np.linalg.norm(y) < math.sin(POLE_RAD):
        y = transform[:3, 1] - (transform[:3, 1] @ z) * z
    y /= np.linalg.norm(y)
    return rigid(np.column_stack([np.cross(y, z), y, z]), transform[:3, 3])


def _is_polar(position: NDArray[np.float64]) -> bool:
    return math.hypot(position[0], position[1]) < math.sin(POLE_RAD) * float(
        np.linalg.norm(position)
    )
