"""Warp an image to another camera at the same point, in one resampling.

Two cameras with the same centre see the same rays, so the warp is exact whatever the distance of
things: pixel of the new camera -> ray -> rotation -> pixel of the old camera, distortion of both
included.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera

OUTSIDE = -1e4
"""Pixel coordinate that lies outside every image."""

BAND_PIXELS = 1 << 20
"""Sub-pixels that are mapped at once; bounds the memory for large images."""

WHITE = (255, 255, 255, 0)
"""RGB and coverage where there is nothing."""


def redraw(
    picture: NDArray[np.uint8],
    source: Camera,
    destination: Camera,
    source_from_destination: NDArray[np.float64],
    pixels_per_pixel: float,
) -> NDArray[np.uint8]:
    """Warp an image to another camera at the same point.

    Where the new image is coarser, each new pixel averages the old pixels that it covers: the old
    image is first averaged over whole blocks, and the remaining factor is supersampled. Otherwise
    the interpolation is bicubic.

    Parameters
    ----------
    picture : uint8 (H, W, 4)
        RGB already on white, and coverage, of ``source``. Interpolating these channels separately
        equals blending colours weighted by coverage and laying the result on white.
    source, destination : Camera
    source_from_destination : ndarray (3, 3)
        Rotation between the optical frames.
    pixels_per_pixel : float
        Old pixels along one side of a new pixel, see :func:`minification`.

    Returns
    -------
    uint8 (H', W', 4)
        :data:`WHITE` for rays outside the old image, and everywhere when a new pixel is larger than
        the old image.
    """
    if pixels_per_pixel > max(picture.shape[:2]):  # all of it would fall into one pixel
        return np.full((destination.height, destination.width, 4), WHITE, np.uint8)
    block = max(1, int(pixels_per_pixel))
    samples = max(1, math.ceil(pixels_per_pixel / block - 0.05))
    small = _average_blocks(picture, block)
    drawn = np.empty((destination.height, destination.width, 4), np.uint8)
    rows = max(1, BAND_PIXELS // (destination.width * samples * samples))
    for top in range(0, destination.height, rows):
        band = slice(top, min(top + rows, destination.height))
        pixels = _pixel_map(source, destination, source_from_destination, samples, band)
        pixels = ((pixels + 0.5) / block - 0.5).astype(np.float32)
        sampled = cv2.remap(  # type: ignore[call-overload]  # the second map may be None
            small, pixels, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=WHITE
        )
        size = destination.width, band.stop - band.start
        drawn[band] = cv2.resize(sampled, size, interpolation=cv2.INTER_AREA)
    return drawn


def minification(
    source: Camera,
    destination: Camera,
    source_from_destination: NDArray[np.float64],
    rays: NDArray[np.float64],
) -> float:
    """Source pixels along one side of a destination pixel, median over a patch of rays.

    Parameters
    ----------
    source, destination : Camera
    source_from_destination : ndarray (3, 3)
        Rotation between the optical frames.
    rays : ndarray (N, M, 3)
        A grid of rays in the destination's optical frame.

    Returns
    -------
    float
        Square root of the ratio of areas; 1 if both cameras see no grid cell in common.
    """
    areas = _cell_areas(source.project(rays @ source_from_destination.T))
    ratios = areas / _cell_areas(destination.project(rays))
    ratios = ratios[np.isfinite(ratios)]
    return math.sqrt(float(np.median(ratios))) if ratios.size else 1.0


def middle_rays(camera: Camera) -> NDArray[np.float64]:
    """5 x 5 rays over the middle half of an image, where the object is."""
    x, y = (np.linspace(0.25, 0.75, 5) * (side - 1) for side in camera.size)
    return camera.unproject(np.stack(np.meshgrid(x, y), axis=-1))


def _cell_areas(corners: NDArray) -> NDArray:
    along, down = np.diff(corners, axis=1)[:-1], np.diff(corners, axis=0)[:, :-1]
    return np.abs(along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0])


def _pixel_map(
    source: Camera,
    destination: Camera,
    source_from_destination: NDArray[np.float64],
    samples: int,
    band: slice,
) -> NDArray:
    """Source pixels (rows, columns, 2) of the sub-pixels in a band of destination rows."""
    if _is_plain(source, destination, source_from_destination):
        matrix = destination.matrix.copy()
        matrix[[0, 1], [0, 1]] *= samples
        matrix[:2, 2] = (matrix[:2, 2] - (0, band.start) + 0.5) * samples - 0.5
        return cv2.initUndistortRectifyMap(
            source.matrix,
            np.array(source.distortion),
            source_from_destination.T,
            matrix,
            (destination.width * samples, (band.stop - band.start) * samples),
            cv2.CV_32FC2,
        )[0]
    x = (np.arange(destination.width * samples) + 0.5) / samples - 0.5
    y = (np.arange(band.start * samples, band.stop * samples) + 0.5) / samples - 0.5
    rays = destination.unproject(np.stack(np.meshgrid(x, y), axis=-1))
    pixels = source.project(rays @ source_from_destination.T)
    # Kept well inside the range of OpenCV's fixed-point coordinates; replaces NaN as well.
    return np.where(np.abs(pixels) < -OUTSIDE, pixels, OUTSIDE)


def _is_plain(
    source: Camera, destination: Camera, source_from_destination: NDArray[np.float64]
) -> bool:
    """Whether OpenCV's undistortion map is valid for these two cameras.

    It needs a pinhole destination, a source that is no fisheye, and all rays in front of the source
    camera and within its ``max_radius``. The ray slopes of an image fill a convex quadrilateral, so
    testing the corners is enough.
    """
    if not destination.is_pinhole or source.distortion_model == 'equidistant':
        return False
    width, height = destination.size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5
    rays = destination.unproject(corners) @ source_from_destination.T
    return bool(np.isfinite(source.project(rays)).all())


def _average_blocks(picture: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Means over ``block`` x ``block`` pixels; incomplete blocks are filled up with white."""
    if block == 1:
        return picture
    height, width = picture.shape[:2]
    padded = cv2.copyMakeBorder(
        picture, 0, -height % block, 0, -width % block, cv2.BORDER_CONSTANT, value=WHITE
    )
    size = padded.shape[1] // block, padded.shape[0] // block
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
