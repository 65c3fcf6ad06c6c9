"""Image files: read a photograph with its mask, write a synthesised view with its provenance."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from nvs_ros.errors import UserError

IMAGE_DESCRIPTION = 0x010E
"""Number of the EXIF field ImageDescription."""
WITH_ALPHA = ('LA', 'La', 'PA', 'RGBA', 'RGBa')
"""Modes of Pillow with an alpha channel; in other modes a band called A may be a colour (LAB)."""
LOSSY = ('JPEG', 'MPO', 'JPEG2000', 'WEBP', 'AVIF', 'HEIF')
"""Formats of Pillow whose compression may change values."""
LABELS = 256
"""Most colours of a label image; an image with more was compressed or resized."""
HALF = 128


def read_photograph(file: Path, mask_file: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a photograph and the mask of the object in it.

    Parameters
    ----------
    file : Path
        Any format that Pillow reads, with 8 or 16 bits per channel. Rotated according to its EXIF
        data. Its alpha channel is the mask unless ``mask_file`` is given.
    mask_file : Path, optional
        Image of the same size. Its alpha channel is used if it is not uniform, else its values.
        Grey levels, and floating-point numbers up to 1, are coverage. Colours, 16-bit numbers and
        dark grey levels are labels: every value above 0 is the object (above half the greatest if
        the compression is lossy). In a palette, black or index 0 is the background.

    Returns
    -------
    image : (H, W, 3) uint8
        RGB.
    mask : (H, W) uint8
        Coverage, 0..255.

    Raises
    ------
    UserError
        A file is missing or unreadable, there is no mask, or it is empty or differs in size.
    """
    picture = _open(file)
    mask = _alpha(picture) if mask_file is None else _coverage(_open(mask_file))
    if mask is None:
        alike = ' with a shape: it is the same everywhere' if _has_alpha(picture) else ''
        raise UserError(f'{file} has no alpha channel{alike}: give the object with --mask FILE')
    image = _colours(picture, file)
    if mask.shape != image.shape[:2]:
        raise UserError(
            f'expected a mask of {image.shape[1]}x{image.shape[0]} pixels as {file}, '
            f'got {mask.shape[1]}x{mask.shape[0]}'
        )
    if not mask.any():
        raise UserError(f'the mask {mask_file or "in the alpha channel of " + str(file)} is empty')
    return image, mask


def read_rgb(file: Path) -> np.ndarray:
    """Read only the colours of a photograph, (H, W, 3) uint8 RGB; see :func:`read_photograph`."""
    return _colours(_open(file), file)


def _colours(picture: Image.Image, file: Path) -> np.ndarray:
    if picture.mode == 'F':
        raise UserError(f'{file}: expected 8 or 16 bits per channel, got floating-point numbers')
    return _rgb(picture)


