"""Pictures in files: a photograph with its mask in, a synthesised view with its provenance out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from nvs_ros.errors import UserError

IMAGE_DESCRIPTION = 0x010E
"""Number of the EXIF field."""
WITH_ALPHA = ('LA', 'La', 'PA', 'RGBA', 'RGBa')
"""Modes of Pillow; a band called A may also be a colour (LAB)."""
LOSSY = ('JPEG', 'MPO', 'JPEG2000', 'WEBP', 'AVIF', 'HEIF')
"""Formats of Pillow that may change values."""
LABELS = 256
"""Colours that a picture of labels has at most; one with more of them was compressed or resized."""
HALF = 128


def read_photograph(file: Path, mask_file: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a photograph and the mask of the object in it.

    Parameters
    ----------
    file : Path
        Any format that Pillow reads, of 8 or 16 bits per channel; its alpha channel is the mask
        when there is no other. It is turned as its EXIF data say.
    mask_file : Path, optional
        Picture of the same size; its alpha channel where that has a shape, else its values: above 0
        is the object, or above half where they were compressed with loss. Grey levels and
        floating-point numbers to 1 are coverage; colours and numbers of 16 bits are labels. Of a
        palette, black or index 0 is the background.

    Returns
    -------
    image : (H, W, 3) uint8
        RGB.
    mask : (H, W) uint8
        Coverage, 0..255.

    Raises
    ------
    UserError
        Missing or unreadable files, no mask, sizes that differ, an empty mask.
    """
    picture = _open(file)
    if mask_file is not None:
        mask = _coverage(_open(mask_file))
    elif (mask := _alpha(picture)) is None:
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
    """The colours of a photograph, (H, W, 3) uint8; see :func:`read_photograph`."""
    return _colours(_open(file), file)


def _colours(picture: Image.Image, file: Path) -> np.ndarray:
    if picture.mode == 'F':
        raise UserError(f'{file}: expected 8 or 16 bits per channel, got floating-point numbers')
    return _rgb(picture)


def _open(file: Path) -> Image.Image:
    """A picture the right way up; transparency of 8 bits of any kind is an alpha channel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                picture.load()
        format_read = picture.format
        if 'transparency' in picture.info and picture.mode in ('1', 'L', 'P', 'RGB'):
            picture = picture.convert('RGBA')
        picture = ImageOps.exif_transpose(picture)
        picture.format = format_read  # of which nothing is left otherwise
        return picture
    except FileNotFoundError:
        raise UserError(f'no such file: {file}') from None
    except Image.DecompressionBombError:
        raise UserError(
            f'{file}: expected at most {2 * Image.MAX_IMAGE_PIXELS} pixels, got more'
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder stumbles over in a foreign file
        said = str(error) or type(error).__name__
        raise UserError(f'{file} is not a readable picture: {said}') from None


def _rgb(picture: Image.Image) -> np.ndarray:
    if not picture.mode.startswith('I'):
        return np.asarray(picture.convert('RGB'))
    # Grey of 16 bits, of which Pillow would clip whatever is above 255.
    grey = (np.clip(np.asarray(picture), 0, 65535) // 256).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in WITH_ALPHA or 'transparency' in picture.info


def _alpha(picture: Image.Image) -> np.ndarray | None:
    """Alpha channel (H, W) uint8; None where there is none, or it has no shape."""
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
    """What a mask says, (H, W) uint8."""
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
    """Grey levels are coverage, unless all of them are dark: then they are labels."""
    if grey.max(initial=0) >= HALF:
        return grey
    return np.where(grey > (0 if exact else grey.max(initial=0) // 2), 255, 0).astype(np.uint8)


def _background(indices: np.ndarray, colours: np.ndarray) -> np.ndarray | None:
    """Where a palette has index 0, if that is the background and not black.

    Palettes of labels start with the background in any colour, those that a program has reduced the
    colours to may have black anywhere: the background is what most of the border is.
    """
    zero, black = indices == 0, ~colours.any(-1)
    if not (zero & ~black).any():
        return None
    border = np.ones_like(zero)
    border[1:-1, 1:-1] = False
    return zero if (zero & border).sum() >= (black & border).sum() else None


def save_view(image: np.ndarray, file: Path, provenance: dict[str, object]) -> None:
    """Write a synthesised picture as PNG or JPEG, as the name ends, marked as such.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    file : Path
    provenance : dict
        Written beside ``synthetic: true``: model, seed, preset, source stamp, ... As PNG text, or
        as JSON in the EXIF field ImageDescription.

    Raises
    ------
    UserError
        Another ending, or the file cannot be written.
    """
    marks = {f'nvs_ros:{k}': str(v) for k, v in {'synthetic': 'true', **provenance}.items()}
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
