"""mcap files byte by byte, for what no writer of ROS leaves behind."""

import struct

MAGIC = b'\x89MCAP0\r\n'


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack('<I', len(data)) + data


def record(operation, *parts):
    data = b''.join(parts)
    return struct.pack('<BQ', operation, len(data)) + data


def u(size, *values):
    return b''.join(value.to_bytes(size, 'little') for value in values)


class McapBytes:
    """Collects channels and messages.

    Parameters
    ----------
    profile : str
    """

    def __init__(self, profile='ros2'):
        self.head = MAGIC + record(1, text(profile), text('a test'))
        self.definitions = []
        self.messages = []
        self.channels = 0

    def add(self, topic, kind, encoding, definition, serialization, messages, qos=''):
        """Messages are pairs of nanoseconds and bytes."""
        self.channels += 1
        key = self.channels
        metadata = text('offered_qos_profiles') + text(qos)
        self.definitions += [
            record(3, u(2, key), text(kind), text(encoding), text(definition)),
            record(4, u(2, key, key), text(topic), text(serialization), text(metadata)),
        ]
        self.messages += [
            (key, ns, record(5, u(2, key), u(4, 0), u(8, ns, ns), data)) for ns, data in messages
        ]
        return self

    def loose(self, is_closed=True):
        """Without chunks and index; not closed, as a killed recorder leaves it."""
        end = record(15, u(4, 0)) + record(2, u(8, 0, 0), u(4, 0)) + MAGIC
        body = b''.join(self.definitions + [data for _, _, data in self.messages])
        return self.head + body + (end if is_closed else b'')

    def chunked(self, statistics=True, counts=True):
        """One chunk a message, with an index of chunks but none of messages."""
        data, index = self.head, []
        for i, (_, ns, message) in enumerate(self.messages):
            inner = b''.join(self.definitions if i == 0 else []) + message
            length = u(8, len(inner))
            chunk = record(6, u(8, ns, ns), length, u(4, 0), text(''), length, inner)
            offsets = text(b'')
            index.append(
                record(
                    8, u(8, ns, ns, len(data), len(chunk)), offsets, u(8, 0), text(''), length * 2
                )
            )
            data += chunk
        data += record(15, u(4, 0))
        summary = b''.join(self.definitions) + b''.join(index)
        if statistics:
            number = {key: 0 for key, _, _ in self.messages}
            for key, _, _ in self.messages:
                number[key] += 1
            times = [ns for _, ns, _ in self.messages]
            summary += record(
                11,
                u(8, len(self.messages)),
                u(2, self.channels),
                u(4, self.channels, 0, 0, len(self.messages)),
                u(8, min(times), max(times)),
                text(b''.join(u(2, k) + u(8, n) for k, n in number.items()) if counts else b''),
            )
        return data + summary + record(2, u(8, len(data), 0), u(4, 0)) + MAGIC
