"""The executor of the node: many threads, for callbacks that wait.

``rclpy.executors.MultiThreadedExecutor`` has two faults that concern a node whose requests wait and
whose subscriptions come and go (seen in Jazzy and Kilted):

- A callback that has not begun yet is submitted again each time the executor wakes. The threads
  work through the copies, which wakes it again: callbacks run tens to hundreds of milliseconds
  late, and one core is busy all the time (https://github.com/ros2/rclpy/issues/1452).
- When another thread destroys a subscription while the wait set is being filled, the subscription's
  events raise ``InvalidHandle`` and ``spin`` ends (https://github.com/ros2/rclpy/issues/1284). An
  action server raises ``RCLError`` then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.logging import get_logger
from rclpy.task import Task

CHECK_S = 0.1
"""How often a wait for a free thread checks whether the context has been shut down."""

FAILING_S = 5.0
"""How long waits may fail in a row before spin gives up; a destruction takes much less."""
PAUSE_S = 0.001
"""Pause after a wait that failed, so that another thread can finish its destruction."""


class ThreadedExecutor(Executor):
    """Runs callbacks in a pool of threads.

    An exception in a callback ends :meth:`spin` with that exception, as with rclpy's, unless
    ``on_error`` takes it. Only :meth:`spin` and :meth:`spin_once` are supported.

    Parameters
    ----------
    num_threads : int
        Most callbacks that run at the same time.
    context : rclpy.context.Context, optional
        The default context when omitted.
    on_error : callable, optional
        Called with the exception of a callback, including callbacks of rclpy itself (a client that
        is gone before its answer, a parameter of an unknown type).
    """

    def __init__(
        self,
        num_threads: int,
        *,
        context: Context | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        super().__init__(context=context)
        self._on_error = on_error
        self._failing_since_s: float | None = None
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix='callback')
        self._begun: dict[Task, Future] = {}

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for a callback, and until a thread has begun to run it.

        Parameters
        ----------
        timeout_sec : float, optional
            Seconds to wait for a callback; unlimited when omitted.

        Raises
        ------
        Exception
            What a callback raised, unless ``on_error`` takes it; or what waiting raised, after it
            has failed for more than :data:`FAILING_S`.
        """
        try:
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec)
        except (ExternalShutdownException, ShutdownException, TimeoutException):
            return
        except Exception as error:
            # Most likely something was destroyed while the wait set was filled: try again.
            now = time.monotonic()
            self._failing_since_s = self._failing_since_s or now
            if now - self._failing_since_s > FAILING_S:
                raise
            get_logger('nvs').debug(f'waiting for callbacks: {type(error).__name__}: {error}')
            time.sleep(PAUSE_S)
            return
        self._failing_since_s = None
        begun = threading.Event()
        try:
            self._begun[task] = self._pool.submit(self._run, task, begun)
        except RuntimeError:
            return  # shut down meanwhile
        while not begun.wait(CHECK_S) and self.context.ok():
            pass
        for ended in [task for task in self._begun if task.done() or task.cancelled()]:
            del self._begun[ended]
            try:
                ended.result()
            except InvalidHandle as error:  # destroyed before its message was taken or answered
                get_logger('nvs').debug(f'a callback of what was destroyed: {error}')
            except Exception as error:
                if self._on_error is None:
                    raise
                self._on_error(error)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop, and wait for the callbacks that have begun.

        Parameters
        ----------
        timeout_sec : float, optional
            Seconds to wait; unlimited when omitted. Callbacks that take longer are abandoned.

        Returns
        -------
        bool
            Whether all callbacks ended in time.
        """
        super().shutdown(timeout_sec)
        self._pool.shutdown(wait=timeout_sec is None)
        return not wait(list(self._begun.values()), timeout_sec).not_done

    @staticmethod
    def _run(task: Task, begun: threading.Event) -> None:
        begun.set()
        task()
