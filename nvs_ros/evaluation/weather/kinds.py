"""The kinds of disturbance, each with five levels in a physical unit."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nvs_ros.evaluation.weather import masks, measured, pictures, surroundings
from nvs_ros.evaluation.weather.sight import Sight

LEVELS = 5
"""Levels of each kind; level 0 is no disturbance."""

Change = Callable[[Sight, float, np.random.Generator], Sight]


@dataclass(frozen=True)
class Kind:
    """A kind of disturbance.

    Attributes
    ----------
    what : str
        For people.
    unit : str
    amounts : tuple of float
        In that unit, of the levels 1 to :data:`LEVELS`.
    change : callable
        Takes a sight, an amount above 0 and a generator for directions and signs.
    """

    what: str
    unit: str
    amounts: tuple[float, float, float, float, float]
    change: Change


class Case(NamedTuple):
    """A kind of disturbance at a level, 0 to :data:`LEVELS`; the kind ``''`` has level 0 alone."""

    kind: str
    level: int


def of_picture(change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]) -> Change:
    """Change the picture of a sight alone."""
    return lambda sight, amount, rng: sight.but(image=change(sight.frame.image, amount, rng))


def of_mask(change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]) -> Change:
    """Change the mask of a sight alone."""
    return lambda sight, amount, rng: sight.but(
        mask=change(sight.solid, amount, rng).astype(np.uint8) * 255
    )


KINDS = {
    'noise': Kind(
        'image noise', 's.d. in 8-bit levels', (4, 8, 16, 28, 45), of_picture(pictures.noisy)
    ),
    'blur': Kind('motion blur', 'px', (3, 6, 12, 20, 32), of_picture(pictures.moved)),
    'defocus': Kind('out of focus', 'px radius', (1, 2, 4, 6, 9), of_picture(pictures.defocused)),
    'exposure': Kind(
        'exposure, over or under', 'stops', (0.5, 1, 1.5, 2, 3), of_picture(pictures.exposed)
    ),
    'white_balance': Kind(
        'white balance, warm or cold',
        'stops',
        (0.15, 0.3, 0.5, 0.75, 1),
        of_picture(pictures.tinted),
    ),
    'jpeg': Kind(
        'JPEG', '% below quality 100', (40, 60, 75, 85, 93), of_picture(pictures.compressed)
    ),
    'mask_eroded': Kind('mask eroded', 'px', (1, 2, 4, 7, 11), of_mask(masks.eroded)),
    'mask_dilated': Kind('mask dilated', 'px', (1, 2, 4, 7, 11), of_mask(masks.dilated)),
    'mask_shifted': Kind('mask shifted', 'px', (1, 3, 6, 10, 16), of_mask(masks.shifted)),
    'mask_holed': Kind(
        'mask with holes', '% of its pixels', (5, 10, 20, 35, 50), of_mask(masks.holed)
    ),
    'mask_second': Kind(
        'a second object in the mask',
        '% of its pixels',
        (10, 25, 50, 75, 100),
        surroundings.second_object,
    ),
    'pose_centre': Kind('pose off in centre', 'mm', (4, 8, 16, 30, 50), measured.off_centre),
    'pose_size': Kind('size too large or small', '%', (5, 10, 20, 35, 50), measured.off_size),
    'pose_up': Kind('up axis off', 'degrees', (3, 6, 12, 20, 30), measured.off_up),
    'depth_noise': Kind('depth noisy', 'mm s.d.', (1, 2, 4, 8, 15), measured.noisy_depth),
    'depth_holes': Kind(
        'depth with holes', '% of the pixels', (10, 25, 50, 75, 95), measured.holed_depth
    ),
    'depth_bias': Kind('depth too near or far', 'mm', (3, 6, 12, 25, 50), measured.biased_depth),
    'depth_stamp': Kind(
        'depth of another moment', 'mm of motion', (5, 10, 20, 40, 70), measured.late_depth
    ),
    'occlusion': Kind('occlusion', '% of the object', (10, 20, 30, 45, 60), surroundings.occluded),
    'clutter': Kind('clutter', 'things', (1, 2, 3, 5, 8), surroundings.cluttered),
    'light': Kind(
        'light from one side', 'degrees', (20, 40, 60, 80, 100), surroundings.lit_from_side
    ),
}
"""Name -> kind. Pixels are those of the source, 320 x 240, in which an object of 200 mm is some 160
pixels long."""
UNDISTURBED = Case('', 0)


def disturb(sight: Sight, case: Case, seed: Sequence[int]) -> Sight:
    """The sight as the robot has it under a disturbance; the same sight at level 0.

    Parameters
    ----------
    sight : Sight
        Undisturbed.
    case : Case
    seed : sequence of int
        Directions and signs follow from it and the kind, the same ones at every level.
    """
    if not case.level:
        return sight
    kind = KINDS[case.kind]
    rng = np.random.default_rng([*seed, zlib.crc32(case.kind.encode())])
    return kind.change(sight, kind.amounts[case.level - 1], rng)


def parse_cases(texts: Sequence[str], levels: Sequence[int]) -> list[Case]:
    """Cases from texts ``KIND`` (with all ``levels``) or ``KIND:LEVEL``.

    Raises
    ------
    ValueError
        A kind or level that does not exist; the message names those that do.
    """
    cases = []
    for text in texts:
        kind, colon, level = text.partition(':')
        if kind not in KINDS:
            raise ValueError(f'expected a kind among {", ".join(KINDS)}, got {kind!r}')
        cases += [Case(kind, one) for one in (parse_levels(level) if colon else levels)]
    return list(dict.fromkeys(cases))


def parse_levels(text: str) -> list[int]:
    """Levels from a text such as ``1,3,5``.

    Raises
    ------
    ValueError
        A level is not a whole number from 0 to :data:`LEVELS`.
    """
    parts = text.split(',')
    if not all(part.isdecimal() and int(part) <= LEVELS for part in parts):
        raise ValueError(f'expected a level from 0 to {LEVELS}, got {text!r}')
    return [int(part) for part in parts]
