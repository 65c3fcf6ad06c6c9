"""Cameras from the numbers of a ``sensor_msgs/CameraInfo`` and back (REP-104, no ROS needed)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import COEFFICIENTS, Camera, check_matrix
from nvs_ros.geometry.rigid import check_rotation, rigid

WITHOUT_DISTORTION = ('', 'none', 'pinhole', 'perspective', 'inverse brown conrady')
"""What drivers call perspective models of which all coefficients are zero, in any spelling."""


def camera_from_info(
    width: int,
    height: int,
    k: Sequence[float],
    d: Sequence[float] = (),
    distortion_model: str = '',
    r: Sequence[float] = (),
    p: Sequence[float] = (),
    binning_x: int = 0,
    binning_y: int = 0,
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    *,
    rectified: bool = False,
) -> Camera:
    """The camera of the picture that a ``CameraInfo`` comes with (REP-104 and the message itself).

    K and P are those of the full sensor; the region of interest is given in full-resolution pixels
    and binning applies after it. A super-pixel is the mean of its pixels, so its centre lies half a
    pixel further in: x' = (x - x_offset + 0.5) / binning - 0.5. (image_geometry leaves the half
    pixels out, 0.25 px of the binned picture at 2 x 2.) A rectified picture of a window covers that
    same window, as image_proc makes it; REP-104's separate rectified window was never built there.

    Parameters
    ----------
    width, height : int
        Full resolution.
    k, d, distortion_model, r, p
        As in the message, row by row. Zeros at the end of d mean nothing, however many;
        :data:`WITHOUT_DISTORTION` may stand for the model where all are zero. r and p are not set
        where they are zeros but for one entry at most.
    binning_x, binning_y : int
        0 means 1.
    roi : tuple of int
        x_offset, y_offset, width, height; width and height 0 mean the full picture.
    rectified : bool
        The picture is rectified: P instead of K, no distortion.

    Returns
    -------
    Camera
        Of the picture as it arrives. Its axes in the message's frame: :func:`frame_from_camera`.

    Raises
    ------
    ValueError
        An uncalibrated camera (K or P of zeros), and what :class:`Camera` refuses.
    """
    for name, value in (('binning_x', binning_x), ('binning_y', binning_y)):
        if not 0 <= value <= 64:
            raise ValueError(f'{name}: expected 0 ... 64, got {value}')
    spelled = distortion_model.lower().replace('_', ' ')
    if rectified or (spelled in WITHOUT_DISTORTION and not any(d)):
        d, distortion_model = (), 'plumb_bob'
    d = _coefficients(d, distortion_model)
    full = Camera(width, height, _matrix(p, 4) if rectified else _matrix(k, 3), d, distortion_model)
    _rotation(r)
    x, y, roi_width, roi_height = roi
    if (roi_width == 0) != (roi_height == 0) or (roi_width == 0 and (x or y)):
        raise ValueError(f'roi: expected a width and a height, or all zeros, got {roi}')
    roi_width, roi_height = roi_width or full.width, roi_height or full.height
    if min(x, y) < 0 or x + roi_width > full.width or y + roi_height > full.height:
        raise ValueError(f'roi: expected a window of {full.width}x{full.height}, got {roi}')
    bins = np.array([binning_x or 1, binning_y or 1])
    matrix = full.matrix.copy()
    matrix[[0, 1], [0, 1]] /= bins
    matrix[:2, 2] = (matrix[:2, 2] - (x, y) + 0.5) / bins - 0.5
    return Camera(roi_width // bins[0], roi_height // bins[1], matrix, d, distortion_model)


def frame_from_camera(
    r: Sequence[float] = (), p: Sequence[float] = (), *, rectified: bool = False
) -> NDArray[np.float64]:
    """Where the camera of the picture stands in the frame that its messages name.

    P projects points of that frame, so the frame has the axes of the rectified camera, and the
    second camera of a stereo pair stands at (-Tx / fx, -Ty / fy, 0) in it. The raw camera is turned
    from it by R.

    Parameters
    ----------
    r, p
        ``CameraInfo`` r (9) and p (12), row by row; empty or not set as for
        :func:`camera_from_info`.
    rectified : bool
        Whether the picture is rectified.

    Returns
    -------
    ndarray (4, 4)
        ``frame_from_camera``, metres. The identity for nearly every camera that is not one of a
        stereo pair.

    Raises
    ------
    ValueError
        R that is no rotation, P that is no projection.
    """
    rotation = np.eye(3) if rectified else _rotation(r)
    if not _is_set(p):
        return rigid(rotation, np.zeros(3))
    focal = check_matrix(_matrix(p, 4))[[0, 1], [0, 1]]
    offset = np.asarray(p, np.float64)[[3, 7]]
    if not np.isfinite(offset).all():
        raise ValueError(f'p: expected finite Tx and Ty, got {offset.tolist()}')
    return rigid(rotation, [*(-offset / focal), 0.0])


def info_from_camera(camera: Camera) -> dict[str, Any]:
    """The fields of a ``CameraInfo`` for a picture of this camera.

    Returns
    -------
    dict
        width, height, distortion_model, d, k, r, p as Python numbers and lists; r is the identity,
        p is k with a zero column; no region of interest and no binning.
    """
    projection = np.column_stack([camera.matrix, np.zeros(3)])
    return {
        'width': camera.width,
        'height': camera.height,
        'distortion_model': camera.distortion_model,
        'd': list(
            camera.distortion or (0.0,) * (4 if camera.distortion_model == 'equidistant' else 5)
        ),
        'k': camera.matrix.reshape(-1).tolist(),
        'r': np.eye(3).reshape(-1).tolist(),
        'p': projection.reshape(-1).tolist(),
    }


def _coefficients(d: Sequence[float], distortion_model: str) -> tuple[float, ...]:
    """The coefficients without zeros at the end that the model has no place for, or with those that
    it wants."""
    values = tuple(d)
    lengths = COEFFICIENTS.get(distortion_model, (len(values),))
    if len(values) in lengths:
        return values
    used = max((i + 1 for i, value in enumerate(values) if value != 0), default=0)
    length = next((length for length in lengths if length >= used), len(values))
    return (*values, *[0.0] * length)[:length]


def _is_set(values: Sequence[float]) -> bool:
    """Whether there is more in K, R or P than the 1 at the end that some drivers leave there."""
    numbers = np.asarray(values, np.float64)
    return np.count_nonzero(numbers) > 1 or not np.isfinite(numbers).all()


def _matrix(values: Sequence[float], columns: int) -> NDArray[np.float64]:
    """The left 3x3 of K (3 columns) or P (4 columns)."""
    numbers = np.asarray(values, np.float64)
    if numbers.size != 3 * columns or not _is_set(numbers):
        raise ValueError(
            f'{"p" if columns == 4 else "k"}: expected the {3 * columns} numbers of a calibrated '
            f'camera, got {numbers.tolist()}'
        )
    return numbers.reshape(3, columns)[:, :3]


def _rotation(r: Sequence[float]) -> NDArray[np.float64]:
    if not _is_set(r):
        return np.eye(3)
    values = np.asarray(r, np.float64)
    if values.size != 9:
        raise ValueError(f'r: expected 9 numbers, got {values.size}')
    return check_rotation(values.reshape(3, 3), 'r')
