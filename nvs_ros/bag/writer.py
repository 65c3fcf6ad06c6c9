"""Writing messages to an mcap file."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosidl_parser.definition import NamespacedType

from nvs_interfaces.msg import NovelView, NovelViewArray
from nvs_ros.bag.messages import message_class

PRIMITIVES = {'double': 'float64', 'float': 'float32', 'boolean': 'bool', 'octet': 'byte'}
"""Names of rclpy -> names in .msg files, where they differ."""


class BagWriter:
    """Writes one mcap file, which appears when it is complete; use it as a context manager.

    The file holds the definitions of its messages, so that any reader of mcap reads it.

    Parameters
    ----------
    path : Path
        An existing file is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
        self._types = get_typestore(Stores.LATEST)
        # Version 8 is read by rosbag2 of Humble and later.
        self._writer = Writer(self._folder / 'bag', version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Append a message.

        Parameters
        ----------
        topic : str
        stamp_ns : int
            When it is to have been recorded, nanoseconds.
        message : Any
            A message of rclpy.
        """
        if topic not in self._connections:
            self._learn(type(message))
            self._connections[topic] = self._writer.add_connection(
                topic, _type_name(type(message)), typestore=self._types
            )
        self._writer.write(self._connections[topic], stamp_ns, serialize_message(message))

    def close(self, complete: bool = True) -> None:
        """Finish the file, or throw it away."""
        try:
            if complete:
                self._writer.close()
                (self._folder / 'bag' / 'bag.mcap').replace(self._path)
            else:
                self._writer.abort()
        finally:
            shutil.rmtree(self._folder)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.close(complete=kind is None)

    def _learn(self, kind: type) -> None:
        """Make rosbags know a type that it does not bring, and those inside it."""
        if _type_name(kind) in self._types.fielddefs:
            return
        for slot in kind.SLOT_TYPES:
            element = getattr(slot, 'value_type', slot)
            if isinstance(element, NamespacedType):
                self._learn(message_class('/'.join(element.namespaced_name())))
        self._types.register(get_types_from_msg(_definition(kind), _type_name(kind)))


def write_views(
    writer: BagWriter, stamp_ns: int, message: NovelViewArray, names: Sequence[str]
) -> None:
    """Write what a node called ``/nvs`` publishes for an object in a frame.

    Parameters
    ----------
    writer : BagWriter
    stamp_ns : int
        When it is to have been recorded, nanoseconds.
    message : NovelViewArray
    names : sequence of str
        ``view_0``, ...: of each view, under which it goes to topics of its own as well; none for
        an object whose views have no such topics.
    """
    writer.write('/nvs/views', stamp_ns, message)
    for name, view in zip(names, message.views, strict=bool(names)):
        write_view(writer, stamp_ns, name, view)


def write_view(writer: BagWriter, stamp_ns: int, name: str, view: NovelView) -> None:
    """Write ``/nvs/<name>/image``, ``camera_info``, ``mask`` and ``measured`` of one view."""
    for part in ('image', 'camera_info', 'mask', 'measured'):
        writer.write(f'/nvs/{name}/{part}', stamp_ns, getattr(view, part))


def _type_name(kind: type) -> str:
    return f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'


def _definition(kind: type) -> str:
    """Text of a .msg file with the fields of a class; the file itself may not be installed."""
    fields = kind.get_fields_and_field_types().items()
    return '\n'.join(f'{_field_type(description)} {name}' for name, description in fields)


def _field_type(description: str) -> str:
    """``sequence<double, 3>`` -> ``float64[<=3]``."""
    sequence = re.fullmatch(r'sequence<(.+?)(?:, (\d+))?>', description)
    element = sequence[1] if sequence else description
    limit = f'<={sequence[2]}' if sequence and sequence[2] else ''
    name, bracket, length = element.partition('[')
    return PRIMITIVES.get(name, name) + bracket + length + (f'[{limit}]' if sequence else '')
