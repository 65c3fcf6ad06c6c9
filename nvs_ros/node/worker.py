"""One thread that does the slow work: requests in turn, otherwise the newest frame.

No ROS here. Work is stopped between network evaluations by raising :class:`Cancelled` from the
synthesizer's callback.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Cancelled(Exception):
    """Raised inside a piece of work that is no longer wanted."""


class Busy(Exception):
    """No more requests can wait."""


class Job:
    """A piece of work on request.

    Parameters
    ----------
    work : callable
        Called with the job in the worker's thread; calls :meth:`check` often.
    """

    def __init__(self, work: Callable[[Job], Any]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._started = False
        self._finished = threading.Event()
        self._cancel_reason = ''
        self._result: Any = None
        self._error: BaseException | None = None

    @property
    def finished(self) -> bool:
        """Whether there is a result or an error."""
        return self._finished.is_set()

    def cancel(self, reason: str) -> None:
        """End the work: at once if it still waits, else at its next :meth:`check`."""
        with self._lock:
            self._cancel_reason = reason
            if not self._started and not self.finished:
                self._error = Cancelled(reason)
                self._finished.set()

    def check(self) -> None:
        """Raise :class:`Cancelled` when the work is no longer wanted."""
        if self._cancel_reason:
            raise Cancelled(self._cancel_reason)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; return whether it came in time."""
        return self._finished.wait(timeout_s)

    def result(self) -> Any:
        """Wait for the end; return what the work returned or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def run(self) -> None:
        """Do the work; called by the worker."""
        with self._lock:
            if self.finished:
                return
            self._started = True
        try:
            self._result = self._work(self)
        except BaseException as error:  # handed to whoever waits
            self._error = error
        finally:
            self._finished.set()


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