def _open(file: Path) -> Image.Image:
    """Open an image, rotate it upright, and turn 8-bit transparency into an alpha channel.

    Raises
    ------
    UserError
        The file is missing, unreadable or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                picture.load()
        format_read = picture.format
        if 'transparency' in picture.info and picture.mode in ('1', 'L', 'P', 'RGB'):
            picture = picture.convert('RGBA')
        picture = ImageOps.exif_transpose(picture)
        picture.format = format_read  # lost by the conversions above
        return picture
    except FileNotFoundError:
        raise UserError(f'no such file: {file}') from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # None: no limit, no such error
        raise UserError(f'{file}: expected at most {limit} pixels, got more') from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise errors of any type for foreign files
        said = str(error) or type(error).__name__
        raise UserError(f'{file} is not a readable picture: {said}') from None


def _rgb(picture: Image.Image) -> np.ndarray:
    if not picture.mode.startswith('I'):
        return np.asarray(picture.convert('RGB'))
    # 16-bit grey, which Pillow would clip at 255.
    grey = (np.clip(np.asarray(picture), 0, 65535) // 256).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in WITH_ALPHA or 'transparency' in picture.info


def _alpha(picture: Image.Image) -> np.ndarray | None:
    """Alpha channel (H, W) uint8; None if there is none, or nothing in it stands out."""
    if picture.mode in WITH_ALPHA:
        alpha = np.asarray(picture.convert('RGBA').getchannel('A'))
    elif picture.mode.startswith('I') and isinstance(picture.info.get('transparency'), int):
        alpha = np.where(np.asarray(picture) == picture.info['transparency'], 0, 255)
        alpha = alpha.astype(np.uint8)
    else:
        return None
    least, most = alpha.min(initial=255), alpha.max(initial=0)
    return alpha if least < min(most, HALF) else None


def _coverage(picture: Image.Image) -> np.ndarray:
    """Coverage (H, W) uint8, 0..255, from an image of a mask; see :func:`read_photograph`."""
    alpha = _alpha(picture)
    if alpha is not None:
        return _levels(alpha, exact=True)
    if picture.mode.startswith(('I', 'F')):
        values = np.nan_to_num(np.asarray(picture))
        if picture.mode == 'F' and values.max(initial=0) <= 1:
            return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
        return np.where(values > 0, 255, 0).astype(np.uint8)
    rgb = picture.convert('RGB')
    colours = np.asarray(rgb)
    if picture.mode == 'P' and (index := _background(np.asarray(picture), colours)) is not None:
        return np.where(index, 0, 255).astype(np.uint8)
    exact = picture.format not in LOSSY and rgb.getcolors(LABELS) is not None
    brightest = colours.max(-1)
    if not (brightest - colours.min(-1) > 8).any():
        return _levels(brightest, exact)
    return np.where(brightest > (0 if exact else brightest.max() // 2), 255, 0).astype(np.uint8)


def _levels(grey: np.ndarray, exact: bool) -> np.ndarray:
    """Coverage from grey levels: as they are, or, if all are dark, labels."""
    if grey.max(initial=0) >= HALF:
        return grey
    return np.where(grey > (0 if exact else grey.max(initial=0) // 2), 255, 0).astype(np.uint8)


def _background(indices: np.ndarray, colours: np.ndarray) -> np.ndarray | None:
    """Pixels with palette index 0, if that is the background; None if black is.

    Palettes of label images begin with the background in any colour; in palettes of images with
    reduced colours black may have any index. What covers most of the border is the background.
    """
    zero, black = indices == 0, ~colours.any(-1)
    if not (zero & ~black).any():
        return None
    border = np.ones_like(zero)
    border[1:-1, 1:-1] = False
    return zero if (zero & border).sum() >= (black & border).sum() else None


CONTENT = 'synthesised views beside what they are compared with'
"""Provenance ``content`` of sheets of an evaluation."""


def save_view(image: np.ndarray, file: Path, provenance: dict[str, object]) -> None:
    """Write a synthesised image as PNG or JPEG, marked as synthetic.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    file : Path
        Its ending chooses the format.
    provenance : dict
        Model, seed, preset, source stamp and so on. Written together with ``synthetic: true``, as
        PNG text or as JSON in the EXIF field ImageDescription.

    Raises
    ------
    UserError
        The file has another ending or cannot be written.
    """
    marks = {f'nvs_ros:{k}': str(v) for k, v in {**provenance, 'synthetic': 'true'}.items()}
    picture = Image.fromarray(image)
    try:
        if file.suffix.lower() == '.png':
            text = PngInfo()
            for key, value in marks.items():
                text.add_text(key, value)
            picture.save(file, 'PNG', pnginfo=text)
        elif file.suffix.lower() in ('.jpg', '.jpeg'):
            exif = Image.Exif()
            exif[IMAGE_DESCRIPTION] = json.dumps(marks)
            picture.save(file, 'JPEG', exif=exif, quality=95)
        else:
            raise UserError(f'expected a picture ending in .png or .jpg, got {file}')
    except OSError as error:
        raise UserError(f'cannot write {file}: {error.strerror or error}') from error
