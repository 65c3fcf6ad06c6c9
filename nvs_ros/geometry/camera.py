"""A calibrated camera: pixels to rays and back.

Pixels follow OpenCV and ROS: an integer coordinate is the centre of a pixel, so an image W wide
spans -0.5 ... W - 0.5 and its centre is (W - 1) / 2. Camera axes are optical (REP-103): x right, y
down, z forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray

CANONICAL_FOCAL = 280 / 256
"""Focal length over image side of Zero-1-to-3's camera: 35 mm lens, 32 mm sensor, 49.13 deg."""

COEFFICIENTS = {
    'plumb_bob': (0, 4, 5, 8, 12, 14),
    'rational_polynomial': (0, 4, 5, 8, 12, 14),
    'equidistant': (0, 4),
}
"""Distortion model -> numbers of coefficients that OpenCV accepts for it."""

MAX_SIDE = 32766
"""Longest image side in pixels; OpenCV's remap counts in 16 bits."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics and distortion of one image.

    Parameters
    ----------
    width, height : int
        Pixels.
    matrix : array_like (3, 3)
        Focal lengths and principal point in pixels, no skew.
    distortion : sequence of float
        OpenCV's order: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [0 0]]]]; equidistant: k1 k2 k3 k4.
        Empty: no distortion. The last two tilt the sensor and must be 0.
    distortion_model : str
        A key of :data:`COEFFICIENTS`.

    Raises
    ------
    ValueError
        A side outside 1 ... :data:`MAX_SIDE`, a matrix that :func:`check_matrix` refuses, an
        unknown distortion model, or coefficients that the model does not take.
    """

    width: int
    height: int
    matrix: NDArray[np.float64]
    distortion: tuple[float, ...] = ()
    distortion_model: str = 'plumb_bob'

    def __post_init__(self) -> None:
        for name in ('width', 'height'):
            side = getattr(self, name)
            if side != int(side) or not 1 <= side <= MAX_SIDE:
                raise ValueError(f'{name}: expected 1 ... {MAX_SIDE} pixels, got {side}')
            object.__setattr__(self, name, int(side))
        object.__setattr__(self, 'matrix', check_matrix(self.matrix))
        distortion = tuple(float(value) for value in self.distortion)
        lengths = COEFFICIENTS.get(self.distortion_model)
        if lengths is None:
            raise ValueError(
                f'distortion_model: expected one of {list(COEFFICIENTS)}, '
                f'got {self.distortion_model!r}'
            )
        if len(distortion) not in lengths or not all(map(math.isfinite, distortion)):
            raise ValueError(
                f'distortion: {self.distortion_model} takes {lengths} finite coefficients, '
                f'got {distortion}'
            )
        if any(distortion[12:]):
            raise ValueError(
                f'distortion: expected a sensor that is not tilted, got {distortion[12:]}'
            )
        object.__setattr__(self, 'distortion', distortion)

    @classmethod
    def canonical(cls, size: int, zoom: float = 1.0) -> Camera:
        """Zero-1-to-3's camera: square, f = zoom * 280/256 * size, principal point in the centre.

        In the paper's continuous pixels the principal point of a 256 image is 128; with integer
        coordinates at pixel centres that same point is (256 - 1) / 2 = 127.5.
        """
        focal = zoom * CANONICAL_FOCAL * size
        centre = (size - 1) / 2
        return cls(size, size, np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]]))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.width, self.height

    @property
    def is_pinhole(self) -> bool:
        """Whether the camera has no distortion (a pinhole)."""
        return self.distortion_model != 'equidistant' and not any(self.distortion)

    @cached_property
    def max_radius(self) -> float:
        """Where the distortion model folds back; rays beyond it fall on no pixel.

        Perspective models: the smallest ray slope hypot(x, y) / z at which the distorted radius
        stops growing in the worst direction, or at which the rational model has its pole; infinite
        without distortion. Equidistant: the angle from the optical axis, in radians, at most pi.
        """
        if self.distortion_model == 'equidistant':
            return min(_first_root(self._theta_polynomial.deriv()), math.pi)
        if self.is_pinhole:
            return math.inf
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = self._coefficients
        numerator = Polynomial([0, 1, 0, k1, 0, k2, 0, k3])
        denominator = Polynomial([1, 0, k4, 0, k5, 0, k6])
        # The tangential and thin prism terms move a point radially by at most these.
        quadratic, quartic = 3 * math.hypot(p1, p2) + math.hypot(s1, s3), math.hypot(s2, s4)
        inward = Polynomial([0, 0, quadratic, 0, quartic])
        slope = (
            numerator.deriv() * denominator
            - numerator * denominator.deriv()
            - inward.deriv() * denominator**2
        )
        return min(_first_root(slope), _first_root(denominator))

    @property
    def _coefficients(self) -> tuple[float, ...]:
        return (*self.distortion, *12 * [0.0])[:12]

    @cached_property
    def _theta_polynomial(self) -> Polynomial:
        k1, k2, k3, k4 = self.distortion or (0.0, 0.0, 0.0, 0.0)
        return Polynomial([0, 1, 0, k1, 0, k2, 0, k3, 0, k4])

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Project points in the camera's optical frame to pixels.

        Parameters
        ----------
        points : array_like (..., 3)
            Any unit; only the direction matters.

        Returns
        -------
        ndarray (..., 2)
            x, y; NaN for points that the camera cannot see: behind it or beyond
            :attr:`max_radius`.
            Pixels outside the image are returned as they are, see :meth:`contains`.
        """
        points = np.asarray(points, np.float64)
        flat = points.reshape(-1, 3)
        if self.distortion_model == 'equidistant':
            pixels = self._project_equidistant(flat)
        else:
            pixels = self._project_perspective(flat)
        return pixels.reshape(*points.shape[:-1], 2)

    def unproject(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Rays of pixels, as unit vectors in the optical frame.

        Parameters
        ----------
        pixels : array_like (..., 2)

        Returns
        -------
        ndarray (..., 3)
            NaN where the distortion model maps no ray to the pixel.
        """
        pixels = np.asarray(pixels, np.float64)
        flat = pixels.reshape(-1, 2)
        if self.distortion_model == 'equidistant':
            rays = self._unproject_equidistant(flat)
        else:
            rays = self._unproject_perspective(flat)
        return rays.reshape(*pixels.shape[:-1], 3)

    def points(self, pixels: ArrayLike, depth_m: ArrayLike = 1.0) -> NDArray[np.float64]:
        """Points seen at pixels, from their depth along the optical axis.

        Parameters
        ----------
        pixels : array_like (n, 2)
        depth_m : array_like (n,) or float
            Metres.

        Returns
        -------
        (n, 3) float64
            Optical frame, metres; NaN where a pixel has no ray, or one that leads backwards.
        """
        rays = self.unproject(pixels)
        with np.errstate(invalid='ignore'):
            ahead = np.where(rays[:, 2:] > 0, rays[:, 2:], np.nan)
        return rays / ahead * np.broadcast_to(depth_m, len(rays))[:, None]

    def contains(self, pixels: ArrayLike) -> NDArray[np.bool_]:
        """Whether pixels (..., 2) lie in the image; False for NaN."""
        pixels = np.asarray(pixels, np.float64)
        inside = (pixels >= -0.5) & (pixels < np.array(self.size) - 0.5)
        return np.all(inside, axis=-1)

    def _project_perspective(self, points: NDArray) -> NDArray:
        depth = points[:, 2:]
        with np.errstate(all='ignore'):
            slopes = points[:, :2] / depth
            seen = (depth[:, 0] > 0) & (np.hypot(slopes[:, 0], slopes[:, 1]) < self.max_radius)
            slopes[~seen] = np.nan
            if not self.is_pinhole:
                slopes = self._distort(slopes)
        return slopes * self.matrix[[0, 1], [0, 1]] + self.matrix[:2, 2]

    def _distort(self, slopes: NDArray) -> NDArray:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = self._coefficients
        x, y = slopes.T
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        xy = 2 * x * y
        moved_x = x * radial + p1 * xy + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
        moved_y = y * radial + p2 * xy + p1 * (r2 + 2 * y * y) + r2 * (s3 + r2 * s4)
        return np.column_stack([moved_x, moved_y])

    def _unproject_perspective(self, pixels: NDArray) -> NDArray:
        slopes = (pixels - self.matrix[:2, 2]) / self.matrix[[0, 1], [0, 1]]
        if not self.is_pinhole:
            criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-7)
            coefficients = np.array(self.distortion)
            slopes = cv2.undistortPointsIter(  # type: ignore[call-overload]  # R and P may be None
                pixels[:, None], self.matrix, coefficients, None, None, criteria
            )[:, 0]
        rays = np.column_stack([slopes, np.ones(len(slopes))])
        if not self.is_pinhole:
            # The iteration returns a ray even for pixels that no ray reaches.
            error = np.abs(self._project_perspective(rays) - pixels).max(axis=1)
            rays[~(error < 0.01)] = np.nan
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def _project_equidistant(self, points: NDArray) -> NDArray:
        radius = np.hypot(points[:, 0], points[:, 1])
        theta = np.arctan2(radius, points[:, 2])
        seen = (theta < self.max_radius) & np.isfinite(points).all(axis=1)
        seen &= (radius > 0) | (points[:, 2] > 0)
        with np.errstate(all='ignore'):
            scale = self._theta_polynomial(theta) / np.maximum(radius, 1e-300)
            plane = points[:, :2] * scale[:, None]
        plane[~seen] = np.nan
        return plane * self.matrix[[0, 1], [0, 1]] + self.matrix[:2, 2]

    def _unproject_equidistant(self, pixels: NDArray) -> NDArray:
        plane = (pixels - self.matrix[:2, 2]) / self.matrix[[0, 1], [0, 1]]
        radius = np.hypot(plane[:, 0], plane[:, 1])
        polynomial, slope = self._theta_polynomial, self._theta_polynomial.deriv()
        grid = np.linspace(0, self.max_radius, 2049)
        theta = np.interp(radius, polynomial(grid), grid, right=np.nan)
        for _ in range(3):
            theta = theta - (polynomial(theta) - radius) / np.maximum(slope(theta), 1e-9)
            theta = np.clip(theta, 0, self.max_radius)
        direction = plane * (np.sin(theta) / np.maximum(radius, 1e-300))[:, None]
        return np.column_stack([direction, np.cos(theta)])


