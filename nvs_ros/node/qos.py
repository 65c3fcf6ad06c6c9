"""Quality of service: what may be overridden, and the events of publishers and subscriptions."""

from __future__ import annotations

from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # the name of the module before Iron
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

__all__ = ['NO_EVENTS', 'OVERRIDABLE', 'PublisherEventCallbacks', 'SubscriptionEventCallbacks']

OVERRIDABLE = QoSOverridingOptions(
    [QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY, QoSPolicyKind.DEPTH]
)
"""Policies that ``qos_overrides.<topic>.<publisher|subscription>.*`` may change."""

NO_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
"""No event callbacks, for publishers that are many: rclpy's executors iterate over all events each
time they wake, which with two default events for each topic of eight views took longer than making
the views."""
