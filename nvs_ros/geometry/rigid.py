"""Rigid transforms as 4x4 matrices, named ``target_from_source``."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

TOLERANCE = 1e-3
"""Largest deviation from a rotation that is taken for rounding (float32, printed decimals)."""


def check_rotation(matrix: ArrayLike, name: str) -> NDArray[np.float64]:
    """A 3x3 rotation, re-orthonormalised.

    Parameters
    ----------
    matrix : array_like (3, 3)
    name : str
        What to call it in the error.

    Raises
    ------
    ValueError
        Wrong shape, not finite, a reflection, or not orthonormal within :data:`TOLERANCE`.
    """
    rotation = np.asarray(matrix, np.float64)
    if rotation.shape != (3, 3) or not np.isfinite(rotation).all():
        raise ValueError(f'{name}: expected 3x3 finite numbers, got {_brief(rotation)}')
    with np.errstate(all='ignore'):
        error = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
        determinant = float(np.linalg.det(rotation))
    if not (error <= TOLERANCE and determinant > 0):
        raise ValueError(
            f'{name}: expected a rotation (orthonormal, determinant +1), '
            f'got one off by {error:.3g} with determinant {determinant:.3g}'
        )
    left, _, right = np.linalg.svd(rotation)
    return left @ right


def check_rigid(matrix: ArrayLike, name: str) -> NDArray[np.float64]:
    """A 4x4 rigid transform, its rotation re-orthonormalised.

    Parameters
    ----------
    matrix : array_like (4, 4)
        Rotation and translation, last row 0 0 0 1.
    name : str
        What to call it in the error, as ``object_from_camera``.

    Raises
    ------
    ValueError
        Wrong shape, not finite, last row not 0 0 0 1, or :func:`check_rotation` refuses the
        rotation.
    """
    transform = np.asarray(matrix, np.float64)
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        raise ValueError(f'{name}: expected 4x4 finite numbers, got {_brief(transform)}')
    if np.abs(transform[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise ValueError(f'{name}: expected the last row 0 0 0 1, got {transform[3].tolist()}')
    return rigid(check_rotation(transform[:3, :3], name), transform[:3, 3])


def rigid(rotation: ArrayLike, translation: ArrayLike) -> NDArray[np.float64]:
    """Transform (4, 4) from a rotation (3, 3) and a translation (3,), unchecked."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def inverse(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a rigid transform (4, 4)."""
    rotation = transform[:3, :3].T
    return rigid(rotation, -rotation @ transform[:3, 3])


def rigid_from_quaternion(
    translation: ArrayLike, quaternion_xyzw: ArrayLike, name: str
) -> NDArray[np.float64]:
    """Transform (4, 4) from the position and quaternion of a ROS pose.

    Parameters
    ----------
    translation : array_like (3,)
        Metres.
    quaternion_xyzw : array_like (4,)
        Unit quaternion in ROS order, scalar last.
    name : str
        What to call it in the error.

    Raises
    ------
    ValueError
        Wrong shape, not finite, or a quaternion whose length is not 1 within 1 % (in a message that
        was not filled in it is 0).
    """
    translation = np.asarray(translation, np.float64)
    quaternion = np.asarray(quaternion_xyzw, np.float64)
    if translation.shape != (3,) or not np.isfinite(translation).all():
        raise ValueError(
            f'{name}: expected 3 finite numbers as position, got {_brief(translation)}'
        )
    if quaternion.shape != (4,) or not np.isfinite(quaternion).all():
        raise ValueError(f'{name}: expected 4 finite quaternion numbers, got {_brief(quaternion)}')
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1) > 0.01:
        raise ValueError(f'{name}: expected a unit quaternion, got length {norm:.4g}')
    return rigid(Rotation.from_quat(quaternion).as_matrix(), translation)


def quaternion_from_rigid(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternion (4,) x y z w, w >= 0, of a rigid transform (4, 4)."""
    return Rotation.from_matrix(transform[:3, :3]).as_quat(canonical=True)


def _brief(array: NDArray) -> str:
    return f'shape {array.shape}' if array.size > 16 else f'{array.tolist()}'
