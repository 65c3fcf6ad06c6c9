"""One interface to the files of a bag: mcap, sqlite3, the .bag of ROS 1, and folders of them."""

from __future__ import annotations

import contextlib
import heapq
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import yaml
from rosbags import rosbag1

from nvs_ros.bag.mcap import McapFile
from nvs_ros.bag.topics import Channel, full_name, is_latched, zstd

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
METADATA = 'metadata.yaml'


class BagFile(Protocol):
    """Interface of one file of a bag; see :class:`~nvs_ros.bag.mcap.McapFile`."""

    damage: str

    @property
    def channels(self) -> list[Channel]: ...

    @property
    def start_ns(self) -> int | None: ...

    def messages(
        self, keys: Collection[int], since_ns: int = 0
    ) -> Iterator[tuple[int, int, bytes]]: ...

    def close(self) -> None: ...


class SqliteFile:
    """One sqlite3 file, of any version of rosbag2."""

    damage = ''

    def __init__(self, path: Path) -> None:
        # A killed recorder leaves data in a file beside this one, which sqlite reads only without
        # immutable=1. With it, sqlite can read from read-only folders.
        beside = (path.with_name(f'{path.name}-{kind}') for kind in ('wal', 'journal'))
        is_whole = not any(file.exists() and file.stat().st_size for file in beside)
        uri = f'file:{quote(str(path.absolute()))}?mode=ro' + ('&immutable=1' if is_whole else '')
        self._database = sqlite3.connect(uri, uri=True)
        try:
            self.channels = self._channels()
            ((self.start_ns,),) = self._database.execute('SELECT min(timestamp) FROM messages')
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def messages(
        self, keys: Collection[int], since_ns: int = 0
    ) -> Iterator[tuple[int, int, bytes]]:
        """Key of the channel, time of recording (ns) and bytes, in the order of recording."""
        marks = ','.join('?' * len(keys))
        yield from self._database.execute(
            f'SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) '
            'AND timestamp >= ? ORDER BY timestamp, id',
            (*keys, since_ns),
        )

    def _channels(self) -> list[Channel]:
        run = self._database.execute
        counts = dict(run('SELECT topic_id, count(*) FROM messages GROUP BY topic_id'))
        columns = {row[1] for row in run('PRAGMA table_info(topics)')}
        definitions = {}
        if list(run('PRAGMA table_info(message_definitions)')):
            query = 'SELECT topic_type, encoding, encoded_message_definition'
            rows = run(f'{query} FROM message_definitions')
            definitions = {kind: (encoding, text) for kind, encoding, text in rows}
        qos = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
        rows = run(f'SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id')
        channels = []
        for key, name, kind, serialization, profiles in rows:
            encoding, text = definitions.get(kind, ('', ''))
            channels.append(
                Channel(
                    key,
                    name,
                    kind,
                    serialization,
                    encoding,
                    text.encode(),
                    counts.get(key, 0),
                    is_latched(profiles),
                )
            )
        return channels


class Ros1File:
    """One .bag file of ROS 1."""

    damage = ''

    def __init__(self, path: Path) -> None:
        self._reader = rosbag1.Reader(path)
        self._reader.open()
        counts: Counter[int] = Counter()
        for chunk in self._reader.chunk_infos:
            counts.update(chunk.connection_counts)
        self.channels = [
            Channel(
                connection.id,
                connection.topic,
                connection.msgtype,
                'ros1',
                'ros1msg',
                connection.msgdef.data.encode(),
                counts[connection.id],
                bool(getattr(connection.ext, 'latching', None)),
            )
            for connection in self._reader.connections
        ]
        self.start_ns = self._reader.start_time if counts else None

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def messages(
        self, keys: Collection[int], since_ns: int = 0
    ) -> Iterator[tuple[int, int, bytes]]:
        """Key of the channel, time of recording (ns) and bytes, in the order of recording."""
        chosen = [c for c in self._reader.connections if c.id in keys]
        for connection, recorded_ns, data in self._reader.messages(chosen, start=since_ns):
            yield connection.id, recorded_ns, data


KINDS: dict[str, Callable[[Path], BagFile]] = {
    '.mcap': McapFile,
    '.db3': SqliteFile,
    '.bag': Ros1File,
}
"""Suffix -> class that reads the file."""
SUFFIXES = (*KINDS, '.mcap.zstd', '.db3.zstd')


def is_bag_file(path: Path) -> bool:
    """Whether the name of a file ends in one of :data:`SUFFIXES`."""
    return path.name.endswith(SUFFIXES)


