"""The frames of a bag: every image with its partners, however much later they were recorded.

The bag is read twice: first to match the stamps of all messages, then to get the messages of the
wanted frames.
"""

from __future__ import annotations

import array
import bisect
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tqdm import tqdm

from nvs_ros.bag.reader import Bag, Record
from nvs_ros.errors import UserError
from nvs_ros.messages.frames import stamp_ns
from nvs_ros.messages.synchronizer import IMAGE, FrameMessages

PICTURES = ('mask', 'depth', 'occluders')
"""Partners that are images and belong to one image only."""
HELD_BYTES = 2_000_000_000
"""Most memory for messages of incomplete frames; for further frames the bag is read again."""
LATEST_NS = 2**63 - 1
"""Times of recording after it, which only a broken bag has, are taken for this one."""


class Stamped(NamedTuple):
    """A well-formed message of an input, without its content."""

    stamp_ns: int
    recorded_ns: int
    number: int
    """Index among all messages read."""


@dataclass
class Matched:
    """The frames of a bag, and what could not be used.

    Parameters
    ----------
    frames : list of dict
        Input -> message, for every complete frame, in the order of the images.
    images : int
        Number of images, including malformed ones.
    dropped : Counter
        Reason -> number of images that are in no frame.
    malformed : Counter
        Input -> number of messages that cannot be used.
    reasons : list of str
        Problems of the inputs, in sentences for a person.
    recorded_ns : array of int
        When each message was recorded, in the order in which they are read, nanoseconds.
    """

    frames: list[dict[str, Stamped]] = field(default_factory=list)
    images: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    recorded_ns: array.array[int] = field(default_factory=lambda: array.array('q'))

    def complete_after(self, place: int) -> int:
        """Number of the message with which the frame at this place of ``frames`` is complete."""
        return max(stamped.number for stamped in self.frames[place].values())


def match_frames(
    bag: Bag, names: Mapping[str, str], slop_s: float, check: Callable[[Any], None]
) -> Matched:
    """Find the frames of a bag.

    Parameters
    ----------
    bag : Bag
    names : mapping
        Topic -> input.
    slop_s : float
        Largest difference between the stamps of an image and its partners, seconds. Of several
        partners the closest is taken; of those with the same stamp, the one recorded closest in
        time.
    check : callable
        Raises for a message that cannot be used.
    """
    matched = Matched()
    found = _stamps(bag, names, check, matched)
    slop_ns = round(slop_s * 1e9)
    partners = {name: sorted(stamped) for name, stamped in found.items() if name != IMAGE}
    chosen = [
        {name: _closest(image, stamped, slop_ns) for name, stamped in partners.items()}
        for image in found[IMAGE]
    ]
    for name in partners.keys() & set(PICTURES):
        _give_once(found[IMAGE], chosen, name)
    for image, partner in zip(found[IMAGE], chosen, strict=True):
        there = {name: stamped for name, stamped in partner.items() if stamped is not None}
        if missing := [name for name in partner if name not in there]:
            matched.dropped[f'no {" and ".join(missing)} of its stamp'] += 1
        else:
            matched.frames.append({IMAGE: image, **there})
    images = sorted(found[IMAGE])
    for name, stamped in partners.items():
        gap_s = _smallest_gap_s(images, stamped)
        if gap_s is not None and gap_s > slop_s:
            matched.reasons.append(
                f'the stamps of image and {name} are {gap_s:.3g} s apart at best: a message has to '
                'carry the stamp of the image that it belongs to'
            )
    if bare := [name for name, all_ in found.items() if all_ and not any(m.stamp_ns for m in all_)]:
        matched.reasons.append(
            f'no stamps on {", ".join(bare)}: matched by when the messages were recorded'
        )
    return matched


def frames(
    bag: Bag, matched: Matched, wanted: Collection[int], held_bytes: int = HELD_BYTES
) -> Iterator[tuple[int, FrameMessages]]:
    """Read frames from a bag.

    Parameters
    ----------
    bag : Bag
        The bag that was matched.
    matched : Matched
    wanted : collection of int
        Indices of ``matched.frames``.
    held_bytes : int
        See :data:`HELD_BYTES`.

    Yields
    ------
    place : int
        Index of the frame in ``matched.frames``.
    frame : FrameMessages
        As soon as the last of its messages has been read.
    """
    left = set(wanted)
    while left:
        done = set()
        for place, frame in _pass(bag, matched, left, held_bytes):
            done.add(place)
            yield place, frame
        left -= done
        if not done:  # the bag has become unreadable since it was matched
            return


