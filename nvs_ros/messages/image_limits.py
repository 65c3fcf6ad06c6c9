"""Whether an image is over a limit, by what its header says and before it is decoded."""

from __future__ import annotations

import io
import warnings

import PIL.Image
from sensor_msgs.msg import CompressedImage, Image

from nvs_ros.errors import OverLimit
from nvs_ros.settings import LimitSettings


def check_size(message: Image | CompressedImage, limits: LimitSettings) -> None:
    """Check that an image is not over a limit, by what its header says and before it is decoded.

    Raises
    ------
    OverLimit
        It has more pixels than ``limits.image_mp``, or more data than ``limits.message_mb``.
    ValueError
        It is compressed and empty, or in a format that does not say its size.
    """
    if len(message.data) > limits.message_mb * 10**6:
        raise OverLimit(
            f'expected at most {limits.message_mb} MB of data (limits.message_mb), got '
            f'{len(message.data) / 1e6:.4g} MB'
        )
    if isinstance(message, CompressedImage):
        width, height = _compressed_size(message)
    else:
        width, height = message.width, message.height
    if width * height > limits.image_mp * 10**6:
        raise OverLimit(
            f'expected at most {limits.image_mp:g} MP (limits.image_mp), got {width}x{height}, '
            f'{width * height / 1e6:.4g} MP'
        )


def _compressed_size(message: CompressedImage) -> tuple[int, int]:
    """Width and height, read from the first bytes of a compressed image.

    Raises
    ------
    ValueError
        There are no data, or they are in no format that is known.
    """
    if not message.data:
        raise ValueError('expected compressed data, got none')
    if 'compressedDepth' in message.format:
        raise ValueError('expected JPEG or PNG, got compressedDepth')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of large pictures, which the caller refuses
            with PIL.Image.open(io.BytesIO(message.data)) as opened:
                return opened.size
    except PIL.Image.DecompressionBombError as error:
        raise OverLimit(f'expected a smaller picture: {error}') from None
    except Exception as error:  # Pillow raises errors of any type for broken bytes
        raise ValueError(
            f'expected JPEG or PNG, got {len(message.data)} bytes (format {message.format!r}) '
            f'that cannot be decoded: {type(error).__name__}'
        ) from None