def check_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """A read-only copy of a camera matrix (3, 3).

    Raises
    ------
    ValueError
        Another shape, a number that is not finite, a focal length that is not positive, or another
        form than [fx 0 cx; 0 fy cy; 0 0 1].
    """
    matrix = np.array(matrix, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f'camera matrix: expected 3x3 finite numbers, got {matrix.tolist()}')
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError(
            f'camera matrix: expected positive focal lengths, got {matrix[0, 0]}, {matrix[1, 1]}'
        )
    expected = [[matrix[0, 0], 0, matrix[0, 2]], [0, matrix[1, 1], matrix[1, 2]], [0, 0, 1]]
    if not np.array_equal(matrix, expected):
        raise ValueError(
            f'camera matrix: expected [fx 0 cx; 0 fy cy; 0 0 1], got {matrix.tolist()}'
        )
    matrix.flags.writeable = False
    return matrix


def _first_root(polynomial: Polynomial) -> float:
    """Smallest positive real root; infinity if there is none."""
    roots = polynomial.trim().roots() if polynomial.trim().degree() else np.array([])
    real = roots.real[(np.abs(roots.imag) < 1e-9 * np.maximum(1, np.abs(roots))) & (roots.real > 0)]
    return float(real.min()) if real.size else math.inf