def _stamps(
    bag: Bag, names: Mapping[str, str], check: Callable[[Any], None], matched: Matched
) -> dict[str, list[Stamped]]:
    """Stamps of the well-formed messages by input; problems of others are added to ``matched``."""
    found: dict[str, list[Stamped]] = {name: [] for name in names.values()}
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    with tqdm(total=bag.message_count, desc='stamps', unit='message') as progress:
        records = enumerate(bag.records())
        for number, record in _until_broken(records, matched.reasons.append):
            progress.update()
            matched.recorded_ns.append(min(record.recorded_ns, LATEST_NS))
            name = names[record.topic]
            counts[name] += 1
            try:
                message = record.read(record.data)
                check(message)
            except Exception as error:  # rosbags raises errors of any type for broken bytes
                matched.malformed[name] += 1
                if name not in first:
                    problem = ' '.join(str(error).split()) or type(error).__name__
                    first[name] = f'messages on {record.topic} are malformed, the first: {problem}'
                    progress.write(f'malformed message on {record.topic}: {problem}')
                continue
            stamped = Stamped(stamp_ns(message.header), record.recorded_ns, number)
            found[name].append(stamped)
    matched.images = counts[IMAGE]
    for name, reason in first.items():
        matched.reasons.append(f'{matched.malformed[name]} of {counts[name]} {reason}')
    return found


def _distance(image: Stamped, partner: Stamped) -> tuple[int, int]:
    apart_ns = abs(partner.stamp_ns - image.stamp_ns)
    return apart_ns, abs(partner.recorded_ns - image.recorded_ns)


def _closest(image: Stamped, partners: list[Stamped], slop_ns: int) -> Stamped | None:
    """The partner that belongs to an image, or None; ``partners`` are sorted."""
    near = []
    after = bisect.bisect_left(partners, (image.stamp_ns,))
    for stamp in {partner.stamp_ns for partner in partners[max(after - 1, 0) : after + 1]}:
        at = bisect.bisect_left(partners, (stamp, image.recorded_ns))
        around = partners[max(at - 1, 0) : at + 1]
        near += [partner for partner in around if partner.stamp_ns == stamp]
    best = min(near, key=lambda partner: _distance(image, partner), default=None)
    return best if best is not None and _distance(image, best)[0] <= slop_ns else None


def _give_once(images: list[Stamped], chosen: list[dict[str, Stamped | None]], name: str) -> None:
    """Leave each partner of an input to the closest of the images that chose it."""
    choosers: defaultdict[Stamped, list[int]] = defaultdict(list)
    for place, partners in enumerate(chosen):
        if (picture := partners[name]) is not None:
            choosers[picture].append(place)
    for picture, places in choosers.items():
        closest = min(places, key=lambda place: _distance(images[place], picture))
        for place in places:
            if place != closest:
                chosen[place][name] = None


def _smallest_gap_s(a: list[Stamped], b: list[Stamped]) -> float | None:
    """Smallest difference between stamps of two sorted lists; None if either is empty."""
    smallest = None
    for item in a:
        at = bisect.bisect_left(b, (item.stamp_ns,))
        for other in b[max(at - 1, 0) : at + 1]:
            gap = abs(other.stamp_ns - item.stamp_ns)
            smallest = gap if smallest is None else min(smallest, gap)
    return None if smallest is None else smallest * 1e-9


def _pass(
    bag: Bag, matched: Matched, wanted: Collection[int], held_bytes: int
) -> Iterator[tuple[int, FrameMessages]]:
    """Read the bag once, from the first message that is needed; frames beyond the memory limit are
    left for the next pass."""
    users: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for place in wanted:
        for name, stamped in matched.frames[place].items():
            users[stamped.number].append((place, name))
    held: dict[int, dict[str, Record]] = {}
    put_off: set[int] = set()
    size = 0
    since_ns = min(matched.recorded_ns[number] for number in users)
    numbers = (i for i, ns in enumerate(matched.recorded_ns) if ns >= since_ns)
    for number, record in _until_broken(zip(numbers, bag.records(since_ns), strict=False)):
        for place, name in users.pop(number, ()):
            if place not in held and (place in put_off or size > held_bytes):
                put_off.add(place)
                continue
            parts = held.setdefault(place, {})
            parts[name] = record
            size += len(record.data)
            if len(parts) == len(matched.frames[place]):
                del held[place]
                size -= sum(len(part.data) for part in parts.values())
                messages = {name: part.read(part.data) for name, part in parts.items()}
                stamp = matched.frames[place][IMAGE].stamp_ns
                yield place, FrameMessages(stamp, messages, time.monotonic())
        if not users:
            return


def _until_broken(
    records: Iterator[tuple[int, Record]], tell: Callable[[str], None] = lambda problem: None
) -> Iterator[tuple[int, Record]]:
    """The numbered messages of a bag up to the first error, which ``tell`` is called with."""
    while True:
        try:
            item = next(records)
        except StopIteration:
            return
        except UserError as error:
            tell(str(error))
            return
        yield item
