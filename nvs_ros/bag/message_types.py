"""Message class and deserialiser of a topic in a bag.

Each topic is read with the definitions in its own file, so that a wrong definition of one topic
does not affect others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from nvs_ros.bag.messages import message_class, message_from_bag
from nvs_ros.bag.storage import unpacked_message
from nvs_ros.bag.topics import Channel

TYPE = re.compile(r'([A-Za-z]\w*)/(?:msg/)?([A-Za-z]\w*)')
IDL_SEPARATOR = '=' * 80 + '\n'


def topic_type(channel: Channel) -> type:
    """Message class of a topic.

    Raises
    ------
    ValueError
        Its messages are not ROS messages, or their type is not installed.
    """
    if channel.serialization not in ('cdr', 'ros1'):
        raise ValueError(
            f'the messages of {channel.topic} are serialised as {channel.serialization!r}, not as '
            'those of ROS'
        )
    name = _name(channel)
    kind = message_class(name) if name else None
    if kind is None:
        raise ValueError(f'the type {channel.type or "(none)"} of {channel.topic} is not installed')
    return kind


def reader(channel: Channel) -> Callable[[bytes], Any]:
    """Function that makes a message of the installed ROS 2 from its bytes.

    Raises
    ------
    ValueError
        As for :func:`topic_type`, or the definition in the file cannot be read.
    """
    kind, name = topic_type(channel), _name(channel)
    try:
        store = _typestore(channel.definition_format, channel.definition, name, _is_ros1(channel))
        deserialize = store.deserialize_ros1 if _is_ros1(channel) else store.deserialize_cdr
        store.get_msgdef(name)
    except Exception as error:  # rosbags raises errors of any type for malformed definitions
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(
            f'the definition of {channel.type} of {channel.topic} cannot be read: '
            f'{type(error).__name__}: {reason}'
        ) from error
    return lambda data: message_from_bag(kind, deserialize(unpacked_message(data), name))


def _is_ros1(channel: Channel) -> bool:
    return channel.serialization == 'ros1'


def _name(channel: Channel) -> str:
    """Type as ``package/msg/Name``, also if ``msg`` is left out; ``''`` if it is no message."""
    found = TYPE.fullmatch(channel.type)
    return f'{found[1]}/msg/{found[2]}' if found else ''


# The same few types come again in every bag, and the text of one takes tens of milliseconds.
@functools.lru_cache(maxsize=256)
def _typestore(form: str, definition: bytes, name: str, is_ros1: bool) -> Any:
    text = definition.decode()
    if form in ('ros2msg', 'ros1msg'):
        types = get_types_from_msg(text, name)
    elif form in ('ros2idl', 'omgidl'):
        parts = text.split(IDL_SEPARATOR)
        # Each part after a separator begins with a line that names it.
        texts = [part.partition('\n')[2] for part in parts[1:]] if len(parts) > 1 else parts
        types = {}
        for part in texts:
            types.update(get_types_from_idl(part))
    elif form in ('', 'unknown'):
        # sqlite3 bags from before Iron hold no definitions: use those of the latest ROS 2.
        return get_typestore(Stores.ROS1_NOETIC if is_ros1 else Stores.LATEST)
    else:
        raise ValueError(f'expected ros2msg or ros2idl, got {form!r}')
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store
