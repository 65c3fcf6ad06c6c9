"""Quality of service: what may be overridden, and the events of publishers and subscriptions."""

from __future__ import annotations

from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # the module has this name from Iron on
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

__all__ = ['NO_EVENTS', 'OVERRIDABLE', 'PublisherEventCallbacks', 'SubscriptionEventCallbacks']

OVERRIDABLE = QoSOverridingOptions(
    [QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY, QoSPolicyKind.DEPTH]
)
"""Policies that ``qos_overrides.<topic>.<publisher|subscription>.*`` may change."""

NO_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
"""Of publishers that are many: rclpy's executors walk over every event each time they wake, which
with its two default ones for each topic of eight views took longer than the views."""
