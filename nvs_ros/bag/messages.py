"""Convert messages of a bag to message classes of the installed ROS 2."""

from __future__ import annotations

import array
import importlib
from typing import Any

import numpy as np
from rosidl_parser.definition import NamespacedType


def message_class(name: str) -> type[Any] | None:
    """Class of a type such as ``sensor_msgs/msg/Image``; None if it is not installed."""
    package, _, kind = name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind, None)
    except ImportError:
        return None


def nested_class(element: NamespacedType) -> type[Any]:
    """Class of the messages in a field of a message; raises ValueError if it is not installed."""
    name = '/'.join(element.namespaced_name())
    kind = message_class(name)
    if kind is None:
        raise ValueError(f'expected the messages {name} to be installed, found none')
    return kind


def message_from_bag(kind: type[Any], source: Any) -> Any:
    """Copy the fields of a message that rosbags has read to one of the installed ROS 2.

    Fields are matched by name, so that messages of ROS 1 (``header.seq``, capital K and D of
    CameraInfo) and of other distributions can be converted too. Fields that exist only in the bag
    are dropped; fields that exist only in the message class keep their defaults.

    Parameters
    ----------
    kind : type
        Message class.
    source : Any
        Message of the type of the same name, as rosbags deserialises it.
    """
    message = kind()
    given = {name: getattr(source, name) for name in source.__dataclass_fields__}
    # Constants are included: the constant POINTS of a Marker must not replace its points.
    values = {name.lower(): value for name, value in given.items()} | given
    for name, slot in zip(kind.get_fields_and_field_types(), kind.SLOT_TYPES, strict=True):
        if name in values:
            default = getattr(message, name)
            setattr(message, name, _value(slot, default, values[name]))
    return message


def _value(slot: Any, default: Any, value: Any) -> Any:
    if isinstance(slot, NamespacedType):
        return message_from_bag(type(default), value)
    if isinstance(default, np.ndarray):
        return np.asarray(value, default.dtype)
    if isinstance(default, array.array):
        # rclpy stores an array.array without a check; bytes or an ndarray are checked item by item.
        return array.array(default.typecode, np.asarray(value, default.typecode).tobytes())
    if isinstance(default, bytes):
        return bytes([value])
    if isinstance(default, list):
        return _list(slot.value_type, value)
    return value


def _list(element: Any, values: Any) -> list:
    if isinstance(element, NamespacedType):
        kind = nested_class(element)
        return [message_from_bag(kind, value) for value in values]
    values = values.tolist() if isinstance(values, np.ndarray) else list(values)
    is_bytes = getattr(element, 'typename', '') == 'octet'
    return [bytes([value]) for value in values] if is_bytes else values
