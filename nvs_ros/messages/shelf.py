"""Messages of one input, found by stamp and let go in the order in which they came."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from typing import Any, NamedTuple

_LAST = float('inf')


class Entry(NamedTuple):
    """A message that is kept."""

    stamp_ns: int
    number: int
    """Counts the messages of the input."""
    message: Any
    size: int
    """Bytes."""
    arrival_s: float


class Shelf:
    """Messages in order of arrival that are found by stamp in logarithmic time."""

    def __init__(self) -> None:
        self._by_number: OrderedDict[int, Entry] = OrderedDict()
        self._sorted: list[tuple[int, int]] = []
        self._count = 0
        self.bytes = 0
        """Of all messages together."""

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def oldest(self) -> Entry:
        """What came first of what is there."""
        return next(iter(self._by_number.values()))

    def add(self, stamp_ns: int, message: Any, size: int, arrival_s: float) -> Entry:
        """Append a message."""
        entry = Entry(stamp_ns, self._count, message, size, arrival_s)
        self._count += 1
        self._by_number[entry.number] = entry
        bisect.insort(self._sorted, (stamp_ns, entry.number))
        self.bytes += size
        return entry

    def pop(self) -> Entry:
        """Take away what came first."""
        return self.remove(self.oldest)

    def remove(self, entry: Entry) -> Entry:
        """Take away a message that is there."""
        del self._by_number[entry.number]
        del self._sorted[bisect.bisect_left(self._sorted, entry[:2])]
        self.bytes -= entry.size
        return entry

    def within(self, stamp_ns: int, slop_ns: int) -> list[Entry]:
        """What lies within the slop of a stamp, the closest first; of those, the last that came."""
        low = bisect.bisect_left(self._sorted, (stamp_ns - slop_ns,))
        high = bisect.bisect_right(self._sorted, (stamp_ns + slop_ns, _LAST))
        near = sorted(self._sorted[low:high], key=lambda item: (abs(item[0] - stamp_ns), -item[1]))
        return [self._by_number[number] for _, number in near]

    def closest(self, stamp_ns: int, slop_ns: int) -> Entry | None:
        """What is closest to a stamp within the slop; of equally close, the last that came."""
        after = bisect.bisect_left(self._sorted, (stamp_ns,))
        near = self._sorted[after - 1 : after] if after else []
        if after < len(self._sorted):
            # The last of those of equal stamp.
            last = bisect.bisect_right(self._sorted, (self._sorted[after][0], _LAST))
            near = [*near, self._sorted[last - 1]]
        best = min(near, key=lambda item: (abs(item[0] - stamp_ns), -item[1]), default=None)
        if best is None or abs(best[0] - stamp_ns) > slop_ns:
            return None
        return self._by_number[best[1]]

    def since(self, arrival_s: float) -> Shelf:
        """Those that came at a time or after it."""
        recent = Shelf()
        for entry in reversed(self._by_number.values()):
            if entry.arrival_s < arrival_s:
                break
            recent._by_number[entry.number] = entry
        recent._sorted = sorted(entry[:2] for entry in recent._by_number.values())
        return recent

    def smallest_gap_ns(self, other: Shelf) -> int | None:
        """Smallest difference between a stamp here and one there; None when one is empty."""
        few, many = sorted((self._sorted, other._sorted), key=len)
        smallest = None
        for stamp_ns, _ in few:
            at = bisect.bisect_left(many, (stamp_ns,))
            for found_ns, _ in many[max(at - 1, 0) : at + 1]:
                gap_ns = abs(found_ns - stamp_ns)
                smallest = gap_ns if smallest is None else min(smallest, gap_ns)
        return smallest
