"""Health of the node: ``/diagnostics`` once a second, and warnings that name their cause."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node

PERIOD_S = 1.0
REPEAT_S = 10.0
"""Least time between two logs of the same cause."""
MOST_CAUSES = 1000
"""Causes whose last log is remembered; over it those of before :data:`REPEAT_S` are forgotten."""


class Health:
    """Publishes diagnostics of the node and logs throttled warnings.

    Parameters
    ----------
    node : rclpy.node.Node
    describe : callable
        Returns level, message and values of the diagnostic status; called once a second.
    """

    def __init__(
        self, node: Node, describe: Callable[[], tuple[bytes, str, dict[str, object]]]
    ) -> None:
        self._node = node
        self._describe = describe
        self._lock = threading.Lock()
        self._warned_at: dict[str, float] = {}
        self._latency_s: dict[str, float] = {}
        self._left_out = 0
        self._refused: Counter[str] = Counter()
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A callback group of its own, so that diagnostics go on while `configure` loads a model. A
        # steady clock, so that they go on when simulated time stands still.
        self._timer = node.create_timer(
            PERIOD_S,
            self._publish,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def record(self, stage: str, seconds: float) -> None:
        """Store the last duration of a stage; from any thread."""
        with self._lock:
            self._latency_s[stage] = seconds

    def warn(self, cause: str, message: str) -> None:
        """Log a warning, but each cause at most once in :data:`REPEAT_S`; from any thread."""
        if self._is_due(cause):
            self._node.get_logger().warning(message)

    def error(self, cause: str, error: BaseException) -> None:
        """Log an unexpected exception with its traceback, throttled like warnings."""
        if self._is_due(cause):
            text = ''.join(traceback.format_exception(error))
            self._node.get_logger().error(f'{cause}: {text}')

    def left_out(self, object_id: str, error: Exception) -> None:
        """Count an object that was left out of a frame, and log why."""
        with self._lock:
            self._left_out += 1
        what = f'object {object_id!r} left out of a frame'
        if isinstance(error, ValueError):
            self.warn(what, f'{what}: {error}')
        else:
            self.error(what, error)

    def refuse(self, what: str, message: str) -> None:
        """Count something that is over a limit or finds no room (``'requests'``), and log why."""
        with self._lock:
            self._refused[what] += 1
        self.warn(f'refused {what}', message)

    def _is_due(self, cause: str) -> bool:
        now = time.monotonic()
        with self._lock:
            if len(self._warned_at) > MOST_CAUSES:  # a cause may name what a peer has chosen
                recent = {c: at for c, at in self._warned_at.items() if now - at < REPEAT_S}
                self._warned_at = recent if len(recent) <= MOST_CAUSES else {}
            due = now - self._warned_at.get(cause, -math.inf) >= REPEAT_S
            if due:
                self._warned_at[cause] = now
        return due

    def _publish(self) -> None:
        try:
            level, message, values = self._describe()
        except InvalidHandle:
            return  # a part is being destroyed; the next status is published without it
        except Exception as error:  # from ROS or a broken GPU: report it and go on
            self.error('diagnostics', error)
            level, message = DiagnosticStatus.ERROR, f'{type(error).__name__}: {error}'
            values = {}
        with self._lock:
            latency_s, left_out = dict(self._latency_s), self._left_out
            values |= {f'refused: {what}': n for what, n in sorted(self._refused.items())}
        if left_out:
            values['objects left out'] = left_out
        values |= {f'latency {stage} [s]': f'{s:.3f}' for stage, s in latency_s.items()}
        status = DiagnosticStatus(
            level=level,
            name=f'{self._node.get_fully_qualified_name()}: novel views',
            message=message,
            hardware_id=self._node.get_name(),
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)
