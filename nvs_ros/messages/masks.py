"""Masks of objects, and objects whose pose is estimated from mask and depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from nvs_ros.errors import OverLimit
from nvs_ros.geometry import Camera, inverse
from nvs_ros.geometry.from_mask import place_from_mask
from nvs_ros.geometry.like_mask import check_like_mask
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.images import has_labels, labels_in, mask_from_compressed, mask_from_image
from nvs_ros.messages.objects import SeenObject

SHOWN = 100
"""Most labels that an error names."""


def masked_objects(
    message: Image | CompressedImage, configuration: Configuration
) -> list[SeenObject]:
    """The objects in a mask, without poses: one in a binary mask, one for each label in a label
    image.

    The label, such as ``'7'``, is the id of the object; it is not tracked from frame to frame. The
    only object of a binary mask has the id ``''``.

    Raises
    ------
    OverLimit
        There are more labels than ``limits.objects``.
    ValueError
        There is no object, or the configured one is missing.
    """
    settings, frame_id = configuration.object, message.header.frame_id
    size_m = settings.diameter_m or None
    if not has_labels(message, configuration.input.mask_values):
        return [SeenObject('', frame_id, None, size_m, 0)]
    labels = [int(label) for label in np.unique(labels_in(message)) if label]
    chosen = [
        SeenObject(str(label), frame_id, None, size_m, label)
        for label in labels
        if settings.label in (0, label) and settings.id in ('', str(label))
    ]
    if not chosen:
        wanted = settings.id or settings.label or 'a label'
        raise ValueError(f'expected {wanted} in the mask, got {labels[:SHOWN]}')
    if len(chosen) > (most := configuration.limits.objects):
        raise OverLimit(
            f'expected at most {most} labels in the mask (limits.objects), got {len(chosen)}'
        )
    return chosen


def mask(message: Image | CompressedImage, label: int, values: str) -> np.ndarray:
    """Mask (height, width) uint8, 255 on the object.

    See :func:`~nvs_ros.messages.images.mask_from_image`, also for errors.
    """
    if isinstance(message, CompressedImage):
        return mask_from_compressed(message, label, values)
    return mask_from_image(message, label, values)


def other_things(messages: dict[str, Any], label: int, values: str) -> np.ndarray | None:
    """Pixels that may hide a part of an object: occluders and, if there is depth, other labels.

    Without depth it is not known whether an object with another label is in front or behind.

    Parameters
    ----------
    messages : dict
        The messages of a frame by input.
    label : int
        Label of the object; 0: it has none.
    values : str
        The setting ``input.mask_values``.

    Returns
    -------
    (height, width) bool or None
        None without such inputs.

    Raises
    ------
    ValueError
        Occluders and mask differ in size, or cannot be read.
    """
    found = []
    if (occluders := messages.get('occluders')) is not None:
        found.append(labels_in(occluders) > 0)
    if label and 'depth' in messages and has_labels(messages['mask'], values):
        labels = labels_in(messages['mask'])
        found.append((labels > 0) & (labels != label))
    if not found:
        return None
    check_like_mask(found[-1].shape, occluders=found[0])
    return np.logical_or.reduce(found)


def located(
    seen: SeenObject,
    instance: np.ndarray,
    camera: Camera,
    depth_m: np.ndarray | None,
    unknown: np.ndarray | None,
    frame_from_camera: np.ndarray,
    frame_from_reference: np.ndarray | None,
) -> SeenObject:
    """Add pose and, if it is not known, size to an object, estimated from mask and depth.

    Parameters
    ----------
    seen : SeenObject
        Without pose.
    instance : (H, W) uint8
        Mask of the object.
    camera : Camera
        Of mask and depth.
    depth_m : (H, W) float or None
        Metres along the optical axis (REP-118).
    unknown : (H, W) bool or None
        Pixels of things that may hide the object.
    frame_from_camera : (4, 4) float64
        Pose of the camera in the frame of the image's header.
    frame_from_reference : (4, 4) float64 or None
        Pose of the frame whose z axis points up.

    Returns
    -------
    SeenObject
        With its pose in the frame of the image's header.

    Raises
    ------
    ValueError
        There is no depth, or the pose cannot be estimated, see
        :func:`nvs_ros.geometry.from_mask.place_from_mask`.
    """
    if depth_m is None:
        raise ValueError('depth: expected an image of it for an object without a pose, got none')
    camera_from_reference = None
    if frame_from_reference is not None:
        camera_from_reference = (inverse(frame_from_camera) @ frame_from_reference)[:3, :3]
    place = place_from_mask(instance > 0, camera, depth_m, camera_from_reference, unknown)
    return replace(
        seen,
        pose=frame_from_camera @ place.camera_from_object,
        size_m=seen.size_m or place.size_m,
        assumptions=place.assumptions,
    )
