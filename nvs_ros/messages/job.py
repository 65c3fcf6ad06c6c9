"""A piece of slow work that may be waited for and cancelled.

Work is stopped between network evaluations by raising :class:`Cancelled` from the synthesizer's
callback.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Cancelled(Exception):
    """Raised inside a piece of work that is no longer wanted."""


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
