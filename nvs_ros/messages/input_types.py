"""Which types of message each input of a frame may have."""

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
        Detections are asked for and vision_msgs is not installed.
    """
    picture = {'raw': (Image,), 'compressed': (CompressedImage,)}
    types = {
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
    """Input -> transport, of those that may be compressed."""
    mask = settings.mask_transport
    return {'image': settings.image_transport, 'mask': mask, 'occluders': mask}


def type_name(kind: type) -> str:
    """``sensor_msgs/msg/Image`` of its class."""
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'


def type_names(kinds: Collection[type]) -> str:
    """Names of types, for people."""
    return ' or '.join(map(type_name, kinds))
