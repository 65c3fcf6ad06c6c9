"""The cores of the machine, which a robot's other programs use as well.

OpenMP's threads meet after each layer, hundreds of times in one network evaluation. Where another
program has one of the cores, all wait for the thread on it; and those that wait do so by spinning,
which uses up the share of the processor that they need for the next layer. On idle cores the same
spinning is what makes two threads faster than one. So processes of our own look at the cores
between network evaluations, and spin and take threads accordingly.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SPIN_VARIABLES = ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY', 'KMP_BLOCKTIME')
THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OMP_THREAD_LIMIT', 'OMP_DYNAMIC')
BLAS_VARIABLES = ('OPENBLAS_NUM_THREADS', 'GOTO_NUM_THREADS', 'OMP_NUM_THREADS')
GLANCES, GLANCE_S = 3, 0.001
"""How often and at what intervals running threads are counted."""
PERIOD_S = 0.15
"""Between two looks at the machine, which counts in steps of 0.01 s."""
CROWDED = 0.25
"""Cores that others use: with less they are taken to be idle."""
UNDISTURBED = 0.8
"""Share of the time that a thread works which has a core of its own."""
HOLD_S = 3.0
"""How long no free core is looked for where there was none."""
PARALLEL_ELEMENTS = 1 << 16
"""For each thread, so that torch uses them all: twice the least that it gives to one."""


def share_cores(threads: bool = True) -> None:
    """Get on with other programs from now on; to be called before NumPy is imported.

    NumPy's own threads (OpenBLAS) wait for the next product of matrices by spinning for tens of
    milliseconds, and the few products that are large enough for them take one: a single thread does
    them.

    For processes of our own: a program that uses the package as a library decides for itself. The
    user's own variables of OpenMP win.

    Parameters
    ----------
    threads : bool
        Change the number of threads as well, not only how they wait. It changes a view by rounding.
    """
    if not any(name in os.environ for name in BLAS_VARIABLES):
        os.environ['OPENBLAS_NUM_THREADS'] = '1'
    spins = not any(name in os.environ for name in SPIN_VARIABLES)
    numbers = threads and not any(name in os.environ for name in THREAD_VARIABLES)
    _follower.share(threads=numbers, brake=Brake() if spins else None)


def use_threads(number: int) -> None:
    """Use so many threads from now on; with 0 as many as if nobody had ever asked for a number."""
    _follower.use(number)


def follow_cores(begins: bool = False) -> None:
    """Look at the cores, in the thread that runs the network; does nothing unless asked to by
    :func:`share_cores` or :func:`use_threads`.

    Parameters
    ----------
    begins : bool
        False between two network evaluations of a run, True before the first.
    """
    _follower.follow(begins)


def threads_for(cores: int, others: float, most: int) -> int:
    """Threads to use.

    As many as there are free cores, each at its full speed; but where less than half of them are
    free, half of every core, which is what a busy program leaves, is more than that.

    Parameters
    ----------
    cores : int
        That this process may use.
    others : float
        Cores that other programs have used of them.
    most : int
        Threads on a machine without other work.
    """
    free = round(cores - others)
    return max(1, min(most, free if 2 * free >= cores else cores))


class Look(NamedTuple):
    """What a thread sees of the cores: seconds of the processor that were used so far."""

    at_s: float
    """Of the steady clock."""
    cores: int
    """That this process may use."""
    everybody_s: float
    """Used on those, by whomever."""
    own_s: float
    """By this process."""
    thread: int
    thread_s: float
    """By this thread."""


def look() -> Look:
    """What the cores have done so far."""
    cores = os.sched_getaffinity(0)
    return Look(
        time.monotonic(),
        len(cores),
        busy_s(cores),
        time.process_time(),
        threading.get_ident(),
        time.thread_time(),
    )


def busy_s(cores: set[int]) -> float:
    """Seconds that cores have worked for whomever since the machine started."""
    ticks = 0
    for line in Path('/proc/stat').read_text().splitlines():
        name, *fields = line.split()
        if name[:3] == 'cpu' and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _, _, interrupts, soft, stolen = map(int, fields[:8])
            ticks += user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf('SC_CLK_TCK')


def others_running() -> int:
    """Threads of whomever that want a core right now, besides this one; the least of some counts,
    for some run for an instant only."""
    counts = []
    for i in range(GLANCES):
        if i:
            time.sleep(GLANCE_S)
        (line,) = (
            line
            for line in Path('/proc/stat').read_text().splitlines()
            if line.startswith('procs_running')
        )
        counts.append(int(line.split()[1]) - 1)
    return max(0, min(counts))


class Brake:
    """Makes OpenMP's threads sleep as soon as they wait, while it is on.

    How long they spin before that is read when the library is loaded, and cannot be set later. But
    GNU's hardly spins while it manages more threads than there were cores at that time, and it
    manages those of every thread that has a team. So a thread with a team of its own that does
    nothing else is the brake. Other libraries do not mind it.
    """

    def __init__(self) -> None:
        self._released: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def on(self) -> bool:
        """Whether they sleep at once."""
        return self._thread is not None

    def put(self, on: bool, threads: int) -> None:
        """Turn it on or off; when this returns, it is.

        Parameters
        ----------
        on : bool
        threads : int
            That the process uses now, and at most.
        """
        if on == self.on or threads < 2:
            return
        if on:
            ready, self._released = threading.Event(), threading.Event()
            arguments = threads, ready, self._released
            self._thread = threading.Thread(target=self._hold, args=arguments, daemon=True)
            self._thread.start()
            ready.wait()
        else:
            self._released.set()
            self._thread.join()  # the team goes with it
            self._thread = None

    @staticmethod
    def _hold(threads: int, ready: threading.Event, released: threading.Event) -> None:
        import torch

        try:
            torch.set_num_threads(threads)
            torch.zeros(threads * PARALLEL_ELEMENTS).exp_()
        finally:
            ready.set()
        released.wait()


class Follower:
    """Sets torch's number of threads, and how they wait, by what other programs use.

    Parameters
    ----------
    look : callable
        See :func:`look`.
    clock : callable
        That of the looks.
    glance : callable
        See :func:`others_running`: for the first evaluation after a pause.
    """

    def __init__(
        self,
        look: Callable[[], Look] = look,
        clock: Callable[[], float] = time.monotonic,
        glance: Callable[[], int] = others_running,
    ) -> None:
        self._look, self._clock, self._glance = look, clock, glance
        self._threads = False
        self._brake: Brake | None = None
        self._chosen = 0
        self._usual: int | None = None
        self._most: int | None = None
        # OpenMP has a number for each thread; a new one begins with the last that torch was told.
        self._set = threading.local()
        self._last: Look | None = None
        self._was_crowded = False
        self._all_until_s = 0.0

    def share(self, *, threads: bool, brake: Brake | None) -> None:
        """See :func:`share_cores`; without a brake it stays as it is how threads wait."""
        try:
            self._last = self._look()
        except (AttributeError, OSError, ValueError):  # a system that does not tell
            return
        self._threads, self._brake = threads, brake

    def use(self, number: int) -> None:
        """See :func:`use_threads`."""
        if self._usual is None and not number:
            return
        import torch

        if self._usual is None:
            self._usual = (self._threads and self._most) or torch.get_num_threads()
        self._chosen, self._most = number, number or self._usual
        torch.set_num_threads(self._most)
        if not number:
            self._usual = None

    def follow(self, begins: bool = False) -> None:
        """See :func:`follow_cores`."""
        if not (self._threads or self._brake or self._chosen):
            return
        import torch

        present = torch.get_num_threads()
        if self._chosen:
            if present != self._chosen:
                self._set_threads(self._chosen)
                present = self._chosen
        elif self._most is None or getattr(self._set, 'threads', present) != present:
            self._most = present  # the program has set another number
        self._set.threads = present
        last = self._last
        if last is None or (not begins and self._clock() - last.at_s < PERIOD_S):
            return
        self._last = self._look()
        passed_s = self._last.at_s - last.at_s
        if begins:  # what the cores did in the pause says little of now
            self._was_crowded = False
            # Those that want a core do not get all of them once this thread wants one as well.
            others = min(self._glance(), max(1, self._last.cores - 1))
            self._decide(present, float(others), 1.0)
        else:
            others_s = self._last.everybody_s - last.everybody_s - self._last.own_s + last.own_s
            got = 1.0
            if self._last.thread == last.thread:
                got = (self._last.thread_s - last.thread_s) / passed_s
            self._decide(present, max(0.0, others_s) / passed_s, got)

    def _decide(self, present: int, others: float, got: float) -> None:
        """Set what fits the cores that others use and the share of one that this thread got."""
        cores, now_s = self._last.cores, self._last.at_s
        crowded = others > CROWDED
        all_of_them = min(self._most, cores)
        if not crowded:
            # Seen twice: a little too much consideration costs less than a little too little.
            if not self._was_crowded:
                self._change(present, all_of_them, braked=False)
        else:
            wanted = threads_for(cores, others, self._most)
            # Of two cores one thread makes more than two that wait for each other (measured).
            if cores > 2 and present < all_of_them and got < UNDISTURBED:
                self._all_until_s = now_s + HOLD_S  # not even fewer have cores of their own
            if now_s < self._all_until_s:
                wanted = all_of_them
            self._change(present, wanted, braked=True)
        self._was_crowded = crowded

    def _change(self, present: int, threads: int, *, braked: bool) -> None:
        if self._brake is not None and braked and not self._brake.on:
            self._brake.put(True, self._most)
            self._set_threads(present)  # the brake has told torch another number
        if self._threads and not self._chosen and threads != present:
            self._set_threads(threads)
        if self._brake is not None and not braked:
            self._brake.put(False, self._most)

    def _set_threads(self, number: int) -> None:
        import torch

        torch.set_num_threads(number)
        self._set.threads = number


_follower = Follower()
