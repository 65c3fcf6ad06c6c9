"""Reading bags: mcap and sqlite3 of ROS 2, files or folders, and the .bag of ROS 1."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag1, QosDurability
from rosbags.typesys import Stores, get_typestore

from nvs_ros.bag.messages import message_class, message_from_bag
from nvs_ros.errors import UserError

SUFFIXES = ('.mcap', '.db3', '.bag')


def recorded_topics(path: Path) -> set[str]:
    """Names of all topics in a bag, also of those whose types are not installed.

    Raises
    ------
    UserError
        The bag cannot be read.
    """
    with contextlib.closing(_open(path)) as reader:
        return {connection.topic for connection in reader.connections}


class Topic(NamedTuple):
    """A topic of a bag."""

    kind: type
    """Message class."""
    count: int
    latched: bool
    """Late subscribers are to get the last message too."""


class Bag:
    """An open bag; use it as a context manager.

    Parameters
    ----------
    path : Path
        A file ending in one of :data:`SUFFIXES`, or the folder of a ROS 2 bag.
    topics : collection of str, optional
        Topics to read; all when omitted.

    Raises
    ------
    UserError
        The bag cannot be read, lacks a topic, or holds a type that is not installed.
    """

    def __init__(self, path: Path, topics: Collection[str] = ()) -> None:
        self._path = path
        self._reader = _open(path)
        try:
            self._connections = self._choose(topics)
            self.topics = self._describe()
        except UserError:
            self.close()
            raise

    @property
    def start_ns(self) -> int:
        """When the first message was recorded."""
        return self._reader.start_time

    @property
    def message_count(self) -> int:
        """Messages on the chosen topics."""
        return sum(topic.count for topic in self.topics.values())

    def messages(self) -> Iterator[tuple[str, int, Any]]:
        """Topic, nanoseconds of recording and message, in the order of recording.

        Raises
        ------
        UserError
            The rest of the bag cannot be read.
        """
        try:
            for connection, recorded_ns, data in self._reader.messages(self._connections):
                source = self._reader.deserialize(data, connection.msgtype)
                message = message_from_bag(self.topics[connection.topic].kind, source)
                yield connection.topic, recorded_ns, message
        except GeneratorExit:
            raise
        except Exception as error:
            raise _unreadable(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, topics: Collection[str]) -> list[Connection]:
        connections = [c for c in self._reader.connections if c.msgcount]
        if not connections:
            raise UserError(f'{self._path} holds no messages')
        if missing := set(topics) - {c.topic for c in connections}:
            there = ', '.join(sorted({c.topic for c in connections}))
            raise UserError(f'{self._path} has no topic {sorted(missing)[0]}; it has {there}')
        return [c for c in connections if not topics or c.topic in topics]

    def _describe(self) -> dict[str, Topic]:
        topics: dict[str, Topic] = {}
        for connection in self._connections:
            name = connection.topic
            kind = message_class(connection.msgtype)
            if kind is None:
                raise UserError(
                    f'{self._path}: the type {connection.msgtype} of {name} is not installed; '
                    'choose other topics with --topics'
                )
            before = topics.get(name, Topic(kind, 0, False))
            if before.kind is not kind:
                raise UserError(f'{self._path}: {name} has messages of several types')
            topics[name] = Topic(
                kind, before.count + connection.msgcount, before.latched or _is_latched(connection)
            )
        return topics


def _open(path: Path) -> AnyReader:
    if not path.exists():
        raise UserError(f'no such bag: {path}')
    if path.is_file() and path.suffix not in SUFFIXES:
        raise UserError(f'expected a bag ({", ".join(SUFFIXES)} or a folder), got {path}')
    try:
        # Bags of sqlite3 from before Iron hold no definitions: those of a later ROS 2 stand in.
        reader = AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
        reader.open()
    except Exception as error:
        raise _unreadable(path, error) from error
    return reader


def _unreadable(path: Path, error: Exception) -> UserError:
    """rosbags and the libraries below it raise whatever broken bytes make them raise."""
    reason = ' '.join(str(error).split()) or type(error).__name__
    return UserError(f'cannot read {path}: {reason}')


def _is_latched(connection: Connection) -> bool:
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return bool(connection.ext.latching)
    profiles = connection.ext.offered_qos_profiles
    return any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles)
