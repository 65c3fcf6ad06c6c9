"""One thread that does the slow work: requests in turn, otherwise the newest frame.

No ROS here.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from nvs_ros.messages.job import Cancelled, Job


class Busy(Exception):
    """No more requests can wait."""


class Worker:
    """Runs jobs in the order they came and, when there is none, the idle work.

    Nothing that jobs or idle work raise ends it.

    Parameters
    ----------
    next_idle : callable
        Returns a callable, to be called with a :class:`Job` for its cancellation, or None.
        Called in the worker's thread after :meth:`wake`.
    queue : int
        Jobs that may wait.
    on_error : callable
        Takes what idle work raised, which nobody waits for; in the worker's thread.
    """

    def __init__(
        self,
        next_idle: Callable[[], Callable[[Job], Any] | None],
        queue: int,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._next_idle = next_idle
        self._queue_size = queue
        self._on_error = on_error
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None
        self._idle_work = False
        self._stop_reason = ''
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name='nvs worker', daemon=True)

    def start(self) -> None:
        """Begin, once everything is there that idle work needs."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Say that there may be idle work."""
        with self._condition:
            self._idle_work = True
            self._condition.notify()

    def submit(self, work: Callable[[Job], Any]) -> Job:
        """Queue a job.

        Raises
        ------
        Busy
            As many jobs wait as may.
        Cancelled
            The worker has been stopped, or has ended.
        """
        job = Job(work)
        with self._condition:
            if self._stop_reason:
                raise Cancelled(self._stop_reason)
            waiting = sum(not queued.finished for queued in self._jobs)
            if waiting >= self._queue_size:
                raise Busy(f'{waiting} requests wait already')
            self._jobs.append(job)
            self._condition.notify()
        return job

    def stop(self, reason: str, timeout_s: float | None = None) -> bool:
        """Cancel everything and end the thread.

        Returns
        -------
        bool
            Whether the thread ended in time; if not, it ends after its network evaluation.
        """
        self._refuse(reason)
        if self._thread.ident is not None:  # else it was never started
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _refuse(self, reason: str) -> None:
        """Cancel everything, and from now on refuse what is submitted."""
        with self._condition:
            self._stop_reason = self._stop_reason or reason
            for job in (*self._jobs, self._current):
                if job is not None:
                    job.cancel(self._stop_reason)
            self._condition.notify()

    def _loop(self) -> None:
        try:
            while not self._stop_reason:
                self._turn()
        finally:
            # Whatever ended it: nobody waits for an answer that cannot come.
            self._refuse('the worker has ended: deactivate and activate the node')
            # They lead back to who holds the worker, and by it to a model that is to be let go.
            with self._condition:
                self._jobs.clear()
            del self._next_idle, self._on_error

    def _turn(self) -> None:
        """Wait for something to do and do it."""
        try:
            job = self._next()
            if job is not None:
                job.run()
        except BaseException as error:
            self._report(error)
        with self._condition:
            self._current = None

    def _next(self) -> Job | None:
        with self._condition:
            self._condition.wait_for(lambda: self._stop_reason or self._jobs or self._idle_work)
            if self._stop_reason:
                return None
            if self._jobs:
                self._current = self._jobs.popleft()
                return self._current
            self._idle_work = False
        work = self._next_idle()
        if work is None:
            return None
        with self._condition:
            self._current = Job(lambda job: self._idle(work, job))
            if self._stop_reason:
                self._current.cancel(self._stop_reason)
            return self._current

    def _idle(self, work: Callable[[Job], Any], job: Job) -> None:
        try:
            work(job)
        except Cancelled:
            pass
        except BaseException as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):  # the last place where it could end the thread
            self._on_error(error)
