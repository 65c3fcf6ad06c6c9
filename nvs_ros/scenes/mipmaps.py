"""Mipmaps: reduced copies of textures, so that far or oblique surfaces are not undersampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np


class Mipmaps(NamedTuple):
    """All levels of several textures in one array, as the rasteriser reads them.

    Attributes
    ----------
    texels : (n, 3) uint8
        RGB of all levels one after the other, each row by row from the top.
    levels : (textures, most levels, 3) int64
        Start in ``texels``, height and width of each level; zeros for missing levels.
    counts : (textures,) int64
        Number of levels of each texture.
    """

    texels: np.ndarray
    levels: np.ndarray
    counts: np.ndarray


def mipmaps(textures: Sequence[np.ndarray]) -> Mipmaps:
    """Halve textures (h, w, 3) uint8 until one pixel is left.

    Raises
    ------
    ValueError
        A texture has another shape or dtype.
    """
    pyramids = [_pyramid(texture) for texture in textures]
    levels = np.zeros((len(pyramids), max(map(len, pyramids), default=0), 3), np.int64)
    texels, start = [np.zeros((0, 3), np.uint8)], 0
    for entries, pictures in zip(levels, pyramids, strict=True):
        for entry, picture in zip(entries, pictures, strict=False):
            entry[:] = start, *picture.shape[:2]
            texels.append(picture.reshape(-1, 3))
            start += len(texels[-1])
    return Mipmaps(np.concatenate(texels), levels, np.array([len(p) for p in pyramids], np.int64))


def _pyramid(texture: np.ndarray) -> list[np.ndarray]:
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] != 3:
        raise ValueError(
            f'texture: expected (h, w, 3) uint8, got {texture.shape} {texture.dtype.name}'
        )
    pictures = [texture]
    while max(texture.shape[:2]) > 1:
        height, width = (max(1, side // 2) for side in texture.shape[:2])
        texture = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
        pictures.append(texture)
    return pictures
