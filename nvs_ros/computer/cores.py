"""Share the cores of the machine with the other programs of a robot.

OpenMP's threads synchronise after each layer, hundreds of times in one network evaluation. If
another program uses one of the cores, all threads wait for the one on that core. They wait by
spinning, which uses up the processor time that they need for the next layer; on idle cores, that
same spinning is what makes two threads faster than one. Therefore the package's own programs check
the load of the cores between network evaluations, and adapt spinning and number of threads to it.
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
"""Number and interval of the samples in which running threads are counted."""
PERIOD_S = 0.15
"""Least time between two measurements of the load, which the system counts in steps of 0.01 s."""
CROWDED = 0.25
"""Least load by other programs, in cores, that counts as crowded; below it cores count as idle."""
UNDISTURBED = 0.8
"""Least share of the time that a thread with a core of its own runs."""
HOLD_S = 3.0
"""How long all cores are used after no free one was found, before trying again."""
PARALLEL_ELEMENTS = 1 << 16
"""Elements per thread with which torch uses all threads: twice the fewest it gives to one."""


def share_cores(threads: bool = True) -> None:
    """Adapt to other programs from now on; call it before NumPy is imported.

    Also limits NumPy's OpenBLAS to one thread: its threads spin for tens of milliseconds after a
    product of matrices, and the few products large enough for them take only about one.

    Only the package's own programs call this; a program that uses it as a library decides for
    itself. Environment variables of OpenMP that the user has set take precedence.

    Parameters
    ----------
    threads : bool
        Change the number of threads too, not only how they wait. This changes views by rounding.
    """
    if not any(name in os.environ for name in BLAS_VARIABLES):
        os.environ['OPENBLAS_NUM_THREADS'] = '1'
    spins = not any(name in os.environ for name in SPIN_VARIABLES)
    numbers = threads and not any(name in os.environ for name in THREAD_VARIABLES)
    _follower.share(threads=numbers, brake=Brake() if spins else None)


def use_threads(number: int) -> None:
    """Use ``number`` threads from now on; 0: the number used before a number was set."""
    _follower.use(number)


def follow_cores(begins: bool = False) -> None:
    """Adapt to the load of the cores; call it in the thread that runs the network.

    Does nothing unless :func:`share_cores` or :func:`use_threads` was called.

    Parameters
    ----------
    begins : bool
        True before the first network evaluation of a run, False between evaluations.
    """
    _follower.follow(begins)


def following(callback: Callable[[dict], None] | None) -> Callable[[dict], None]:
    """Wrap a callback to adapt to the load of the cores between evaluations; adapts now as well."""
    follow_cores(begins=True)

    def follow(progress: dict) -> None:
        follow_cores()
        if callback is not None:
            callback(progress)

    return follow


def threads_for(cores: int, others: float, most: int) -> int:
    """Number of threads to use.

    As many as there are free cores, which run at full speed. But if less than half of the cores are
    free, one for each core: half of every core, which a busy program leaves, is more than that.

    Parameters
    ----------
    cores : int
        Number of cores that this process may use.
    others : float
        How many of them other programs use.
    most : int
        Threads to use on a machine without other work.
    """
    free = round(cores - others)
    return max(1, min(most, free if 2 * free >= cores else cores))


class Look(NamedTuple):
    """A measurement of the processor time used so far."""

    at_s: float
    """When it was taken, seconds of the monotonic clock."""
    cores: int
    """Number of cores that this process may use."""
    everybody_s: float
    """Processor time used on those cores by all programs."""
    own_s: float
    """Processor time used by this process."""
    thread: int
    thread_s: float
    """Processor time used by this thread."""


def look() -> Look:
    """Measure the processor time used so far."""
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
    """Processor time in seconds used on some cores by all programs since the machine started."""
    ticks = 0
    for line in Path('/proc/stat').read_text().splitlines():
        name, *fields = line.split()
        if name[:3] == 'cpu' and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _, _, interrupts, soft, stolen = map(int, fields[:8])
            ticks += user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf('SC_CLK_TCK')


def others_running() -> int:
    """Number of threads of all programs, besides this one, that want a core right now.

    The smallest of several counts, because some threads run only for an instant.
    """
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
    """While it is on, OpenMP's threads sleep instead of spinning when they wait.

    How long threads spin is read when the library is loaded and cannot be changed later. But GNU's
    OpenMP hardly spins while it manages more threads than there were cores at that time, counting
    the teams of all threads. So the brake is a thread that has a team of its own and does nothing.
    Other OpenMP libraries are not affected.
    """

    def __init__(self) -> None:
        self._team: tuple[threading.Thread, threading.Event] | None = None

    @property
    def on(self) -> bool:
        """Whether the brake is on."""
        return self._team is not None

    def put(self, on: bool, threads: int) -> None:
        """Turn the brake on or off; takes effect before this returns.

        Parameters
        ----------
        on : bool
        threads : int
            Most threads that the process uses; with fewer than 2 nothing is done.
        """
        if on == self.on or threads < 2:
            return
        if self._team is None:
            ready, released = threading.Event(), threading.Event()
            arguments = threads, ready, released
            thread = threading.Thread(target=self._hold, args=arguments, daemon=True)
            self._team = thread, released
            thread.start()
            ready.wait()
        else:
            thread, released = self._team
            released.set()
            thread.join()  # its team ends with it
            self._team = None

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
    """Adapts torch's number of threads, and how they wait, to the load by other programs.

    Parameters
    ----------
    look : callable
        See :func:`look`.
    clock : callable
        The clock of :attr:`Look.at_s`.
    glance : callable
        See :func:`others_running`; used before the first evaluation of a run.
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
        self._most = 0  # not known yet
        # OpenMP keeps the number for each thread; new threads begin with the last one set in torch.
        self._set = threading.local()
        self._last: Look | None = None
        self._was_crowded = False
        self._all_until_s = 0.0

    def share(self, *, threads: bool, brake: Brake | None) -> None:
        """See :func:`share_cores`; without a brake the way threads wait is not changed."""
        try:
            self._last = self._look()
        except (AttributeError, OSError, ValueError):  # the system does not provide the load
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
        elif not self._most or getattr(self._set, 'threads', present) != present:
            self._most = present  # the program has set another number
        self._set.threads = present
        last = self._last
        if last is None or (not begins and self._clock() - last.at_s < PERIOD_S):
            return
        now = self._last = self._look()
        passed_s = now.at_s - last.at_s
        if begins:  # the load during the pause says little about the present
            self._was_crowded = False
            # Other threads cannot have all cores once this thread wants one, too.
            others = min(self._glance(), max(1, now.cores - 1))
            self._decide(now, present, float(others), 1.0)
        else:
            others_s = now.everybody_s - last.everybody_s - now.own_s + last.own_s
            got = 1.0
            if now.thread == last.thread:
                got = (now.thread_s - last.thread_s) / passed_s
            self._decide(now, present, max(0.0, others_s) / passed_s, got)

    def _decide(self, now: Look, present: int, others: float, got: float) -> None:
        """Adapt to the cores that others use, and the share of a core that this thread got."""
        cores, now_s = now.cores, now.at_s
        crowded = others > CROWDED
        all_of_them = min(self._most, cores)
        if not crowded:
            # Only when seen twice: yielding too long costs less than yielding too little.
            if not self._was_crowded:
                self._change(present, all_of_them, braked=False)
        else:
            wanted = threads_for(cores, others, self._most)
            # On two cores one thread does more than two that wait for each other (measured).
            if cores > 2 and present < all_of_them and got < UNDISTURBED:
                self._all_until_s = now_s + HOLD_S  # even fewer threads have no cores of their own
            if now_s < self._all_until_s:
                wanted = all_of_them
            self._change(present, wanted, braked=True)
        self._was_crowded = crowded

    def _change(self, present: int, threads: int, *, braked: bool) -> None:
        if self._brake is not None and braked and not self._brake.on:
            self._brake.put(True, self._most)
            self._set_threads(present)  # the brake has set another number in torch
        if self._threads and not self._chosen and threads != present:
            self._set_threads(threads)
        if self._brake is not None and not braked:
            self._brake.put(False, self._most)

    def _set_threads(self, number: int) -> None:
        import torch

        torch.set_num_threads(number)
        self._set.threads = number


_follower = Follower()
