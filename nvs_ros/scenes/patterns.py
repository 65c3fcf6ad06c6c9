"""Procedural textures of household things: stripes, grain, speckles, print."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from nvs_ros.scenes.palette import WHITE, any_color, two_colors

SIDE = 128
"""Side of a texture, pixels."""
LETTERS = 'ABCDEFGHIKLMNOPRSTUVXYZ0123456789'


def make_pattern(rng: np.random.Generator) -> np.ndarray:
    """A random texture (SIDE, SIDE, 3) uint8."""
    kind = KINDS[rng.integers(len(KINDS))]
    return (np.clip(kind(rng), 0, 1) * 255 + 0.5).astype(np.uint8)


def _mixed(share: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Blend two colours: the first where ``share`` (SIDE, SIDE) is 0, the second where it is 1."""
    return first + np.clip(share, 0, 1)[..., None] * (second - first)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, 0..1."""
    rows, columns = (np.indices((SIDE, SIDE)) + 0.5) / SIDE
    return rows, columns


def _noise(rng: np.random.Generator, coarsest: int, octaves: int, stretch: int = 1) -> np.ndarray:
    """Tileable noise of several scales (SIDE, SIDE), mean 0 and standard deviation 1.

    The coarsest scale has ``coarsest`` cells along a column, ``stretch`` times fewer along a row.
    """
    total: np.ndarray = np.zeros((SIDE, SIDE), np.float32)
    for octave in range(octaves):
        down = min(coarsest * 2**octave, SIDE)
        across = max(1, down // stretch)
        cells = np.pad(rng.standard_normal((down, across), np.float32), 2, 'wrap')
        wide = cv2.resize(
            cells, None, fx=SIDE / across, fy=SIDE / down, interpolation=cv2.INTER_CUBIC
        )
        top, left = 2 * SIDE // down, 2 * SIDE // across
        total += wide[top : top + SIDE, left : left + SIDE] / 1.7**octave
    return (total - total.mean()) / (total.std() + 1e-6)


def stripes(rng: np.random.Generator) -> np.ndarray:
    """Straight or wavy stripes of two to four colours."""
    rows, columns = _grid()
    along = rows if rng.random() < 0.5 else columns
    if rng.random() < 0.3:
        along = (rows + columns * rng.integers(1, 3)) % 1
    if rng.random() < 0.3:
        across = columns if along is rows else rows
        along = along + rng.uniform(0.02, 0.08) * np.sin(2 * np.pi * rng.integers(1, 4) * across)
    ends = np.sort(rng.random(rng.integers(1, 4)))
    colors = np.array([any_color(rng), *two_colors(rng), WHITE])
    return colors[np.searchsorted(ends, along * rng.integers(1, 7) % 1)]


def checks(rng: np.random.Generator) -> np.ndarray:
    """A chessboard, a tartan or tiles."""
    rows, columns = _grid()
    count = int(rng.integers(2, 9))
    first, second = two_colors(rng)
    kind = rng.integers(3)
    if kind == 0:
        share = (np.floor(rows * count) + np.floor(columns * count)) % 2
    elif kind == 1:
        share = (np.floor(rows * count) % 2 + np.floor(columns * count) % 2) / 2
    else:
        inside = [np.abs(x * count % 1 - 0.5) < rng.uniform(0.35, 0.47) for x in (rows, columns)]
        share = (inside[0] & inside[1]).astype(float)
    return _mixed(share, first, second)


def clouds(rng: np.random.Generator) -> np.ndarray:
    """Smooth to rough noise between two colours."""
    noise = _noise(rng, int(rng.integers(2, 12)), int(rng.integers(1, 5)))
    sharpness = rng.choice([0.3, 0.6, 3.0])
    return _mixed(0.5 + sharpness * noise, *two_colors(rng))


def grain(rng: np.random.Generator) -> np.ndarray:
    """Wood: fibres and year rings."""
    _, columns = _grid()
    light = np.array([rng.uniform(0.55, 0.9), rng.uniform(0.4, 0.65), rng.uniform(0.2, 0.45)])
    warped = columns * rng.integers(2, 7) + 0.3 * _noise(rng, 2, 2, 1)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * warped)
    fibres = 0.25 * _noise(rng, 64, 1, 1).T + 0.35 * _noise(rng, 32, 2, 16).T
    return _mixed(0.5 * rings + 0.5 * fibres, light, light * rng.uniform(0.4, 0.75))


def gradient(rng: np.random.Generator) -> np.ndarray:
    """A smooth transition from one colour to another and back."""
    rows, columns = _grid()
    phase = rows * rng.integers(0, 2) + columns * rng.integers(0, 2) + rng.random()
    return _mixed(0.5 + 0.5 * np.sin(2 * np.pi * phase), *two_colors(rng))


def speckle(rng: np.random.Generator) -> np.ndarray:
    """Dots of one or several colours on a plain ground."""
    picture = np.tile(any_color(rng), (SIDE, SIDE, 1))
    largest = int(rng.choice([3, 6, 14]))
    colors = [any_color(rng) for _ in range(rng.integers(1, 4))]
    for _ in range(int(rng.uniform(0.15, 0.4) * SIDE**2 / largest**2)):
        centre = tuple(int(n) for n in rng.integers(0, SIDE, 2))
        color = colors[rng.integers(len(colors))].tolist()
        cv2.circle(picture, centre, int(rng.integers(1, largest + 1)), color, -1, cv2.LINE_AA)
    return picture


def label(rng: np.random.Generator) -> np.ndarray:
    """The print of a packet: blocks, a logo, a name and lines of small text."""
    ground, ink = two_colors(rng)
    picture = np.tile(ground, (SIDE, SIDE, 1))
    for _ in range(rng.integers(1, 4)):
        low = rng.integers(0, SIDE, 2)
        high = low + rng.integers(SIDE // 8, SIDE // 2, 2)
        cv2.rectangle(picture, _point(low), _point(high), any_color(rng).tolist(), -1)
    if rng.random() < 0.7:
        _draw_logo(picture, rng)
    _draw_name(picture, rng, ink)
    ink_levels = ink.tolist()
    top = int(rng.integers(SIDE // 2, SIDE * 3 // 4))
    for row in range(top, SIDE - 6, 6):
        column = 8
        while column < SIDE - 8:
            word = int(rng.integers(3, 16))
            end = (min(column + word, SIDE - 8), row + 2)
            cv2.rectangle(picture, (column, row), end, ink_levels, -1)
            column += word + 4
    return picture


def logos(rng: np.random.Generator) -> np.ndarray:
    """One to four logos on a plain or shaded ground."""
    picture = gradient(rng) if rng.random() < 0.3 else np.tile(any_color(rng), (SIDE, SIDE, 1))
    picture = np.ascontiguousarray(picture)
    for _ in range(rng.integers(1, 5)):
        _draw_logo(picture, rng)
    if rng.random() < 0.5:
        _draw_name(picture, rng, any_color(rng))
    return picture


def _draw_logo(picture: np.ndarray, rng: np.random.Generator) -> None:
    centre = rng.integers(SIDE // 5, SIDE * 4 // 5, 2)
    radius = int(rng.integers(SIDE // 12, SIDE // 4))
    first, second = (color.tolist() for color in two_colors(rng))
    if rng.random() < 0.4:
        cv2.circle(picture, _point(centre), radius, first, -1, cv2.LINE_AA)
        cv2.circle(picture, _point(centre), radius * 2 // 3, second, -1, cv2.LINE_AA)
        return
    spikes = int(rng.integers(3, 8))
    angle = np.arange(2 * spikes) * np.pi / spikes + rng.uniform(0, np.pi)
    reach = radius * np.where(np.arange(2 * spikes) % 2, rng.uniform(0.35, 1.0), 1.0)
    corners = centre + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    cv2.fillPoly(picture, [corners.astype(np.int32)], first, cv2.LINE_AA)


def _draw_name(picture: np.ndarray, rng: np.random.Generator, color: np.ndarray) -> None:
    name = ''.join(rng.choice(list(LETTERS), rng.integers(2, 7)))
    scale = rng.uniform(0.7, 1.4)
    place = (int(rng.integers(0, SIDE // 4)), int(rng.integers(SIDE // 4, SIDE // 2)))
    thick = int(rng.integers(2, 5))
    font, levels = cv2.FONT_HERSHEY_DUPLEX, color.tolist()
    cv2.putText(picture, name, place, font, scale, levels, thick, cv2.LINE_AA)


def _point(pair: np.ndarray) -> tuple[int, int]:
    return int(pair[0]), int(pair[1])


KINDS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    stripes,
    checks,
    clouds,
    grain,
    gradient,
    speckle,
    label,
    label,
    logos,
)
"""Kinds of textures; ``label`` twice, because print best tells the sides of an object apart."""
