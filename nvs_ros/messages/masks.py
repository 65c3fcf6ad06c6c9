"""Objects of which nobody says the pose: their masks, and where mask and depth put them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from nvs_ros.geometry import Camera, inverse
from nvs_ros.geometry.from_mask import place_from_mask
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.images import has_labels, labels_in, mask_from_compressed, mask_from_image
from nvs_ros.messages.objects import MAX_OBJECTS, SeenObject


def masked_objects(
    message: Image | CompressedImage, configuration: Configuration
) -> list[SeenObject]:
    """The objects of a mask, without poses: one of a binary mask, one for each label of labels.

    Labels are ids, ``'7'``: they tell objects of a frame apart, and nothing follows them from frame
    to frame. The only object of a binary mask has none.

    Raises
    ------
    ValueError
        There is no object, not the one that is configured, or too many.
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
        raise ValueError(f'expected {wanted} in the mask, got {labels[:MAX_OBJECTS]}')
    if len(chosen) > MAX_OBJECTS:
        raise ValueError(f'expected at most {MAX_OBJECTS} labels in the mask, got {len(chosen)}')
    return chosen


def mask(message: Image | CompressedImage, label: int, values: str) -> np.ndarray:
    """Mask (height, width) uint8, 255 on the object; see :func:`mask_from_image`."""
    if isinstance(message, CompressedImage):
        return mask_from_compressed(message, label, values)
    return mask_from_image(message, label, values)


def other_things(messages: dict[str, Any], label: int, values: str) -> np.ndarray | None:
    """What may hide a part of an object: occluders and, where there is depth, other labels.

    Without depth nobody knows whether what has another label is before the object or behind it.

    Parameters
    ----------
    messages : dict
        Of a frame, by input.
    label : int
        Of the object; 0: the mask has no labels.
    values : str
        As the setting ``input.mask_values``.

    Returns
    -------
    (height, width) bool
        None where there is none.

    Raises
    ------
    ValueError
        The pictures are not of one size.
    """
    found = []
    if (occluders := messages.get('occluders')) is not None:
        found.append(labels_in(occluders) > 0)
    if label and 'depth' in messages and has_labels(messages['mask'], values):
        labels = labels_in(messages['mask'])
        found.append((labels > 0) & (labels != label))
    if len({other.shape for other in found}) > 1:
        raise ValueError(
            f'occluders: expected {found[1].shape} like the mask, got {found[0].shape}'
        )
    return np.logical_or.reduce(found) if found else None


def located(
    seen: SeenObject,
    instance: np.ndarray,
    camera: Camera,
    depth_m: np.ndarray,
    unknown: np.ndarray | None,
    frame_from_camera: np.ndarray,
    frame_from_reference: np.ndarray | None,
) -> SeenObject:
    """The object with the pose, in the frame of the image, and the size that mask and depth say.

    Raises
    ------
    ValueError
        They do not; see :func:`nvs_ros.geometry.from_mask.place_from_mask`.
    """
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
