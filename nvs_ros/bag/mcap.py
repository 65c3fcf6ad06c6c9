"""Read mcap files as far as ROS needs it (format: https://mcap.dev/spec).

Topics with encodings other than those of ROS are listed, but not decoded. A file whose recorder was
killed is read as far as it is intact.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from rosbags.rosbag2 import storage_mcap

from nvs_ros.bag.topics import Channel, is_latched

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS = 1, 2, 3, 4, 5, 6, 8, 11
FOOTER_SIZE = 9 + 20 + len(MAGIC)


class _Chunk(NamedTuple):
    start_ns: int
    offset: int
    end_ns: int
    channels: frozenset[int]
    """Channels with messages in the chunk; empty if not known."""


class _Fields:
    """Reads the fields of a record in order."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError(f'a record ends {size - len(taken)} bytes too early')
        self.at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), 'little')

    def block(self, size: int = 4) -> bytes:
        """Bytes that are preceded by their length, a number of ``size`` bytes."""
        return self.take(self.number(size))

    def text(self) -> str:
        return self.block().decode(errors='replace')

    def record(self) -> tuple[int, bytes]:
        return self.number(1), self.block(8)


class McapFile:
    """One mcap file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ValueError
        It is no mcap file, or is broken before its first message.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open('rb')
        self.damage = ''
        """What is lost of the file, as a sentence; ``''`` if nothing is known to be lost."""
        try:
            self._size = self._file.seek(0, 2)
            self._file.seek(0)
            if not self._size:
                raise ValueError('the file is empty')
            if self._file.read(len(MAGIC)) != MAGIC:
                raise ValueError('expected an mcap file, got other bytes')
            self._forget()
            try:
                is_indexed = self._read_summary()
            except ValueError:
                is_indexed = False
            if not is_indexed:
                self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def channels(self) -> list[Channel]:
        """The topics of the file, including those without messages."""
        return [c._replace(count=self._counts[c.key]) for c in self._channels.values()]

    @property
    def start_ns(self) -> int | None:
        """Time at which the first message was recorded, nanoseconds; None without messages."""
        return self._start_ns

    def messages(
        self, keys: Collection[int], since_ns: int = 0
    ) -> Iterator[tuple[int, int, bytes]]:
        """Messages of some channels: key of the channel, time of recording (ns), bytes.

        In the order of recording; files with messages outside chunks in the order of the file.
        Those recorded before ``since_ns`` are left out, and chunks with no others not read.

        Raises
        ------
        ValueError
            The rest of the file cannot be read.
        """
        if self._has_loose:
            for operation, data in self._records():
                if operation == MESSAGE:
                    yield from _only(keys, [_message(data)], since_ns)
                elif operation == CHUNK:
                    found = _only(keys, _messages(data), since_ns)
                    yield from sorted(found, key=lambda item: item[1])
            return
        # Chunks may overlap in time: each is read as soon as one of its messages may be next.
        waiting: list[tuple[int, int, int, bytes]] = []
        count = 0
        for chunk in sorted(self._chunks):
            if chunk.end_ns < since_ns or (chunk.channels and chunk.channels.isdisjoint(keys)):
                continue
            while waiting and waiting[0][0] < chunk.start_ns:
                yield _in_order(heapq.heappop(waiting))
            self._file.seek(chunk.offset)
            for key, ns, data in _only(keys, _messages(self._record()[1]), since_ns):
                heapq.heappush(waiting, (ns, count, key, data))
                count += 1
        while waiting:
            yield _in_order(heapq.heappop(waiting))

    def _forget(self) -> None:
        self._schemas: dict[int, tuple[str, str, bytes]] = {}
        self._channels: dict[int, Channel] = {}
        self._counts: Counter[int] = Counter()
        self._chunks: list[_Chunk] = []
        self._start_ns: int | None = None
        self._has_loose = False

    def _read_summary(self) -> bool:
        """Read the index at the end of the file; return whether it is complete."""
        if self._size < FOOTER_SIZE + len(MAGIC):
            return False
        self._file.seek(-FOOTER_SIZE, 2)
        footer = self._file.read()
        start, end = int.from_bytes(footer[9:17], 'little'), self._size - FOOTER_SIZE
        if footer[0] != FOOTER or footer[-len(MAGIC) :] != MAGIC or not 0 < start < end:
            return False
        self._file.seek(start)
        fields, statistics = _Fields(self._file.read(end - start)), None
        while fields:
            operation, data = fields.record()
            if operation == CHUNK_INDEX:
                self._chunks.append(_chunk_index(data))
            elif operation == STATISTICS:
                statistics = _Fields(data)
            else:
                self._learn(operation, data)
        if statistics is None:
            return False
        count = statistics.number(8)
        statistics.number(2 + 4 + 4 + 4)
        chunks = statistics.number(4)
        start_ns, _ = statistics.number(8), statistics.number(8)
        self._start_ns = start_ns if count else None
        counts = _Fields(statistics.block())
        while counts:
            key = counts.number(2)
            self._counts[key] = counts.number(8)
        self._has_loose = count > 0 and chunks == 0
        return (
            chunks == len(self._chunks)
            and count == self._counts.total()
            and {key for key, n in self._counts.items() if n} <= self._channels.keys()
        )

    def _scan(self) -> None:
        """Read the whole file to find out what a complete index would say."""
        self._forget()
        for operation, data in self._records():
            if operation == CHUNK:
                offset = self._file.tell() - 9 - len(data)
                try:
                    found = self._learn_chunk(data)
                except Exception as error:  # zstd and lz4 raise errors of any type
                    self.damage = f'a chunk is broken, what comes after is lost: {error}'
                    break
                self._count(found)
                if found:
                    keys = frozenset(key for key, _ in found)
                    times = [ns for _, ns in found]
                    self._chunks.append(_Chunk(min(times), offset, max(times), keys))
            elif operation == MESSAGE:
                self._has_loose = True
                self._count([_message(data)[:2]])
            else:
                self._learn(operation, data)
        if self.damage and not self._counts:
            raise ValueError(self.damage)

    def _count(self, found: list[tuple[int, int]]) -> None:
        for key, ns in found:
            self._counts[key] += 1
            self._start_ns = ns if self._start_ns is None else min(ns, self._start_ns)

    def _learn_chunk(self, data: bytes) -> list[tuple[int, int]]:
        """Store the topics defined in a chunk; return channel key and time of each message."""
        fields, found = _Fields(_content(data)), []
        while fields:
            operation, record = fields.record()
            if operation == MESSAGE:
                found.append(_message(record)[:2])
            else:
                self._learn(operation, record)
        return found

    def _learn(self, operation: int, data: bytes) -> None:
        fields = _Fields(data)
        if operation == SCHEMA:
            key, name, encoding = fields.number(2), fields.text(), fields.text()
            self._schemas[key] = (name, encoding, fields.block())
        elif operation == CHANNEL:
            key, schema = fields.number(2), fields.number(2)
            name, encoding, definition = self._schemas.get(schema, ('', '', b''))
            topic, serialization = fields.text(), fields.text()
            pairs, metadata = _Fields(fields.block()), {}
            while pairs:
                word = pairs.text()
                metadata[word] = pairs.text()
            latched = is_latched(metadata.get('offered_qos_profiles', ''))
            self._channels[key] = Channel(
                key, topic, name, serialization, encoding, definition, 0, latched
            )

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """The records outside chunks, up to the end of the data or to where the file is cut off."""
        self._file.seek(len(MAGIC))
        while True:
            try:
                operation, data = self._record()
            except ValueError as error:
                self.damage = f'the file was not closed, its end is lost: {error}'
                return
            if operation == FOOTER or operation == 15:  # end of the data
                return
            yield operation, data

    def _record(self) -> tuple[int, bytes]:
        start = self._file.read(9)
        if len(start) < 9:
            raise ValueError(f'expected a record, got {len(start)} bytes')
        operation, size = struct.unpack('<BQ', start)
        left = self._size - self._file.tell()
        if size > left:
            raise ValueError(f'expected {size} bytes, got {left}')
        return operation, self._file.read(size)


def _in_order(item: tuple[int, int, int, bytes]) -> tuple[int, int, bytes]:
    ns, _, key, data = item
    return key, ns, data


def _only(
    keys: Collection[int], messages: Iterator[tuple[int, int, bytes]] | list, since_ns: int
) -> Iterator[tuple[int, int, bytes]]:
    return (message for message in messages if message[0] in keys and message[1] >= since_ns)


def _message(data: bytes) -> tuple[int, int, bytes]:
    if len(data) < 22:
        raise ValueError(f'expected a message, got {len(data)} bytes')
    key, _, ns, _ = struct.unpack_from('<HIQQ', data)
    return key, ns, data[22:]


def _messages(chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
    fields = _Fields(_content(chunk))
    while fields:
        operation, data = fields.record()
        if operation == MESSAGE:
            yield _message(data)


def _content(chunk: bytes) -> bytes:
    """The decompressed records of a chunk.

    Raises
    ------
    ValueError
        Unknown compression, or a wrong size or checksum.
    """
    fields = _Fields(chunk)
    fields.take(16)
    size, checksum, compression = fields.number(8), fields.number(4), fields.text()
    packed = fields.block(8)
    if compression not in storage_mcap.DECOMPRESSORS:
        raise ValueError(f'expected chunks in zstd or lz4, got {compression!r}')
    content = storage_mcap.DECOMPRESSORS[compression](packed, size)
    if len(content) != size or (checksum and zlib.crc32(content) != checksum):
        raise ValueError('a chunk is damaged: its checksum or its size is wrong')
    return content


def _chunk_index(data: bytes) -> _Chunk:
    fields = _Fields(data)
    start_ns, end_ns, offset, _ = (fields.number(8) for _ in range(4))
    offsets, keys = _Fields(fields.block()), []
    while offsets:
        keys.append(offsets.number(2))
        offsets.take(8)
    return _Chunk(start_ns, offset, end_ns, frozenset(keys))
