"""Contact sheets for people: images in rows with captions, and what of a view is imagined."""

from __future__ import annotations

import cv2
import numpy as np

PALEST, STRIPE, STRIPE_PX = 150, 0.75, 7
"""What is imagined, in a picture that tells it apart: grey level of what was black, brightness of
the stripes over it, and how far apart they are."""


def told_apart(
    image: np.ndarray, mask: np.ndarray, measured: np.ndarray, size: int = 192
) -> np.ndarray:
    """A view in which people see what was measured: that is in colour, the rest grey and striped.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB on white.
    mask : (H, W) uint8
        Coverage by the object.
    measured : (H, W) uint8
        Share of each pixel that was measured.
    size : int
        Longest side of the result, pixels.

    Returns
    -------
    (h, w, 3) uint8
    """
    image, mask, measured = (_fitted(layer, size) for layer in (image, mask, measured))
    solid, known = mask / np.float32(255), measured[..., None] / np.float32(255)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    pale = PALEST + (1 - PALEST / 255) * grey
    rows, columns = np.indices(solid.shape)
    striped = np.where((rows + columns) % STRIPE_PX < 2, STRIPE, 1) * pale
    imagined = 255 + solid * (striped - 255)
    mixed = known * image + (1 - known) * imagined[..., None]
    return np.rint(mixed).astype(np.uint8)


def _fitted(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture resized so that its longest side is ``size``."""
    scale = size / max(picture.shape[:2])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=smooth)


def contact_sheet(
    rows: list[list[np.ndarray | None]], captions: list[list[str]], cell: int = 192
) -> np.ndarray:
    """Pictures in rows with a caption under each.

    Parameters
    ----------
    rows : list of lists of (h, w, 3) uint8
        None leaves a place empty.
    captions : list of lists of str
        One for each picture.
    cell : int
        Side of a picture on the sheet, pixels.

    Returns
    -------
    (H, W, 3) uint8
    """
    margin, line = 6, 20
    width = max(len(row) for row in rows) * (cell + margin) + margin
    sheet = np.full((len(rows) * (cell + line + margin) + margin, width, 3), 235, np.uint8)
    for r, (row, words) in enumerate(zip(rows, captions, strict=True)):
        top = margin + r * (cell + line + margin)
        for c, (picture, caption) in enumerate(zip(row, words, strict=True)):
            if picture is None:
                continue
            left = margin + c * (cell + margin)
            small = _fitted(picture, cell)
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
            (long, _), _ = cv2.getTextSize(caption, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
            scale = 0.42 * min(1.0, cell / max(long, 1))  # into the width of its picture
            cv2.putText(
                sheet,
                caption,
                (left + 2, top + cell + 14),
                cv2.FONT_HERSHEY_SIMPLEX,
                scale,
                (40, 40, 40),
                1,
                cv2.LINE_AA,
            )
    return sheet
