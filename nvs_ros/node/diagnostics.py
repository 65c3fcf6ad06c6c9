"""Health of the node: ``/diagnostics`` once a second, and warnings that name their cause."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

PERIOD_S = 1.0
REPEAT_S = 10.0
"""The same warning comes again after this time at the earliest."""


class Health:
    """Publishes the state of the node and gives out throttled warnings.

    Parameters
    ----------
    node : rclpy.node.Node
    describe : callable
        Returns a level, a sentence, and keys with values; called once a second.
    """

    def __init__(
        self, node: Node, describe: Callable[[], tuple[bytes, str, dict[str, object]]]
    ) -> None:
        self._node = node
        self._describe = describe
        self._warned_at: dict[str, float] = {}
        self._latency_s: dict[str, float] = {}
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A group of its own: loading a model in `configure` must not silence it.
        self._timer = node.create_timer(
            PERIOD_S, self._publish, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def record(self, stage: str, seconds: float) -> None:
        """Remember how long a stage took last."""
        self._latency_s[stage] = seconds

    def warn(self, cause: str, message: str) -> None:
        """Log a warning, each cause at most once in :data:`REPEAT_S`."""
        now = time.monotonic()
        if now - self._warned_at.get(cause, -REPEAT_S) >= REPEAT_S:
            self._warned_at[cause] = now
            self._node.get_logger().warning(message)

    def _publish(self) -> None:
        level, message, values = self._describe()
        values |= {f'latency {stage} [s]': f'{s:.3f}' for stage, s in self._latency_s.items()}
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
