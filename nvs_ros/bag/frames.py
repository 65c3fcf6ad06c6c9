"""The frames of a bag: every image with its partners, however much later those were recorded.

The bag is read twice. First the stamps alone are matched, then the messages of the frames that are
wanted are taken out.
"""

from __future__ import annotations

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
"""Partners of which each belongs to one image."""
HELD_BYTES = 2_000_000_000
"""What the messages of unfinished frames may take; for frames beyond, the bag is read again."""


class Stamped(NamedTuple):
    """A well-formed message of an input, without its content."""

    stamp_ns: int
    recorded_ns: int
    number: int
    """Place among all messages read."""


@dataclass
class Matched:
    """What goes together in a bag.

    Parameters
    ----------
    frames : list of dict
        Input -> message, of every complete frame in the order of its image.
    images : int
        All images, malformed ones included.
    dropped : Counter
        Why so many images are in no frame.
    malformed : Counter
        Messages that cannot be used, by input.
    reasons : list of str
        What is wrong with the inputs, in words.
    """

    frames: list[dict[str, Stamped]] = field(default_factory=list)
    images: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)


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
        Largest difference between the stamps of an image and its partners, in seconds. The closest
        is taken; of those of one stamp, the one that was recorded the least time apart.
    check : callable
        Raises ValueError for a message that cannot be used.
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
        if missing := [name for name, stamped in partner.items() if stamped is None]:
            matched.dropped[f'no {" and ".join(missing)} of its stamp'] += 1
        else:
            matched.frames.append({IMAGE: image, **partner})
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
    """Take frames out of a bag.

    Parameters
    ----------
    bag : Bag
        The one that was matched.
    matched : Matched
    wanted : collection of int
        Places among ``matched.frames``.
    held_bytes : int
        See :data:`HELD_BYTES`.

    Yields
    ------
    place : int
    frame : FrameMessages
        As soon as the last of its messages was read.
    """
    left = set(wanted)
    while left:
        done = set()
        for place, frame in _pass(bag, matched, left, held_bytes):
            done.add(place)
            yield place, frame
        left -= done
        if not done:  # the bag broke off between the two readings
            return


def _stamps(
    bag: Bag, names: Mapping[str, str], check: Callable[[Any], None], matched: Matched
) -> dict[str, list[Stamped]]:
    """Stamps of the well-formed messages by input; what is wrong with the others is told."""
    found: dict[str, list[Stamped]] = {name: [] for name in names.values()}
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    with tqdm(total=bag.message_count, desc='stamps', unit='message') as progress:
        for number, record in _until_broken(bag, matched.reasons.append):
            progress.update()
            name = names[record.topic]
            counts[name] += 1
            try:
                message = record.read(record.data)
                check(message)
            except Exception as error:  # broken bytes make rosbags raise anything
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
    """Of partners sorted by stamp and by recording."""
    near = []
    after = bisect.bisect_left(partners, (image.stamp_ns,))
    for stamp in {partner.stamp_ns for partner in partners[max(after - 1, 0) : after + 1]}:
        at = bisect.bisect_left(partners, (stamp, image.recorded_ns))
        around = partners[max(at - 1, 0) : at + 1]
        near += [partner for partner in around if partner.stamp_ns == stamp]
    best = min(near, key=lambda partner: _distance(image, partner), default=None)
    return best if best is not None and _distance(image, best)[0] <= slop_ns else None


def _give_once(images: list[Stamped], chosen: list[dict[str, Stamped | None]], name: str) -> None:
    """Leave each picture to the closest of the images that chose it."""
    choosers = defaultdict(list)
    for place, partners in enumerate(chosen):
        if partners[name] is not None:
            choosers[partners[name]].append(place)
    for picture, places in choosers.items():
        closest = min(places, key=lambda place: _distance(images[place], picture))
        for place in places:
            if place != closest:
                chosen[place][name] = None


def _smallest_gap_s(a: list[Stamped], b: list[Stamped]) -> float | None:
    """Smallest difference between two sorted lists of stamps; None when one is empty."""
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
    """Read the bag once; frames that find no more room are left for another time."""
    users: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for place in wanted:
        for name, stamped in matched.frames[place].items():
            users[stamped.number].append((place, name))
    held: dict[int, dict[str, Record]] = {}
    put_off: set[int] = set()
    size = 0
    for number, record in _until_broken(bag):
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
    bag: Bag, tell: Callable[[str], None] = lambda problem: None
) -> Iterator[tuple[int, Record]]:
    """The numbered messages of a bag, as far as it can be read."""
    records = enumerate(bag.records())
    while True:
        try:
            item = next(records)
        except StopIteration:
            return
        except UserError as error:
            tell(str(error))
            return
        yield item
