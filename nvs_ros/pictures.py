"""Pictures in files: a photograph with its mask in, a synthesised view with its provenance out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from nvs_ros.errors import UserError

IMAGE_DESCRIPTION = 0x010E
"""Number of the EXIF field."""


def read_photograph(file: Path, mask_file: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read a photograph and the mask of the object in it.

    Parameters
    ----------
    file : Path
        Any format that Pillow reads, of 8 or 16 bits per channel; its alpha channel is the mask
        when there is no other. It is turned as its EXIF data say.
    mask_file : Path, optional
        Picture of the same size, above 0 is the object; grey levels are coverage, colours and
        numbers of 16 bits are labels.

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
    elif 'A' in picture.getbands():
        mask = np.asarray(picture.getchannel('A'))
    else:
        raise UserError(f'{file} has no alpha channel: give the object with --mask FILE')
    if picture.mode == 'F':
        raise UserError(f'{file}: expected 8 or 16 bits per channel, got floating-point numbers')
    image = _rgb(picture)
    if mask.shape != image.shape[:2]:
        raise UserError(
            f'expected a mask of {image.shape[1]}x{image.shape[0]} pixels as {file}, '
            f'got {mask.shape[1]}x{mask.shape[0]}'
        )
    if not mask.any():
        raise UserError(f'the mask {mask_file or "in the alpha channel of " + str(file)} is empty')
    return image, mask


def _open(file: Path) -> Image.Image:
    """A picture the right way up; transparency of any kind is an alpha channel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                picture.load()
        if 'transparency' in picture.info and picture.mode in ('1', 'L', 'P', 'RGB'):
            picture = picture.convert('RGBA')
        return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise UserError(f'no such file: {file}') from None
    except Image.DecompressionBombError:
        raise UserError(
            f'{file}: expected at most {2 * Image.MAX_IMAGE_PIXELS} pixels, got more'
        ) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f'{file} is not a readable picture: {error}') from None


def _rgb(picture: Image.Image) -> np.ndarray:
    if not picture.mode.startswith('I'):
        return np.asarray(picture.convert('RGB'))
    # Grey of 16 bits, of which Pillow would clip whatever is above 255.
    grey = (np.clip(np.asarray(picture), 0, 65535) // 256).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _coverage(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith(('I', 'F')):
        labels = np.asarray(picture)
    else:
        colours = np.asarray(picture.convert('RGB'))
        grey = (colours == colours[..., :1]).all()
        labels = colours[..., 0] if grey else colours.any(-1)
        if grey and labels.max() >= 128:
            return labels
    return np.where(labels > 0, 255, 0).astype(np.uint8)


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


def contact_sheet(
    rows: list[list[np.ndarray]], captions: list[list[str]], cell: int = 192
) -> np.ndarray:
    """Pictures in rows with a caption under each.

    Parameters
    ----------
    rows : list of lists of (h, w, 3) uint8
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
            left = margin + c * (cell + margin)
            scale = cell / max(picture.shape[:2])
            small = cv2.resize(
                picture,
                None,
                fx=scale,
                fy=scale,
                interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
            )
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
            cv2.putText(
                sheet,
                caption,
                (left + 2, top + cell + 14),
                cv2.FONT_HERSHEY_SIMPLEX,
                0.42,
                (40, 40, 40),
                1,
                cv2.LINE_AA,
            )
    return sheet
