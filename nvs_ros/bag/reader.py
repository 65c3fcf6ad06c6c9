"""Read bags: mcap and sqlite3 of ROS 2, as files or folders, and the .bag of ROS 1."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nvs_ros.bag import message_types
from nvs_ros.bag.storage import SUFFIXES, BagFiles, is_bag_file
from nvs_ros.bag.topics import Channel, full_name
from nvs_ros.errors import UserError


def recorded_topics(path: Path) -> set[str]:
    """Names of all topics with messages in a bag, even if their types are not installed.

    Raises
    ------
    UserError
        The bag cannot be read.
    """
    with contextlib.closing(_open(path)) as files:
        return {topic for topic, count in files.promised.items() if count}


class IncompleteBag(UserError):
    """Raised after all readable messages of a bag when some are missing or cannot be decoded."""


class Topic(NamedTuple):
    """A topic of a bag."""

    kind: type
    """Message class."""
    count: int  # type: ignore[assignment]  # hides tuple.count
    latched: bool
    """Whether late subscribers should get the last message too (transient local)."""


class Record(NamedTuple):
    """A message as it is recorded."""

    topic: str
    recorded_ns: int
    data: bytes
    read: Callable[[bytes], Any]
    """Decodes the bytes to a message."""


class Bag:
    """An open bag; use it as a context manager.

    Topic names are absolute, however they are recorded.

    Parameters
    ----------
    path : Path
        A file ending in one of :data:`~nvs_ros.bag.storage.SUFFIXES`, or the folder of a bag.
    topics : collection of str, optional
        Topics to read; when omitted, all that can be read.

    Raises
    ------
    UserError
        The bag cannot be read or is empty, or a requested topic is missing or cannot be read.
    """

    def __init__(self, path: Path, topics: Collection[str] = ()) -> None:
        self._path = path
        self._files = _open(path)
        self._read: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._problems: dict[str, str] = {}
        self.topics: dict[str, Topic] = {}
        self.left_out: dict[str, str] = {}
        """Topic that was not requested and cannot be read -> why."""
        self._readers: dict[Channel, Callable[[bytes], Any]] = {}
        try:
            self._choose([full_name(topic) for topic in topics])
        except BaseException:
            self.close()
            raise

    @property
    def start_ns(self) -> int:
        """Time at which the first message was recorded, nanoseconds."""
        return self._files.start_ns

    @property
    def message_count(self) -> int:
        """Number of messages on the chosen topics, according to the bag's index."""
        return sum(topic.count for topic in self.topics.values())

    @property
    def notes(self) -> list[str]:
        """Oddities of the bag that lose no message of the chosen topics, as sentences."""
        return [*self._files.notes, *(f'{reason}: left out' for reason in self.left_out.values())]

    def shortfall(self) -> str:
        """What is missing or broken, as a sentence; ``''`` if everything was read.

        Call it after iterating over all of :meth:`records`. :meth:`messages` raises it at its end.
        """
        broken = [
            f'{count} of {self.topics[name].count} messages on {name} cannot be decoded, '
            f'the first: {self._problems[name]}'
            for name, count in self._broken.items()
        ]
        lost = [
            f'{topic.count - self._read[name]} of {topic.count} messages on {name}'
            for name, topic in self.topics.items()
            if self._read[name] < topic.count
        ]
        parts = [f'its files lack {", ".join(lost)} that it promises'] if lost else []
        return '; '.join(filter(None, [*parts, self._files.damage, *broken]))

    def messages(self) -> Iterator[tuple[str, int, Any]]:
        """Topic, time of recording (ns) and message, in the order of recording.

        Messages that cannot be decoded are left out.

        Raises
        ------
        IncompleteBag
            At the end, if messages were left out or are missing, see :meth:`shortfall`.
        UserError
            The rest of the bag cannot be read.
        """
        for record in self.records():
            try:
                message = record.read(record.data)
            except Exception as error:  # rosbags raises errors of any type for broken bytes
                self._broken[record.topic] += 1
                self._problems.setdefault(record.topic, _reason(error))
                continue
            yield record.topic, record.recorded_ns, message
        if lost := self.shortfall():
            raise IncompleteBag(f'{self._path}: {lost}')

    def records(self, since_ns: int = 0) -> Iterator[Record]:
        """The messages undecoded, in the order of recording; missing ones raise nothing.

        Those recorded before ``since_ns`` are left out.

        Raises
        ------
        UserError
            The rest of the bag cannot be read.
        """
        for known in (self._read, self._broken, self._problems):
            known.clear()
        try:
            for channel, recorded_ns, data in self._files.messages(self._readers, since_ns):
                topic = full_name(channel.topic)
                self._read[topic] += 1
                yield Record(topic, recorded_ns, data, self._readers[channel])
        except Exception as error:
            raise _unreadable(self._path, error) from error

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, asked: Collection[str]) -> None:
        promised = self._files.promised
        there = sorted(topic for topic, count in promised.items() if count)
        if not there:
            raise UserError(f'{self._path} holds no messages')
        if missing := sorted(set(asked) - set(there)):
            problem = 'no messages on topic' if missing[0] in promised else 'no topic'
            raise UserError(f'{self._path} has {problem} {missing[0]}; it has {", ".join(there)}')
        for name in asked or there:
            try:
                self.topics[name] = self._describe(name)
            except ValueError as error:
                if asked:
                    raise UserError(f'{self._path}: {error}') from error
                self.left_out[name] = str(error)
        if not self.topics:
            raise UserError(f'{self._path}: {"; ".join(self.left_out.values())}')

    def _describe(self, name: str) -> Topic:
        channels = [
            channel
            for file in self._files.files
            for channel in file.channels
            if channel.count and full_name(channel.topic) == name
        ]
        count = self._files.promised[name]
        if not channels:
            raise ValueError(f'the bag promises {count} messages on {name}, its files hold none')
        kinds = {message_types.topic_type(channel) for channel in channels}
        if len(kinds) > 1:
            raise ValueError(f'{name} has messages of several types')
        readers = {channel: message_types.reader(channel) for channel in channels}
        self._readers.update(readers)
        return Topic(kinds.pop(), count, name in self._files.latched)


def _open(path: Path) -> BagFiles:
    if not path.exists():
        raise UserError(f'no such bag: {path}')
    if path.is_file() and not is_bag_file(path):
        raise UserError(f'expected a bag ({", ".join(SUFFIXES)} or a folder), got {path}')
    try:
        return BagFiles(path)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    """UserError for an error of any type, as rosbags and its libraries raise for broken bytes."""
    return UserError(f'cannot read {path}: {_reason(error)}')


def _reason(error: Exception) -> str:
    """Message of an error in one line."""
    return ' '.join(str(error).split()) or type(error).__name__
