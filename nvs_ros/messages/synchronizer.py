"""The synchronizer: matches messages by stamp, holds the newest frame, counts what was dropped.

No ROS here: messages are opaque, stamps are nanoseconds. The order of arrival, not the stamp,
decides which frame is newer, so that a stamp in the far future or a bag that starts over cannot
block later frames.
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
"""Most stamps per input remembered without their messages, to tell late from missing messages."""
RECENT_S = 10.0
"""Observations of stamps and lateness that are older are not used in diagnostics."""
MARGIN_S = 1.0
"""Partners are kept longer than images by at most this time, because a partner may arrive a little
before its image and is needed as long as the image waits."""


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
        Time at which the frame became complete, seconds of the monotonic clock.
    """

    stamp_ns: int
    messages: dict[str, Any]
    arrival_s: float


@dataclass(frozen=True)
class _Late:
    """A message whose counterpart (image or partner) had already been forgotten.

    Parameters
    ----------
    seconds : float
        How long after its counterpart it arrived.
    arrival_s : float
        When it arrived.
    crowded_s : float or None
        Age at which the counterpart was forgotten for lack of memory; None if it was too old.
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
    refused: Counter[str] = field(default_factory=Counter)
    """Messages over a limit by input."""


class Synchronizer:
    """Matches messages by stamp and holds the newest complete frame until it is taken.

    A frame is an image with one message of each other input, its partners. Thread-safe.

    Parameters
    ----------
    inputs : tuple of str
        Names of the inputs that make up a frame; ``'image'`` is added if it is missing.
    slop_s : float
        Largest difference between the stamps of an image and its partners, seconds.
    buffer_s : float
        How long messages are kept after their arrival, seconds.
    on_frame : callable
        Called without arguments when a frame is complete.
    clock : callable
        Returns monotonic time in seconds.
    buffer_bytes : int
        Most memory for all kept messages; the oldest are dropped first.
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
        """By input: stamp of the last message, arrival of the first and last message in a row that
        had this stamp."""
        self._on_frame = on_frame
        self._clock = clock
        self._lock = threading.Lock()
        self._slot: FrameMessages | None = None
        self._newest: FrameMessages | None = None
        self._statistics = Statistics()
        self.last_arrival_s: dict[str, float] = {}
        """Arrival of the last well-formed message of each input, seconds of the clock."""
        self.last_malformed_s: dict[str, float] = {}
        """Arrival of the last malformed message of each input, seconds of the clock."""

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
        """Add a well-formed message and complete a frame if it is the last one missing.

        Parameters
        ----------
        name : str
            Its input.
        stamp_ns : int
        message : Any
        size : int
            Bytes of an image; 0 for a small message, which may be used in several frames.
        """
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

    def add_malformed(self, name: str, is_refused: bool = False) -> None:
        """Count a message that cannot be used; ``is_refused``: because it is over a limit."""
        with self._lock:
            self._statistics.received[name] += 1
            counts = self._statistics.refused if is_refused else self._statistics.malformed
            counts[name] += 1
            self.last_malformed_s[name] = self._clock()
            if name == IMAGE:
                self._statistics.images += 1
                kind = 'refused' if is_refused else 'malformed'
                self._statistics.dropped[f'{kind} image'] += 1

    def take(self) -> FrameMessages | None:
        """The newest complete frame, or None; each frame is returned only once."""
        with self._lock:
            frame, self._slot = self._slot, None
            return frame

    def count_used(self) -> None:
        """Count a frame that was taken and whose views were made."""
        with self._lock:
            self._statistics.used += 1

    def count_dropped(self, reason: str) -> None:
        """Count a frame that was taken but not used."""
        with self._lock:
            self._statistics.dropped[reason] += 1

    def waiting(self) -> int:
        """Number of images that wait for partners, plus the complete frame that was not taken."""
        with self._lock:
            return len(self._images) + (self._slot is not None)

    def smallest_gap_s(self, name: str) -> float | None:
        """Smallest difference between stamps of an input and of images that are in no frame.

        Messages that were forgotten count as well, so that a late message is not mistaken for one
        with another stamp. At least one of each pair must have arrived within :data:`RECENT_S`;
        None if there is no such pair.
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
        """Stamp of the last message of an input, and for how many seconds it has not changed.

        None before the first message. For diagnostics: messages whose stamps never change all match
        each other, even if they do not belong together.
        """
        with self._lock:
            if name not in self._unchanged:
                return None
            stamp_ns, first_s, last_s = self._unchanged[name]
            return stamp_ns, last_s - first_s

    def lateness_s(self, name: str) -> float | None:
        """How long after its counterpart the last late message of an input arrived, seconds.

        None if none was late within :data:`RECENT_S` and since the last complete frame.
        """
        late = self._lately_late(name)
        return None if late is None else late.seconds

    def crowded_s(self, name: str) -> float | None:
        """Age at which the counterpart of that late message was forgotten for lack of memory.

        For the message of :meth:`lateness_s`; None if the counterpart was forgotten for its age.
        """
        late = self._lately_late(name)
        return None if late is None else late.crowded_s

    def _lately_late(self, name: str) -> _Late | None:
        with self._lock:
            late = self._late.get(name)
            is_recent = late is not None and self._clock() - late.arrival_s <= RECENT_S
            return late if is_recent else None

    def _match(self, name: str, entry: Entry) -> bool:
        """Complete a frame if the new message is the last one missing; return whether it was.

        Before it arrived no image had all its partners, so only images that it matches are tried.
        """
        images = [entry] if name == IMAGE else self._images.within(entry.stamp_ns, self._slop_ns)
        for image in images:
            closest = {name: self._closest(image.stamp_ns, name) for name in self._partners}
            found = {name: match for name, match in closest.items() if match is not None}
            if len(found) < len(closest):
                continue
            while (older := self._images.pop()) is not image:
                self._drop_unmatched(older.stamp_ns)
            if self._slot is not None:
                self._statistics.dropped[SUPERSEDED] += 1
            messages = {IMAGE: image.message, **{n: match.message for n, match in found.items()}}
            self._slot = self._newest = FrameMessages(image.stamp_ns, messages, self._clock())
            for partner, match in found.items():
                if match.size:  # a mask or depth belongs to one image, calibration to several
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
        """Remember if the counterpart of a message has already been forgotten."""
        for other in self._partners if name == IMAGE else (IMAGE,):
            if self._shelves[other].closest(entry.stamp_ns, self._slop_ns) is None:
                gone = self._forgotten[other].closest(entry.stamp_ns, self._slop_ns)
                if gone is not None:
                    seconds = entry.arrival_s - gone.arrival_s
                    self._late[name] = _Late(seconds, entry.arrival_s, gone.message)

    def _forget_old(self, now_s: float) -> None:
        """Forget messages that are too old, and the oldest ones while they use too much memory."""
        partners_s = self._buffer_s + min(self._buffer_s, MARGIN_S)
        for name, shelf in self._shelves.items():
            limit_s = self._buffer_s if name == IMAGE else partners_s
            while shelf and now_s - shelf.oldest.arrival_s > limit_s:
                self._forget(name)
        while sum(shelf.bytes for shelf in self._shelves.values()) > self._buffer_bytes:
            # The newest message of each input is always kept.
            full = [name for name, s in self._shelves.items() if len(s) > 1 and s.oldest.size]
            if not full:
                break
            oldest = min(full, key=lambda name: self._shelves[name].oldest.arrival_s)
            self._forget(oldest, now_s - self._shelves[oldest].oldest.arrival_s)

    def _forget(self, name: str, crowded_s: float | None = None) -> None:
        """Forget the oldest message of an input, but remember its stamp.

        In place of the message, ``crowded_s`` is remembered (see :class:`_Late`).
        """
        entry = self._shelves[name].pop()
        if name == IMAGE:
            self._drop_unmatched(entry.stamp_ns)
        forgotten = self._forgotten[name]
        forgotten.add(entry.stamp_ns, crowded_s, 0, entry.arrival_s)
        if len(forgotten) > FORGOTTEN:
            forgotten.pop()
