"""One picture re-drawn as another camera at the same point would see it, in one resampling.

Two cameras with the same centre see the same rays, so this is exact whatever the distance of
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
"""A map entry that lies in no picture."""


def resample(
    picture: NDArray[np.uint8],
    source: Camera,
    destination: Camera,
    source_from_destination: NDArray[np.float64],
    border: tuple[int, ...],
    pixels_per_pixel: float,
) -> NDArray[np.uint8]:
    """Re-draw a picture for another camera at the same point.

    Where the new picture is coarser, each new pixel averages the old pixels it covers: the old
    picture is averaged over whole blocks first and what remains is supersampled. Otherwise the
    interpolation is bicubic.

    Parameters
    ----------
    picture : uint8 (H, W, C)
        Of ``source``. Its channels must be such that blending neighbours is right: colours already
        composited on the border colour, alpha beside them.
    source, destination : Camera
    source_from_destination : ndarray (3, 3)
        Rotation between the optical frames.
    border : tuple of int
        One value for each channel, for rays that the old picture does not hold.
    pixels_per_pixel : float
        Old pixels along one side of a new pixel, see :func:`minification`.

    Returns
    -------
    uint8 (H', W', C)
    """
    block = max(1, int(pixels_per_pixel))
    samples = max(1, math.ceil(pixels_per_pixel / block - 0.05))
    small = _average_blocks(picture, block, border)
    grid = _pixel_grid(destination, samples)
    rays = destination.unproject(grid) @ source_from_destination.T
    pixels = (source.project(rays) + 0.5) / block - 0.5
    pixels = np.where(np.isfinite(pixels), pixels, OUTSIDE).astype(np.float32)
    drawn = cv2.remap(
        small, pixels, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=border
    )
    if samples > 1:
        drawn = cv2.resize(drawn, destination.size, interpolation=cv2.INTER_AREA)
    return drawn.reshape(destination.height, destination.width, -1)


def minification(
    source: Camera,
    destination: Camera,
    source_from_destination: NDArray[np.float64],
    rays: NDArray[np.float64],
) -> float:
    """Source pixels along one side of a destination pixel, over a patch of rays.

    Parameters
    ----------
    rays : ndarray (N, M, 3)
        A grid of rays in the destination's optical frame.

    Returns
    -------
    float
        Square root of the ratio of areas; 1 where no cell of the grid is seen by both.
    """
    areas = _cell_areas(source.project(rays @ source_from_destination.T))
    ratios = areas / _cell_areas(destination.project(rays))
    ratios = ratios[np.isfinite(ratios)]
    return math.sqrt(float(np.median(ratios))) if ratios.size else 1.0


def _cell_areas(corners: NDArray) -> NDArray:
    along, down = np.diff(corners, axis=1)[:-1], np.diff(corners, axis=0)[:, :-1]
    return np.abs(along[..., 0] * down[..., 1] - along[..., 1] * down[..., 0])


def _pixel_grid(camera: Camera, samples: int) -> NDArray[np.float64]:
    """Centres (H * samples, W * samples, 2) of the sub-pixels."""
    x, y = ((np.arange(side * samples) + 0.5) / samples - 0.5 for side in camera.size)
    return np.stack(np.meshgrid(x, y), axis=-1)


def _average_blocks(
    picture: NDArray[np.uint8], block: int, border: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Means of ``block`` x ``block`` pixels; the last blocks are filled up with the border."""
    if block == 1:
        return picture
    height, width = picture.shape[:2]
    padded = cv2.copyMakeBorder(
        picture, 0, -height % block, 0, -width % block, cv2.BORDER_CONSTANT, value=border
    )
    size = padded.shape[1] // block, padded.shape[0] // block
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
