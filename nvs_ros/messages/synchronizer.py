"""From messages to frames: matching by stamp, a slot for the newest frame, and what was dropped.

No ROS here: messages are opaque, stamps are nanoseconds. Order of arrival, not the stamp, decides
what is new: a stamp in the far future or a bag that starts over cannot block the frames after it.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nvs_ros.messages.shelf import Entry, Shelf

IMAGE = 'image'
SUPERSEDED = 'superseded by a newer frame'
FORGOTTEN = 2000
"""Stamps of each input that are remembered without their messages, to tell late from missing."""
RECENT_S = 10.0
"""How long what was seen of stamps and lateness explains what goes wrong now."""
MARGIN_S = 1.0
"""Partners are kept longer than images by as much, at most: one that came a little before its image
has to be there as long as that."""


@dataclass(frozen=True)
class FrameMessages:
    """The messages of one frame.

    Parameters
    ----------
    stamp_ns : int
        Stamp of the image.
    messages : dict
        Name of the input -> message; one for each input.
    arrival_s : float
        When the frame was complete, in seconds of the monotonic clock.
    """

    stamp_ns: int
    messages: dict[str, Any]
    arrival_s: float


@dataclass(frozen=True)
class _Late:
    """A message that came too late for what it belongs to.

    Parameters
    ----------
    seconds : float
        After the other one.
    arrival_s : float
        When it came.
    crowded_s : float or None
        Age at which the other one had to go for want of room; None if it went for its age.
    """

    seconds: float
    arrival_s: float
    crowded_s: float | None


@dataclass
class Statistics:
    """Counts since activation.

    ``images`` = ``used`` + all of ``dropped`` + images still waiting
    (:meth:`Synchronizer.waiting`) + the frame being worked on.
    """

    images: int = 0
    used: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    """Messages by input, malformed ones included."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Malformed messages by input."""


