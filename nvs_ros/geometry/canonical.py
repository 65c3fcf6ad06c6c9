"""Warp an image as it was taken into the canonical camera, the one Zero-1-to-3 was trained on.

The canonical camera is square and 49.1 degrees wide; it looks at the centre of the object's
bounding box without roll, from 1.5 to 2.2 times the longest side of that box, and the background is
white (Zero-1-to-3, section 4 and its render script).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nvs_ros.geometry.camera import CANONICAL_FOCAL, Camera
from nvs_ros.geometry.object_size import object_size
from nvs_ros.geometry.resample import middle_rays, minification, redraw
from nvs_ros.geometry.rigid import check_rigid
from nvs_ros.geometry.spherical import (
    Spherical,
    canonical_pose,
    pose_from_spherical,
    spherical_from_pose,
)

SOLID = 128
"""Least coverage (0 ... 255) with which a pixel counts as part of the object."""


@dataclass(frozen=True)
class TrainedRange:
    """Range of the training cameras; a view outside it carries a warning.

    Parameters
    ----------
    radius : (float, float)
        Least and greatest distance in model units (Zero-1-to-3's render script).
    elevation_rad : (float, float)
        Least and greatest elevation; for Zero-1-to-3 the 5th and 95th percentile.

    Raises
    ------
    ValueError
        A range is not low <= high, or a radius is not positive.
    """

    radius: tuple[float, float] = (1.5, 2.2)
    elevation_rad: tuple[float, float] = (math.radians(-58), math.radians(58))

    def __post_init__(self) -> None:
        if not 0 < self.radius[0] <= self.radius[1]:
            raise ValueError(f'radius: expected 0 < low <= high, got {self.radius}')
        if not self.elevation_rad[0] <= self.elevation_rad[1]:
            raise ValueError(f'elevation_rad: expected low <= high, got {self.elevation_rad}')


@dataclass(frozen=True, eq=False)
class CanonicalView:
    """The image that the network is shown, and the pose of its camera.

    Parameters
    ----------
    image : uint8 (S, S, 3)
        RGB on white.
    mask : uint8 (S, S)
        Coverage by the object, 0 ... 255.
    camera : Camera
        Of ``image``. After a digital zoom its focal length differs from the training camera's.
    object_from_camera : ndarray (4, 4)
        Pose of a level camera that looks at the origin; metres.
    unit_m : float
        Metres per model unit: the longest side of the object's bounding box.
    radius : float
        Distance in model units that the network is told; after a digital zoom not the true one.
    assumptions : tuple of str
        What was assumed instead of measured, in sentences for a person.
    trained : TrainedRange
        Of the network that is shown the image.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    camera: Camera
    object_from_camera: NDArray[np.float64]
    unit_m: float
    radius: float
    assumptions: tuple[str, ...] = ()
    trained: TrainedRange = TrainedRange()

    @cached_property
    def spherical(self) -> Spherical:
        """Azimuth, elevation and radius (metres) of the camera about the object."""
        return spherical_from_pose(self.object_from_camera)


def canonical_view(
    image: NDArray[np.uint8],
    mask: NDArray,
    camera: Camera,
    object_from_camera: ArrayLike,
    *,
    object_size_m: float | None = None,
    depth_m: NDArray | None = None,
    image_size: int = 256,
    trained: TrainedRange | None = None,
) -> CanonicalView:
    """Warp a calibrated image into the canonical camera.

    Undistortion, rotation about the camera's centre and change of focal length are one resampling.
    The object is laid on white with its mask first, so that nothing of the background is blended
    in at its edge.

    An image from a distance outside ``trained.radius`` is zoomed digitally as if it were taken from
    the middle of that range: the object then has the right size in the image, but the perspective
    of the true distance.

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB.
    mask : bool or uint8 (H, W)
        The object; as uint8 its coverage 0 ... 255.
    camera : Camera
        Of ``image``.
    object_from_camera : array_like (4, 4)
        Metres; object frame with its origin in the centre of the bounding box and z up.
    object_size_m : float, optional
        Longest side of the object's bounding box; estimated from ``depth_m`` or the mask when
        omitted.
    depth_m : float (H, W), optional
        Depth along the optical axis (REP-118), metres, aligned with ``image``; NaN and 0 are
        unknown.
    image_size : int
        S, pixels.
    trained : TrainedRange, optional
        Of the network; Zero-1-to-3's own when omitted.

    Raises
    ------
    ValueError
        Wrong shapes or types, a pose that is not rigid, a size that is not positive, an empty
        mask, an object behind the camera or around it, or no object pixel left in the canonical
        image.
    """
    alpha = check_picture(image, mask, camera)
    transform = check_rigid(object_from_camera, 'object_from_camera')
    canonical = canonical_pose(transform)
    camera_from_canonical = transform[:3, :3].T @ canonical[:3, :3]
    if not np.isfinite(camera.project(camera_from_canonical[:, 2])).all():
        raise ValueError('object_from_camera: expected an object before the camera, got one behind')
    distance = float(np.linalg.norm(transform[:3, 3]))
    size, assumptions = object_size(
        alpha >= SOLID, camera, transform, camera_from_canonical, object_size_m, depth_m
    )
    if distance <= size / 2:
        raise ValueError(
            f'object_from_camera: expected a camera outside the object of {size:.3g} m, '
            f'got one {distance:.3g} m from its centre'
        )
    trained = trained or TrainedRange()
    radius, remark = _model_radius(distance / size, trained.radius)
    view = Camera.canonical(image_size, zoom=distance / size / radius)
    ratio = minification(camera, view, camera_from_canonical, middle_rays(view))
    drawn = redraw(*_on_white(image, alpha, camera), view, camera_from_canonical, ratio)
    _check_drawn(drawn)
    assumptions += remark + _edge_remarks(alpha, drawn[..., 3])
    image, mask = drawn[..., :3].copy(), drawn[..., 3].copy()
    return CanonicalView(image, mask, view, canonical, size, radius, assumptions, trained)


def photograph_view(
    image: NDArray[np.uint8],
    mask: NDArray,
    *,
    image_size: int = 256,
    elevation_rad: float = 0.0,
    fill: float = 200 / 256,
    enlarge: bool = True,
    trained: TrainedRange | None = None,
) -> CanonicalView:
    """Make a canonical image of a photograph without calibration: crop, scale, centre on white.

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB.
    mask : bool or uint8 (H, W)
        The object; as uint8 its coverage 0 ... 255.
    image_size : int
        S, pixels.
    elevation_rad : float
        Elevation from which the photograph is assumed to be taken; positive is above the object.
    fill : float
        Longer side of the object over the side of the image; 200 / 256 in the original demo.
    enlarge : bool
        Whether an object that is smaller than ``fill`` is enlarged; the original demo does not.
    trained : TrainedRange, optional
        Of the network; Zero-1-to-3's own when omitted.

    Returns
    -------
    CanonicalView
        Azimuth 0; ``unit_m`` is 1, so its metres are model units.

    Raises
    ------
    ValueError
        Wrong shapes or types, an empty mask or one of a single pixel, ``fill`` not in (0, 1], or an
        elevation beyond a pole.
    """
    if not 0 < fill <= 1:
        raise ValueError(f'fill: expected more than 0 and at most 1, got {fill}')
    if not abs(elevation_rad) <= math.pi / 2:
        raise ValueError(f'elevation_rad: expected -pi/2 ... pi/2, got {elevation_rad}')
    alpha = check_picture(image, mask, None)
    x, y, width, height = cv2.boundingRect((alpha >= SOLID).astype(np.uint8))
    scale = fill * image_size / max(width, height)
    scale = scale if enlarge else min(1.0, scale)
    view = Camera.canonical(image_size)
    focal = view.matrix[0, 0] / scale
    centre_x, centre_y = x + (width - 1) / 2, y + (height - 1) / 2
    matrix = np.array([[focal, 0, centre_x], [0, focal, centre_y], [0, 0, 1]])
    photograph = Camera(image.shape[1], image.shape[0], matrix)
    drawn = redraw(*_on_white(image, alpha, photograph), view, np.eye(3), 1 / scale)
    _check_drawn(drawn)
    radius = CANONICAL_FOCAL * image_size / (scale * max(width, height))
    pose = pose_from_spherical(Spherical(0.0, elevation_rad, radius))
    assumptions = (
        'the photograph is not calibrated: the size of the object is unknown and taken as 1',
        f'the photograph is taken from {math.degrees(elevation_rad):.0f} degrees above the object',
        *_edge_remarks(alpha, drawn),
    )
    image, mask = drawn[..., :3].copy(), drawn[..., 3].copy()
    trained = trained or TrainedRange()
    return CanonicalView(image, mask, view, pose, 1.0, radius, assumptions, trained)


def check_picture(image: NDArray, mask: NDArray, camera: Camera | None) -> NDArray[np.uint8]:
    """Check an image (H, W, 3) uint8 and its mask; give the mask as coverage 0 ... 255.

    Raises
    ------
    ValueError
        Image or mask has a wrong type or shape, the image has another size than the camera, or the
        mask is empty.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f'image: expected uint8 (H, W, 3), got {image.dtype} {image.shape}')
    if mask.dtype not in (np.uint8, np.bool_) or mask.shape != image.shape[:2]:
        raise ValueError(
            f'mask: expected bool or uint8 {image.shape[:2]}, got {mask.dtype} {mask.shape}'
        )
    if camera is not None and image.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f'image: expected {camera.width}x{camera.height} as the camera says, '
            f'got {image.shape[1]}x{image.shape[0]}'
        )
    if not mask.any():
        raise ValueError('mask: expected some object pixels (true, or above 0), got none')
    return coverage(mask)


def coverage(mask: NDArray) -> NDArray[np.uint8]:
    """A mask (H, W), bool or uint8, as coverage 0 ... 255.

    A uint8 mask without a value of at least :data:`SOLID` is taken as binary: above 0 is the
    object.
    """
    if mask.dtype == np.bool_ or mask.max() < SOLID:
        return (mask > 0).astype(np.uint8) * 255
    return mask


def _check_drawn(drawn: NDArray[np.uint8]) -> None:
    if not drawn[..., 3].any():
        raise ValueError(
            'mask: expected an object that shows in the canonical picture, got one that is too '
            'small, or lies elsewhere than its pose says'
        )


def _on_white(
    image: NDArray[np.uint8], alpha: NDArray[np.uint8], camera: Camera
) -> tuple[NDArray[np.uint8], Camera]:
    """The crop around the object: RGB on white with coverage (H, W, 4), and the crop's camera."""
    x, y, width, height = cv2.boundingRect(alpha)
    x, y = max(0, x - 1), max(0, y - 1)
    window = np.s_[y : y + height + 2, x : x + width + 2]
    colours, alpha = image[window], alpha[window]
    if not ((alpha > 0) & (alpha < 255)).any():
        colours, alpha = _soft_edge(colours, alpha)
    drawn = np.full_like(colours, 255)
    cv2.copyTo(colours, alpha, drawn)
    edge = np.nonzero((alpha > 0) & (alpha < 255))
    weight = alpha[edge][:, None] / np.float32(255)
    drawn[edge] = np.rint(colours[edge] * weight + 255 * (1 - weight))
    matrix = camera.matrix.copy()
    matrix[:2, 2] -= x, y
    rows, columns = alpha.shape
    cut_out = Camera(columns, rows, matrix, camera.distortion, camera.distortion_model)
    return np.dstack([drawn, alpha]), cut_out


def _soft_edge(
    colours: NDArray[np.uint8], alpha: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Anti-alias a binary mask: an edge one pixel wide instead of stairs.

    The mask is blurred by 1 px and steepened until a straight edge falls from 255 to 0 within a
    pixel again. Pixels that this adds outside the mask take the mean colour of the object pixels
    beside them, so that no background comes in.
    """
    blurred = cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), 1, borderType=cv2.BORDER_REPLICATE)
    soft = np.clip((blurred - 127.5) * math.sqrt(2 * math.pi) + 127.5, 0, 255).astype(np.uint8)
    colours = colours * (alpha > 0)[..., None]
    added = np.nonzero((soft > 0) & (alpha == 0))
    sums = cv2.boxFilter(colours, cv2.CV_16U, (3, 3), normalize=False)
    counts = cv2.boxFilter(alpha // 255, cv2.CV_16U, (3, 3), normalize=False)
    colours[added] = sums[added] // np.maximum(counts[added], 1)[:, None]
    return colours, soft


def _model_radius(
    radius: float, radius_range: tuple[float, float]
) -> tuple[float, tuple[str, ...]]:
    low, high = radius_range
    if low <= radius <= high:
        return radius, ()
    remark = (
        f'the camera is {radius:.2f} object sizes away, the network knows {low:g} to {high:g}: '
        'the picture is zoomed digitally and its perspective is not quite the one trained on'
    )
    return (low + high) / 2, (remark,)


def _edge_remarks(alpha: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> tuple[str, ...]:
    remarks = []
    if touches_edge(alpha):
        remarks.append('the mask touches the edge of the picture: the object may be cut off')
    if touches_edge(drawn):
        remarks.append('the object is larger than the canonical picture: check its size and pose')
    return tuple(remarks)


def touches_edge(alpha: NDArray[np.uint8]) -> bool:
    """Whether the object in a mask (H, W) reaches the border of its image."""
    edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
    return any((edge >= SOLID).any() for edge in edges)
