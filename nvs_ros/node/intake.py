"""From messages to frames: matching by stamp, a slot for the newest frame, and what was dropped.

No ROS here: messages are opaque, stamps are nanoseconds. Order of arrival, not the stamp, decides
what is new: a stamp in the far future or a bag that starts over cannot block the frames after it.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

IMAGE = 'image'
SUPERSEDED = 'superseded by a newer frame'


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


@dataclass
class Statistics:
    """Counts since activation.

    ``images`` = ``used`` + all of ``dropped`` + images still waiting (:meth:`Intake.waiting`) + the
    frame being worked on.
    """

    images: int = 0
    used: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    """Messages by input, malformed ones included."""
    malformed: Counter[str] = field(default_factory=Counter)
    """Malformed messages by input."""


class Intake:
    """Matches messages by stamp and holds the newest complete frame until it is taken.

    Thread-safe.

    Parameters
    ----------
    inputs : tuple of str
        What a frame consists of, ``'image'`` among them.
    slop_s : float
        Largest difference between the stamps of an image and its partners, in seconds.
    buffer : int
        Messages of each input that are kept.
    on_frame : callable
        Called without arguments when a frame is complete.
    clock : callable
        Monotonic time in seconds.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        slop_s: float,
        buffer: int,
        on_frame: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._slop_ns = round(slop_s * 1e9)
        self._images: deque[tuple[int, Any]] = deque()
        self._partners = {name: deque(maxlen=buffer) for name in inputs if name != IMAGE}
        self._buffer = buffer
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

    def add(self, name: str, stamp_ns: int, message: Any) -> None:
        """Take over a well-formed message."""
        with self._lock:
            self._statistics.received[name] += 1
            self.last_arrival_s[name] = self._clock()
            if name == IMAGE:
                self._statistics.images += 1
                self._images.append((stamp_ns, message))
            else:
                self._partners[name].append((stamp_ns, message))
            completed = self._match()
            while len(self._images) > self._buffer:
                self._drop_unmatched(self._images.popleft()[0])
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
        """Smallest difference between the stamps of a waiting image and an input, or None."""
        with self._lock:
            gaps = [
                abs(image_ns - partner_ns)
                for image_ns, _ in self._images
                for partner_ns, _ in self._partners[name]
            ]
        return min(gaps) * 1e-9 if gaps else None

    def _match(self) -> bool:
        """Complete a frame with the newest image that has all its partners."""
        for index in reversed(range(len(self._images))):
            stamp_ns, image = self._images[index]
            found = {name: self._closest(stamp_ns, name) for name in self._partners}
            if None in found.values():
                continue
            for _ in range(index):
                self._drop_unmatched(self._images.popleft()[0])
            self._images.popleft()
            if self._slot is not None:
                self._statistics.dropped[SUPERSEDED] += 1
            messages = {IMAGE: image, **{name: match[1] for name, match in found.items()}}
            self._slot = self._newest = FrameMessages(stamp_ns, messages, self._clock())
            return True
        return False

    def _closest(self, stamp_ns: int, name: str) -> tuple[int, Any] | None:
        # Of equal stamps, the message that came last.
        candidates = reversed(self._partners[name])
        best = min(candidates, key=lambda item: abs(item[0] - stamp_ns), default=None)
        return best if best is not None and abs(best[0] - stamp_ns) <= self._slop_ns else None

    def _drop_unmatched(self, stamp_ns: int) -> None:
        missing = [name for name in self._partners if self._closest(stamp_ns, name) is None]
        reason = f'no {" and ".join(missing)} of its stamp' if missing else SUPERSEDED
        self._statistics.dropped[reason] += 1
