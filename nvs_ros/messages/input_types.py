"""The message types that each input of a frame may have."""

from __future__ import annotations

from collections.abc import Collection

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from nvs_ros.messages.objects import POSE_TYPES, detections_type
from nvs_ros.settings import InputSettings


def input_types(settings: InputSettings) -> dict[str, tuple[type, ...]]:
    """Input of a frame -> types of message that it may have, the usual one first.

    Raises
    ------
    ValueError
        ``input.objects`` is ``'detections'`` and vision_msgs is not installed.
    """
    picture = {'raw': (Image,), 'compressed': (CompressedImage,)}
    types: dict[str, tuple[type, ...]] = {
        'image': picture[settings.image_transport],
        'camera_info': (CameraInfo,),
        'mask': picture[settings.mask_transport],
    }
    if settings.objects == 'detections':
        types['detections'] = (detections_type(),)
    elif settings.objects == 'pose':
        types['object_pose'] = POSE_TYPES
    if settings.reads_depth:
        types['depth'] = (Image,)
    if settings.occluders:
        types['occluders'] = picture[settings.mask_transport]
    return types


def picture_transports(settings: InputSettings) -> dict[str, str]:
    """Input -> transport (raw or compressed), for inputs that may be compressed."""
    mask = settings.mask_transport
    return {'image': settings.image_transport, 'mask': mask, 'occluders': mask}


def type_name(kind: type) -> str:
    """ROS name of a message class, such as ``sensor_msgs/msg/Image``."""
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'


def type_names(kinds: Collection[type]) -> str:
    """ROS names of message classes, joined by "or"."""
    return ' or '.join(map(type_name, kinds))
