"""Faults of the picture: noise, blur, light and compression.

Each function takes a picture (H, W, 3) uint8 and an amount above 0 in its own unit, and gives the
picture back. Directions and signs come from the generator, so that a generator of the same seed
gives the same ones for every amount.
"""

from __future__ import annotations

import cv2
import numpy as np

GAMMA = 2.2
"""Exponent from the values of a picture to light."""


def noisy(image: np.ndarray, levels: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of the sensor: standard deviation in 8-bit levels at mid grey, where half of its
    variance grows with the light."""
    brightness = image.astype(np.float32) / 128
    spread = levels * np.sqrt(0.5 + 0.5 * brightness)
    noise = rng.standard_normal(image.shape, np.float32)
    return _bytes(image + spread * noise)


def moved(image: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Motion blur along a straight line of that length, in a random direction."""
    angle = rng.uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, 2 * round(pixels) + 3) * pixels
    total = np.zeros(image.shape, np.float32)
    for step in steps:
        shift = np.array([[1, 0, step * np.cos(angle)], [0, 1, step * np.sin(angle)]])
        total += cv2.warpAffine(
            image, shift, (image.shape[1], image.shape[0]), borderMode=cv2.BORDER_REPLICATE
        )
    return _bytes(total / len(steps))


def defocused(image: np.ndarray, radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: every point becomes a disc of that radius."""
    side = 2 * int(np.ceil(radius_px)) + 1
    rows, columns = np.indices((side, side)) - side // 2
    disc = np.clip(radius_px + 0.5 - np.hypot(rows, columns), 0, 1).astype(np.float32)
    return _bytes(
        cv2.filter2D(image.astype(np.float32), -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    )


def exposed(image: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """Too much or too little light, by that many stops; what is above white is cut off."""
    sign = rng.choice([-1, 1])
    return _lit(image, np.full(3, 2.0 ** (sign * stops)))


def tinted(image: np.ndarray, stops: float, rng: np.random.Generator) -> np.ndarray:
    """White balance for another lamp: red and blue go apart from green, one up, the other down, by
    that many stops each."""
    sign = rng.choice([-1, 1])
    return _lit(image, 2.0 ** (sign * stops * np.array([1, 0, -1])))


def compressed(image: np.ndarray, loss: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 100 less the loss, in per cent."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, round(100 - loss)]
    _, data = cv2.imencode('.jpg', np.ascontiguousarray(image[..., ::-1]), quality)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def _lit(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """A picture with its light multiplied, (3,) for red, green and blue."""
    light = (image / np.float32(255)) ** GAMMA
    return _bytes(255 * np.clip(light * gains, 0, 1) ** (1 / GAMMA))


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
