"""The node's process as a soak sees it: what it holds, whether that stays flat, and how it ends."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path('/dev/shm')
END_S = 2.0
WARM_UP = 1 / 3
"""Share of the samples that is left out: arenas, pools of threads and caches fill."""
ALLOWED = {'rss_mb': 8.0, 'pss_mb': 8.0, 'threads': 2.0, 'files': 2.0, 'shared': 2.0}
"""Growth from the first sample after the warm-up to the last one."""


def allowed(minutes: float, at_work: bool) -> dict[str, float]:
    """What may grow by how much in a run of so many minutes.

    In the first minutes the heap still fills, and a leak of memory has to be large to be told from
    that. At work memory also depends on how many pictures wait, and for what.
    """
    memory_mb = (48.0 if at_work else 8.0) if minutes >= 5 else 48.0
    return {**ALLOWED, 'rss_mb': memory_mb, 'pss_mb': memory_mb}


LEAKS = ('memory', 'threads', 'files', 'shared')
_KEPT: list[object] = []
"""What is leaked on purpose."""


@dataclass(frozen=True)
class Sample:
    """What a process holds."""

    rss_mb: float
    pss_mb: float
    """Its share of what is in no file: that of libraries depends on who else has loaded them."""
    threads: int
    files: int
    shared: int
    """Files of /dev/shm that it has mapped."""
    shared_mb: float


def sample(pid: int) -> Sample:
    """What a process holds now."""
    folder = Path(f'/proc/{pid}')
    memory = (folder / 'smaps_rollup').read_text()
    segments = shared_segments(pid)
    return Sample(
        rss_mb=_number(memory, 'Rss') / 1024,
        pss_mb=(_number(memory, 'Pss_Anon') + _number(memory, 'Pss_Shmem')) / 1024,
        threads=_number((folder / 'status').read_text(), 'Threads'),
        files=len(os.listdir(folder / 'fd')),
        shared=len(segments),
        shared_mb=sum(segments.values()) / 2**20,
    )


def shared_segments(pid: int) -> dict[str, int]:
    """Files of shared memory that a process has mapped, and how many bytes of them."""
    segments: dict[str, int] = {}
    for line in Path(f'/proc/{pid}/maps').read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        if name.startswith(f'{SHARED}/'):
            low, high = (int(end, 16) for end in span.split('-'))
            segments[name] = segments.get(name, 0) + high - low
    return segments


def own_segments(pid: int) -> set[str]:
    """Shared memory that a process has made for itself: it holds the lock beside it (Fast DDS)."""
    owned = set()
    for entry in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            name = os.readlink(entry)
            if name.startswith(f'{SHARED}/') and name.endswith('_el') and '_port' not in name:
                owned |= {name, name.removesuffix('_el')}
    return owned


def _number(text: str, name: str) -> int:
    return int(re.search(rf'^{name}:\s*(\d+)', text, re.MULTILINE)[1])


def growth(values: Sequence[float]) -> float:
    """Growth over a series: the median slope of all pairs (Theil and Sen) times its length.

    A step that happens once hardly changes it, as one value that is out of line; what grows
    steadily does.
    """
    pairs = itertools.combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs) * (len(values) - 1)


def after_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples that count.

    Raises
    ------
    ValueError
        There are too few of them.
    """
    after = samples[round(WARM_UP * len(samples)) :]
    if len(after) < 3:
        raise ValueError(f'expected 4 cycles or more to judge, got {len(samples)}')
    return after


def not_flat(
    samples: Sequence[Sample], most: dict[str, float] = ALLOWED, where: str = 'at rest'
) -> list[str]:
    """What grew by more than it may, after the warm-up."""
    try:
        after = after_warm_up(samples)
    except ValueError as error:
        return [str(error)]
    faults = []
    for field, limit in most.items():
        series = [getattr(one, field) for one in after]
        if (more := growth(series)) > limit:
            shown = ', '.join(f'{value:.4g}' for value in series)
            faults.append(f'{field} {where} grew by {more:.1f}, allowed are {limit:g}: {shown}')
    return faults


def grown(samples: Sequence[Sample], most: dict[str, float]) -> str:
    """How much everything grew after the warm-up, and how much it may, for people."""
    after = after_warm_up(samples)
    return ', '.join(
        f'{field} {growth([getattr(one, field) for one in after]):+.1f} ({limit:g})'
        for field, limit in most.items()
    )


class Node:
    """The node's process.

    Parameters
    ----------
    command : sequence of str
        Arguments of Python.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.log = tempfile.TemporaryFile('w+')  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._own: set[str] = set()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def sample(self) -> Sample:
        """What it holds now."""
        taken = sample(self.process.pid)
        self._own |= own_segments(self.process.pid)
        return taken

    def end(self) -> list[str]:
        """Send SIGTERM; return what is wrong with the end, or with the log."""
        faults = []
        if self.alive:
            self._own |= own_segments(self.process.pid)
            self.process.send_signal(signal.SIGTERM)
            started_s = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10 * END_S)
            if (took_s := time.monotonic() - started_s) > END_S:
                faults.append(f'SIGTERM took {took_s:.1f} s')
        if self.alive:
            self.process.kill()
        if code := self.process.wait():
            faults.append(f'the node ended with code {code}')
        if not self._own:
            faults.append('no shared memory of its own was seen: nothing is known of what is left')
        if left := sorted(filter(os.path.exists, self._own)):
            faults.append(f'shared memory left behind: {left}')
        self.log.seek(0)
        lines = self.log.read().splitlines()
        for word in ('Traceback', 'terminate called', 'Exception ignored'):
            if any(word in line for line in lines):
                faults.append(f'{word} in the log')
        if faults:
            print('\n'.join(lines[-40:]))
        return faults


def leak(kind: str) -> None:
    """Leak a little of something, to see that it is noticed."""
    if kind == 'memory':
        _KEPT.append(bytearray(os.urandom(16 << 20)))
    elif kind == 'files':
        _KEPT.append(os.open(os.devnull, os.O_RDONLY))
    elif kind == 'threads':
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    else:
        path = SHARED / f'soak_{os.getpid()}_{len(_KEPT)}'
        path.write_bytes(bytes(4096))
        with path.open('r+b') as file:
            _KEPT.append(mmap.mmap(file.fileno(), 4096))
        path.unlink()  # it stays mapped


def main() -> None:
    """Be the node, with transforms also where there is no tf2_ros, and with a leak if asked."""
    sys.path.insert(0, str(ROOT))
    from nvs_ros.messages import transforms
    from nvs_ros.node import main as node
    from nvs_ros.node import view_node
    from nvs_ros.testing import light_tf2

    if transforms.tf2_ros is None:
        transforms.tf2_ros = light_tf2
    if kinds := os.environ.get('NVS_LEAK'):
        view_node.give_back_memory = lambda: [leak(kind) for kind in kinds.split()]
    node.main()


if __name__ == '__main__':
    main()