class Synchronizer:
    """Matches messages by stamp and holds the newest complete frame until it is taken.

    Thread-safe.

    Parameters
    ----------
    inputs : tuple of str
        What a frame consists of, ``'image'`` among them.
    slop_s : float
        Largest difference between the stamps of an image and its partners, in seconds.
    buffer_s : float
        How long messages are kept after they came, in seconds.
    on_frame : callable
        Called without arguments when a frame is complete.
    clock : callable
        Monotonic time in seconds.
    buffer_bytes : int
        What all messages kept may take; the oldest go first.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        slop_s: float,
        buffer_s: float,
        on_frame: Callable[[], None],
        clock: Callable[[], float],
        buffer_bytes: int = 500_000_000,
    ) -> None:
        self._slop_ns = round(slop_s * 1e9)
        self._shelves = {name: Shelf() for name in (IMAGE, *inputs)}
        self._images = self._shelves[IMAGE]
        self._partners = {name: shelf for name, shelf in self._shelves.items() if name != IMAGE}
        self._forgotten = {name: Shelf() for name in self._shelves}
        self._buffer_s, self._buffer_bytes = buffer_s, buffer_bytes
        self._late: dict[str, _Late] = {}
        self._unchanged: dict[str, tuple[int, float, float]] = {}
        """Stamp of the last message of an input, when the first of its run came, and the last."""
        self._on_frame = on_frame
        self._clock = clock
        self._lock = threading.Lock()
        self._slot: FrameMessages | None = None
        self._newest: FrameMessages | None = None
        self._statistics = Statistics()
        self.last_arrival_s: dict[str, float] = {}
        """When a well-formed message of each input came last, seconds of the clock."""
        self.last_malformed_s: dict[str, float] = {}
        """When a malformed one did."""

    @property
    def newest(self) -> FrameMessages | None:
        """The last complete frame, whether it was taken or not; requests are served from it."""
        return self._newest

    @property
    def statistics(self) -> Statistics:
        """A copy of the counts."""
        with self._lock:
            return copy.deepcopy(self._statistics)

    def add(self, name: str, stamp_ns: int, message: Any, size: int = 0) -> None:
        """Take over a well-formed message: a picture of so many bytes, or a small one (0)."""
        with self._lock:
            now = self._clock()
            self._statistics.received[name] += 1
            self.last_arrival_s[name] = now
            stamp, since_s, _ = self._unchanged.get(name, (None, now, now))
            self._unchanged[name] = (stamp_ns, since_s if stamp == stamp_ns else now, now)
            if name == IMAGE:
                self._statistics.images += 1
            entry = self._shelves[name].add(stamp_ns, message, size, now)
            completed = self._match(name, entry)
            if not completed:
                self._note_late(name, entry)
            self._forget_old(now)
        if completed:
            self._on_frame()

    def add_malformed(self, name: str) -> None:
        """Count a message that cannot be used."""
        with self._lock:
            self._statistics.received[name] += 1
            self._statistics.malformed[name] += 1
            self.last_malformed_s[name] = self._clock()
            if name == IMAGE:
                self._statistics.images += 1
                self._statistics.dropped['malformed image'] += 1

    def take(self) -> FrameMessages | None:
        """The newest complete frame, or None; it is handed out once."""
        with self._lock:
            frame, self._slot = self._slot, None
            return frame

    def count_used(self) -> None:
        """Count a taken frame whose views were made."""
        with self._lock:
            self._statistics.used += 1

    def count_dropped(self, reason: str) -> None:
        """Count a taken frame that was not used."""
        with self._lock:
            self._statistics.dropped[reason] += 1

    def waiting(self) -> int:
        """Images that wait for partners or in the slot."""
        with self._lock:
            return len(self._images) + (self._slot is not None)

    def smallest_gap_s(self, name: str) -> float | None:
        """Smallest difference between the stamps of an input and of images without a frame.

        Those that are not kept any more count as well: a message that comes too late for its image
        is not one of another stamp. One of the two came lately; None when there are no such two.
        """
        with self._lock:
            since_s = self._clock() - RECENT_S
            images = (self._images, self._forgotten[IMAGE])
            partners = (self._partners[name], self._forgotten[name])
            recent_images = [shelf.since(since_s) for shelf in images]
            recent_partners = [shelf.since(since_s) for shelf in partners]
            pairs = [
                *itertools.product(recent_images, partners),
                *itertools.product(images, recent_partners),
            ]
            gaps = [a.smallest_gap_ns(b) for a, b in pairs]
        known = [gap for gap in gaps if gap is not None]
        return min(known) * 1e-9 if known else None

    def unchanged_s(self, name: str) -> tuple[int, float] | None:
        """Stamp of the last message of an input, and how long messages have come with it.

        Messages that all have one stamp fit each other, whatever they belong to.
        """
        with self._lock:
            if name not in self._unchanged:
                return None
            stamp_ns, first_s, last_s = self._unchanged[name]
            return stamp_ns, last_s - first_s

    def lateness_s(self, name: str) -> float | None:
        """How long after the others of its stamp a message of an input came, too late for them.

        Of the last such message of late, since a frame was complete; None when there was none.
        """
        late = self._lately_late(name)
        return late and late.seconds

    def crowded_s(self, name: str) -> float | None:
        """Age at which a message had to go for want of room that the late one belongs to.

        Of the message that :meth:`lateness_s` is about; None when the other one went for its age.
        """
        late = self._lately_late(name)
        return late and late.crowded_s

    def _lately_late(self, name: str) -> _Late | None:
        with self._lock:
            late = self._late.get(name)
            is_recent = late is not None and self._clock() - late.arrival_s <= RECENT_S
            return late if is_recent else None

    def _match(self, name: str, entry: Entry) -> bool:
        """Complete a frame with an image that has all its partners, if a message makes one so.

        Before it came no image had all of them: only those that it can belong to are looked at.
        """
        images = [entry] if name == IMAGE else self._images.within(entry.stamp_ns, self._slop_ns)
        for image in images:
            found = {name: self._closest(image.stamp_ns, name) for name in self._partners}
            if None in found.values():
                continue
            while (older := self._images.pop()) is not image:
                self._drop_unmatched(older.stamp_ns)
            if self._slot is not None:
                self._statistics.dropped[SUPERSEDED] += 1
            messages = {IMAGE: image.message, **{n: match.message for n, match in found.items()}}
            self._slot = self._newest = FrameMessages(image.stamp_ns, messages, self._clock())
            for partner, match in found.items():
                if match.size:  # a picture belongs to one image; a calibration may serve several
                    self._partners[partner].remove(match)
            self._late.clear()
            return True
        return False

    def _closest(self, stamp_ns: int, name: str) -> Entry | None:
        return self._partners[name].closest(stamp_ns, self._slop_ns)

    def _drop_unmatched(self, stamp_ns: int) -> None:
        missing = [name for name in self._partners if self._closest(stamp_ns, name) is None]
        reason = f'no {" and ".join(missing)} of its stamp' if missing else SUPERSEDED
        self._statistics.dropped[reason] += 1

    def _note_late(self, name: str, entry: Entry) -> None:
        """Remember that a message belongs to what is not kept any more."""
        for other in self._partners if name == IMAGE else (IMAGE,):
            if self._shelves[other].closest(entry.stamp_ns, self._slop_ns) is None:
                gone = self._forgotten[other].closest(entry.stamp_ns, self._slop_ns)
                if gone is not None:
                    seconds = entry.arrival_s - gone.arrival_s
                    self._late[name] = _Late(seconds, entry.arrival_s, gone.message)

    def _forget_old(self, now_s: float) -> None:
        """Let go what is too old, and the oldest while all together is too much."""
        partners_s = self._buffer_s + min(self._buffer_s, MARGIN_S)
        for name, shelf in self._shelves.items():
            limit_s = self._buffer_s if name == IMAGE else partners_s
            while shelf and now_s - shelf.oldest.arrival_s > limit_s:
                self._forget(name)
        while sum(shelf.bytes for shelf in self._shelves.values()) > self._buffer_bytes:
            # The newest of each input stays, whatever its size.
            full = [name for name, s in self._shelves.items() if len(s) > 1 and s.oldest.size]
            if not full:
                break
            oldest = min(full, key=lambda name: self._shelves[name].oldest.arrival_s)
            self._forget(oldest, now_s - self._shelves[oldest].oldest.arrival_s)

    def _forget(self, name: str, crowded_s: float | None = None) -> None:
        """Let go the oldest of an input; what is remembered has its age then as the message."""
        entry = self._shelves[name].pop()
        if name == IMAGE:
            self._drop_unmatched(entry.stamp_ns)
        forgotten = self._forgotten[name]
        forgotten.add(entry.stamp_ns, crowded_s, 0, entry.arrival_s)
        if len(forgotten) > FORGOTTEN:
            forgotten.pop()
