"""Check that what belongs to a mask has its size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def check_like_mask(shape: tuple[int, ...], **arrays: ArrayLike | None) -> None:
    """Raise ValueError, with name and both shapes, if an array has another shape than the mask.

    Parameters
    ----------
    shape : (height, width)
        Of the mask.
    **arrays : array_like or None
        By the name that the error gives them; None is left out.
    """
    for name, array in arrays.items():
        if array is not None and np.shape(array) != shape:
            raise ValueError(f'{name}: expected {shape} like the mask, got {np.shape(array)}')
