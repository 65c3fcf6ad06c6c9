"""Images between ROS messages and NumPy.

Pure functions that need no node. They also read what cv_bridge misreads or refuses: padded rows
(``step``), big-endian data under NumPy 2, ``8UC3``.
"""

from __future__ import annotations

import array
import functools
import inspect
import sys
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)

ENCODINGS: dict[str, tuple[np.dtype, int]] = {
    'rgb8': (_UINT8, 3),
    'bgr8': (_UINT8, 3),
    'rgba8': (_UINT8, 4),
    'bgra8': (_UINT8, 4),
    'mono8': (_UINT8, 1),
    'rgb16': (_UINT16, 3),
    'bgr16': (_UINT16, 3),
    'mono16': (_UINT16, 1),
    '8UC1': (_UINT8, 1),
    '8UC3': (_UINT8, 3),
    '8UC4': (_UINT8, 4),
    '16UC1': (_UINT16, 1),
    '32SC1': (np.dtype(np.int32), 1),
    '32FC1': (np.dtype(np.float32), 1),
    'yuv422': (_UINT8, 2),
    'uyvy': (_UINT8, 2),
    'yuv422_yuy2': (_UINT8, 2),
    'yuyv': (_UINT8, 2),
    **{f'bayer_{pattern}8': (_UINT8, 1) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{f'bayer_{pattern}16': (_UINT16, 1) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
}
"""Encoding -> dtype and channels of what :func:`array_from_image` reads."""

_TO_RGB: dict[str, int | None] = {
    'rgb8': None,
    'rgb16': None,
    'bgr8': cv2.COLOR_BGR2RGB,
    'bgr16': cv2.COLOR_BGR2RGB,
    '8UC3': cv2.COLOR_BGR2RGB,  # OpenCV's order: the encoding itself names none
    'rgba8': cv2.COLOR_RGBA2RGB,
    'bgra8': cv2.COLOR_BGRA2RGB,
    '8UC4': cv2.COLOR_BGRA2RGB,
    'mono8': cv2.COLOR_GRAY2RGB,
    'mono16': cv2.COLOR_GRAY2RGB,
    '8UC1': cv2.COLOR_GRAY2RGB,
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
    # ROS names the first two pixels of the first row, OpenCV the second and third of the second.
    **{f'bayer_rggb{bits}': cv2.COLOR_BayerBG2RGB for bits in (8, 16)},
    **{f'bayer_bggr{bits}': cv2.COLOR_BayerRG2RGB for bits in (8, 16)},
    **{f'bayer_gbrg{bits}': cv2.COLOR_BayerGR2RGB for bits in (8, 16)},
    **{f'bayer_grbg{bits}': cv2.COLOR_BayerGB2RGB for bits in (8, 16)},
}
_MASKS = ('mono8', '8UC1', 'mono16', '16UC1', '32SC1')
_JPEG_MASK_THRESHOLD = 127
AUTO = 'auto'
"""``input.mask_values`` by which the encoding of a mask decides whether its values are labels."""


@functools.cache
def ros2_cv_bridge() -> Any:
    """ROS 2's ``CvBridge`` for encodings missing in :data:`ENCODINGS`; None if not installed.

    The package of that name on PyPI is ROS 1's and misreads ROS 2 messages; it counts as absent.
    """
    try:
        from cv_bridge import CvBridge
    except ImportError:
        return None
    is_ros2 = 'header' in inspect.signature(CvBridge.cv2_to_imgmsg).parameters
    return CvBridge() if is_ros2 else None


def check_image(message: Image) -> None:
    """Check that size, step and length of an image agree, without reading its pixels.

    Raises
    ------
    ValueError
        The encoding is not supported, the image is empty, or step or length do not fit its size.
    """
    if message.encoding not in ENCODINGS:
        if ros2_cv_bridge() is not None:
            return
        raise ValueError(
            f'expected an encoding among {", ".join(ENCODINGS)}, got {message.encoding!r}'
        )
    dtype, channels = ENCODINGS[message.encoding]
    if message.width < 1 or message.height < 1:
        raise ValueError(
            f'expected a width and height of at least 1, got {message.width}x{message.height}'
        )
    row = message.width * channels * dtype.itemsize
    if message.step < row:
        raise ValueError(
            f'expected a step of at least {row} bytes for {message.width} pixels of '
            f'{message.encoding}, got {message.step}'
        )
    if len(message.data) != message.step * message.height:
        raise ValueError(
            f'expected {message.step * message.height} bytes of data (step {message.step} x '
            f'height {message.height}), got {len(message.data)}'
        )


def array_from_image(message: Image) -> np.ndarray:
    """Pixels as they are encoded, in the byte order of this machine.

    Parameters
    ----------
    message : sensor_msgs.msg.Image
        Any encoding of :data:`ENCODINGS`, or others where cv_bridge is installed; rows may be
        padded.

    Returns
    -------
    numpy.ndarray
        ``(height, width)`` or ``(height, width, channels)``; a view of the message where possible.

    Raises
    ------
    ValueError
        The message is malformed, see :func:`check_image`, or cv_bridge cannot read it.
    """
    check_image(message)
    if message.encoding not in ENCODINGS:
        return _with_cv_bridge(message, 'passthrough')
    dtype, channels = ENCODINGS[message.encoding]
    big = bool(message.is_bigendian)
    stored = dtype.newbyteorder('>' if big else '<')
    strides = (message.step, channels * dtype.itemsize, dtype.itemsize)
    shape = (message.height, message.width, channels)
    pixels = np.ndarray(shape, stored, memoryview(message.data), strides=strides)
    if big != (sys.byteorder == 'big') and dtype.itemsize > 1:
        pixels = pixels.astype(dtype)
    return pixels[..., 0] if channels == 1 else pixels


def rgb_from_image(message: Image) -> np.ndarray:
    """Image as RGB.

    Bayer patterns are interpolated, 16 bits are scaled to 8, alpha is dropped, ``8UC3`` is read as
    BGR (OpenCV's order).

    Returns
    -------
    numpy.ndarray
        ``(height, width, 3)`` uint8, contiguous.

    Raises
    ------
    ValueError
        The message is malformed, its encoding is not that of a colour or grey image, or its size
        does not fit a Bayer or YUV encoding.
    """
    if message.encoding not in ENCODINGS and ros2_cv_bridge() is not None:
        return _with_cv_bridge(message, 'rgb8')
    pixels = array_from_image(message)
    if message.encoding not in _TO_RGB:
        raise ValueError(f'expected a picture ({", ".join(_TO_RGB)}), got {message.encoding!r}')
    if message.encoding.startswith(('yuv', 'uyvy', 'yuyv')) and message.width % 2:
        raise ValueError(f'expected an even width for {message.encoding}, got {message.width}')
    if message.encoding.startswith('bayer') and min(message.width, message.height) < 2:
        raise ValueError(
            f'expected at least 2x2 pixels for {message.encoding}, '
            f'got {message.width}x{message.height}'
        )
    code = _TO_RGB[message.encoding]
    pixels = np.ascontiguousarray(pixels)
    rgb = pixels if code is None else cv2.cvtColor(pixels, code)
    return rgb if rgb.dtype == np.uint8 else _eight_bits(rgb)


def mask_from_image(message: Image, label: int = 0, values: str = AUTO) -> np.ndarray:
    """Mask of the object from an image message.

    Parameters
    ----------
    message : sensor_msgs.msg.Image
        One of ``mono8``, ``8UC1``, ``mono16``, ``16UC1``, ``32SC1``.
    label : int
        Value of the object in a label image; 0: every value above 0. Ignored for a binary mask.
    values : str
        See :func:`has_labels`.

    Returns
    -------
    numpy.ndarray
        ``(height, width)`` uint8, 255 on the object and 0 elsewhere.

    Raises
    ------
    ValueError
        The message is malformed, has no mask encoding, or no pixel of the object.
    """
    return _mask(_mask_pixels(message), label if has_labels(message, values) else 0)


def depth_from_image(message: Image) -> np.ndarray:
    """Depth in metres after REP-118: ``16UC1`` millimetres with 0 invalid, ``32FC1`` metres.

    Returns
    -------
    numpy.ndarray
        ``(height, width)`` float32, metres along the optical axis, NaN where not measured.

    Raises
    ------
    ValueError
        The message is malformed or has another encoding.
    """
    pixels = array_from_image(message)
    if message.encoding in ('16UC1', 'mono16'):
        depth = pixels.astype(np.float32) * np.float32(0.001)
    elif message.encoding == '32FC1':
        depth = pixels.astype(np.float32)
    else:
        raise ValueError(f'expected depth as 16UC1 or 32FC1, got {message.encoding!r}')
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def rgb_from_compressed(message: CompressedImage) -> np.ndarray:
    """Image as RGB from JPEG, PNG or another format that OpenCV reads.

    Returns
    -------
    numpy.ndarray
        ``(height, width, 3)`` uint8.

    Raises
    ------
    ValueError
        The data cannot be decoded, or are no image of 8 or 16 bits with 1, 3 or 4 channels.
    """
    pixels = _decode(message)
    if pixels.dtype == np.uint16:
        pixels = _eight_bits(pixels)
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in codes:
        raise ValueError(f'expected a picture, got {channels} channels of {pixels.dtype}')
    return cv2.cvtColor(pixels, codes[channels])


def mask_from_compressed(
    message: CompressedImage, label: int = 0, values: str = AUTO
) -> np.ndarray:
    """Mask of the object from a PNG, or a JPEG (thresholded at half, because its edges ring).

    Parameters
    ----------
    message : sensor_msgs.msg.CompressedImage
        One channel of 8 or 16 bits.
    label : int
        As in :func:`mask_from_image`.
    values : str
        See :func:`has_labels`.

    Returns
    -------
    numpy.ndarray
        ``(height, width)`` uint8, 255 on the object and 0 elsewhere.

    Raises
    ------
    ValueError
        The data cannot be decoded, have several channels, no pixel of the object, or are a JPEG
        that should hold labels.
    """
    return _mask(_mask_pixels(message), label if has_labels(message, values) else 0)


def has_labels(message: Image | CompressedImage, values: str = AUTO) -> bool:
    """Whether the values of a mask are labels, which tell objects apart.

    Parameters
    ----------
    message : sensor_msgs.msg.Image or CompressedImage
    values : str
        The setting ``input.mask_values``: ``'binary'``, ``'labels'``, or ``'auto'``: labels if the
        mask has more than 8 bits.

    Raises
    ------
    ValueError
        The data cannot be decoded, or are a JPEG that should hold labels.
    """
    if values == 'labels' and _is_jpeg(message):
        raise ValueError('expected labels in a PNG, got a JPEG, which blends them')
    if values != AUTO:
        return values == 'labels'
    if isinstance(message, CompressedImage):
        return _decode(message).dtype != np.uint8
    return message.encoding not in ('mono8', '8UC1')


def labels_in(message: Image | CompressedImage) -> np.ndarray:
    """Values (height, width) of a label image, 0 where there is no object.

    Raises
    ------
    ValueError
        The message is malformed or no mask.
    """
    return np.maximum(_mask_pixels(message), 0)


def _is_jpeg(message: Image | CompressedImage) -> bool:
    return isinstance(message, CompressedImage) and bytes(message.data[:2]) == b'\xff\xd8'


def _mask_pixels(message: Image | CompressedImage) -> np.ndarray:
    """Values of a mask as they are stored; for a JPEG 0 or 1."""
    if not isinstance(message, CompressedImage):
        if message.encoding not in _MASKS:
            check_image(message)
            raise ValueError(f'expected a mask ({", ".join(_MASKS)}), got {message.encoding!r}')
        return array_from_image(message)
    pixels = _decode(message)
    if pixels.ndim != 2:
        raise ValueError(f'expected a mask of one channel, got {pixels.shape[2]} channels')
    return (pixels > _JPEG_MASK_THRESHOLD).astype(np.uint8) if _is_jpeg(message) else pixels


def image_from_array(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Image message from an array.

    Parameters
    ----------
    pixels : numpy.ndarray
        ``(height, width)`` or ``(height, width, channels)`` of the encoding's dtype.
    encoding : str
        One of :data:`ENCODINGS`.
    header : std_msgs.msg.Header
        Used without a copy.

    Returns
    -------
    sensor_msgs.msg.Image
        Without padding, in the byte order of this machine.

    Raises
    ------
    ValueError
        Dtype or shape are not those of the encoding.
    KeyError
        The encoding is not in :data:`ENCODINGS`.
    """
    dtype, channels = ENCODINGS[encoding]
    shape = pixels.shape if channels > 1 else (*pixels.shape, 1)
    if pixels.dtype != dtype or len(shape) != 3 or shape[2] != channels:
        raise ValueError(
            f'expected {channels} channel(s) of {dtype} for {encoding}, '
            f'got shape {pixels.shape} of {pixels.dtype}'
        )
    message = Image(header=header, encoding=encoding)
    message.height, message.width = int(shape[0]), int(shape[1])
    message.step = message.width * channels * dtype.itemsize
    message.is_bigendian = int(sys.byteorder == 'big')
    # rclpy stores an array.array without a check; bytes or an ndarray are checked item by item.
    # https://github.com/ros2/rclpy/issues/763
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
    message.data = data
    return message


def _with_cv_bridge(message: Image, encoding: str) -> np.ndarray:
    try:
        return ros2_cv_bridge().imgmsg_to_cv2(message, encoding)
    except Exception as error:  # cv_bridge raises whatever OpenCV, NumPy or its C++ side raise
        raise ValueError(f'cv_bridge cannot read encoding {message.encoding!r}: {error}') from error


def _decode(message: CompressedImage) -> np.ndarray:
    if 'compressedDepth' in message.format:
        raise ValueError('expected JPEG or PNG, got compressedDepth')
    data = np.frombuffer(message.data, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error as error:
        raise ValueError(f'expected JPEG or PNG, got {data.size} bytes: {error.err}') from None
    if pixels is None:
        raise ValueError(
            f'expected JPEG or PNG, got {data.size} bytes (format {message.format!r}) '
            'that cannot be decoded'
        )
    return pixels


def _mask(pixels: np.ndarray, label: int) -> np.ndarray:
    chosen = pixels == label if label else pixels > 0
    if not chosen.any():
        wanted = f'label {label}' if label else 'a pixel above 0'
        raise ValueError(f'expected {wanted} in the mask, got none')
    return chosen.astype(np.uint8) * np.uint8(255)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