class BagFiles:
    """All files of a bag.

    Parameters
    ----------
    path : Path
        One file, or the folder of a bag, with or without its ``metadata.yaml``.

    Raises
    ------
    Exception
        A file cannot be read. Often ValueError or OSError, but the libraries raise errors of any
        type for broken bytes. With several files always ValueError, which names the file.
    """

    def __init__(self, path: Path) -> None:
        self.promised: Counter[str] = Counter()
        """Topic -> number of messages according to metadata and files, the greater of both."""
        self.latched: set[str] = set()
        self.notes: list[str] = []
        """Oddities of the bag that lose nothing, as sentences."""
        self._stack = contextlib.ExitStack()
        try:
            paths = [path] if path.is_file() else self._paths(path)
            self.files = [self._open(file, several=len(paths) > 1) for file in paths]
            # Files in metadata.yaml are not always in order; an empty one may be anywhere.
            self.files.sort(key=lambda file: file.start_ns or 0)
            held: Counter[str] = Counter()
            for channel in (channel for file in self.files for channel in file.channels):
                held[full_name(channel.topic)] += channel.count
                if channel.latched:
                    self.latched.add(full_name(channel.topic))
            for name, count in held.items():  # metadata.yaml may be older than the files
                self.promised[name] = max(self.promised[name], count)
        except BaseException:
            self.close()
            raise

    @property
    def start_ns(self) -> int:
        """Time at which the first message was recorded, nanoseconds; 0 without messages."""
        starts = [file.start_ns for file in self.files if file.start_ns is not None]
        return min(starts, default=0)

    @property
    def damage(self) -> str:
        """What is lost of the files, as a sentence; ``''`` if nothing is known to be lost."""
        return '; '.join(file.damage for file in self.files if file.damage)

    def messages(
        self, wanted: Collection[Channel], since_ns: int = 0
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """Messages of some channels: channel, time of recording (ns), bytes; in recorded order.

        Those recorded before ``since_ns`` are left out.
        Files may overlap in time: each is opened as soon as one of its messages may be next.
        """
        waiting: list[_Next] = []
        for place, file in enumerate(self.files):
            while waiting and waiting[0].recorded_ns <= (file.start_ns or 0):
                yield from _first(waiting)
            _put(waiting, place, _chosen(file, wanted, since_ns))
        while waiting:
            yield from _first(waiting)

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def _paths(self, folder: Path) -> list[Path]:
        beside = sorted(filter(is_bag_file, folder.iterdir()), key=_natural)
        if not (folder / METADATA).exists():
            if not beside:
                raise ValueError(f'expected {METADATA} or files of a bag in it, got neither')
            return beside
        text = (folder / METADATA).read_text()
        try:
            information = yaml.safe_load(text)['rosbag2_bagfile_information']
            # Before version 4 the names include that of the folder.
            names = [PurePath(name).name for name in information['relative_file_paths']]
            topics = information.get('topics_with_message_count') or []
            for topic in topics:
                name = full_name(topic['topic_metadata']['name'])
                self.promised[name] += topic['message_count']
                if is_latched(topic['topic_metadata'].get('offered_qos_profiles')):
                    self.latched.add(name)
        except (KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
            raise ValueError(f'{METADATA} is not that of a bag: {reason}') from None
        if missing := [name for name in names if not (folder / name).exists()]:
            raise ValueError(f'{METADATA} names {missing[0]}, which is not there')
        if unnamed := [file.name for file in beside if file.name not in names]:
            self.notes.append(f'{METADATA} does not name {", ".join(unnamed)}: left out')
        return [folder / name for name in names]

    def _open(self, path: Path, several: bool) -> BagFile:
        try:
            if path.suffix == '.zstd':
                path = self._unpacked(path)
            if path.suffix not in KINDS:
                raise ValueError(f'expected a name ending in {", ".join(SUFFIXES)}')
            file = KINDS[path.suffix](path)
        except Exception as error:
            if not several:
                raise
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise ValueError(f'{path.name}: {reason}') from error
        self._stack.callback(file.close)
        return file

    def _unpacked(self, path: Path) -> Path:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        with zstd.open(path, 'rb') as packed, (folder / path.stem).open('wb') as whole:
            shutil.copyfileobj(packed, whole)
        return folder / path.stem


class _Next(NamedTuple):
    """The next message of a file."""

    recorded_ns: int
    place: int
    """Index of the file: of messages with the same time, that of the earlier file comes first."""
    channel: Channel
    data: bytes
    rest: Iterator[tuple[Channel, int, bytes]]


def _chosen(
    file: BagFile, wanted: Collection[Channel], since_ns: int
) -> Iterator[tuple[Channel, int, bytes]]:
    channels = {channel.key: channel for channel in file.channels if channel in wanted}
    for key, recorded_ns, data in file.messages(channels, since_ns) if channels else ():
        yield channels[key], recorded_ns, data


def _put(waiting: list[_Next], place: int, rest: Iterator[tuple[Channel, int, bytes]]) -> None:
    """Add the next message of a file to a heap, if there is one."""
    for channel, recorded_ns, data in rest:
        heapq.heappush(waiting, _Next(recorded_ns, place, channel, data, rest))
        return


def _first(waiting: list[_Next]) -> Iterator[tuple[Channel, int, bytes]]:
    """Yield the earliest message of a heap and add the next message of its file."""
    first = heapq.heappop(waiting)
    yield first.channel, first.recorded_ns, first.data
    _put(waiting, first.place, first.rest)


def unpacked_message(data: bytes) -> bytes:
    """The bytes of a message, decompressed if rosbag2 compressed each message on its own."""
    # No CDR message begins with these bytes.
    return zstd.decompress(data) if data.startswith(ZSTD_MAGIC) else data


def _natural(path: Path) -> list[Any]:
    """Sort key that puts ``x_10`` after ``x_9``."""
    return [int(word) if word.isdigit() else word for word in re.split(r'(\d+)', path.name)]
