"""Bring a frame's mask, depth and picture to agree where one of them is wrong."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from nvs_ros.geometry.agreement import mask_by_depth, outline_misfit
from nvs_ros.geometry.canonical import SOLID, canonical_pose, check_picture
from nvs_ros.geometry.like_mask import check_like_mask
from nvs_ros.geometry.object_size import object_size
from nvs_ros.geometry.occlusion import hidden_remarks, things_before
from nvs_ros.observation import Frame
from nvs_ros.silhouette import mask_iou

ALIKE = 0.97
"""IoU of the given mask and that of the depth from which they are taken to agree."""
APART = 0.85
"""IoU below which depth that does not fit the picture is not used."""
BETTER = 0.02
"""How much better the outline of the depth's mask must lie on edges of colour."""


def reconcile(frame: Frame) -> tuple[Frame, tuple[str, ...]]:
    """Bring a frame's mask, depth and picture to agree.

    What stands before the object in the depth becomes ``unknown`` too. Where mask and depth
    disagree the edges of colour decide: the mask follows the depth if its outline then lies on them
    better; if it lies on them worse, the depth is of another moment and is not used.

    Parameters
    ----------
    frame : Frame
        Without depth it is left as it is.

    Returns
    -------
    frame : Frame
    remarks : tuple of str
        What was changed, in sentences for a person.

    Raises
    ------
    ValueError
        Image, mask, depth and camera differ in size, the mask is empty, or the object is behind the
        camera.
    """
    if frame.depth_m is None:
        return frame, ()
    solid = check_picture(frame.image, frame.mask, frame.camera) >= SOLID
    check_like_mask(solid.shape, depth_m=frame.depth_m, unknown=frame.unknown)
    size_m = _size_m(frame, solid)
    frame, solid, remarks = _one_moment(frame, frame.depth_m, solid, size_m)
    if frame.depth_m is None:
        return frame, remarks
    unknown = np.zeros_like(solid) if frame.unknown is None else np.asarray(frame.unknown, bool)
    place = frame.camera, frame.object_from_camera, frame.depth_m, size_m
    before = things_before(solid, *place) & ~unknown
    if not before.any():
        return frame, remarks
    unknown = unknown | before
    hidden = hidden_remarks(solid, unknown, frame.depth_m, size_m)
    return dataclasses.replace(frame, unknown=unknown), (*remarks, *hidden)


def _size_m(frame: Frame, solid: np.ndarray) -> float:
    pose = np.asarray(frame.object_from_camera, np.float64)
    turn = pose[:3, :3].T @ canonical_pose(pose)[:3, :3]
    size, _ = object_size(solid, frame.camera, pose, turn, frame.object_size_m, frame.depth_m)
    return size


def _one_moment(
    frame: Frame, depth_m: np.ndarray, solid: np.ndarray, size_m: float
) -> tuple[Frame, np.ndarray, tuple[str, ...]]:
    """The frame with a mask of its depth, or without depth; its mask (H, W) bool, and remarks."""
    place = frame.camera, frame.object_from_camera, depth_m, size_m
    refined = mask_by_depth(solid, *place)
    if _alike(solid, refined) >= ALIKE or not refined.any():
        return frame, solid, ()
    given, found = _misfits(frame.image, solid, refined)
    if found < given - BETTER:
        remark = f'the mask was corrected by the depth: IoU of both {_alike(solid, refined):.2f}'
        return dataclasses.replace(frame, mask=_bytes(refined)), refined, (remark,)
    # A wrong up axis makes the wrong plane, and that a wrong mask; the depth is not to blame.
    refined = mask_by_depth(solid, *place, any_slope=True)
    if not refined.any():
        return frame, solid, ()
    alike = _alike(solid, refined)
    given, found = _misfits(frame.image, solid, refined)
    if alike < APART and given < found - BETTER:
        remark = f'the depth does not fit mask and picture and is not used: IoU {alike:.2f}'
        return dataclasses.replace(frame, depth_m=None), solid, (remark,)
    return frame, solid, ()


def _alike(solid: np.ndarray, refined: np.ndarray) -> float:
    return mask_iou(_bytes(solid), _bytes(refined))


def _misfits(image: np.ndarray, solid: np.ndarray, refined: np.ndarray) -> tuple[float, float]:
    """How far the outlines of both masks are off the edges of colour."""
    x, y, width, height = cv2.boundingRect(_bytes(solid | refined))
    window = np.s_[max(0, y - 20) : y + height + 20, max(0, x - 20) : x + width + 20]
    given, found = (outline_misfit(image[window], one[window]) for one in (solid, refined))
    return given, found


def _bytes(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.uint8) * 255
