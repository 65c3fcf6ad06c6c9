"""The subscriptions: pass checked messages to the synchronizer, and explain missing frames."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy

from nvs_ros.errors import OverLimit
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import check_message, stamp_ns
from nvs_ros.messages.input_types import input_types, picture_transports, type_name, type_names
from nvs_ros.messages.synchronizer import Synchronizer
from nvs_ros.node.diagnostics import Health
from nvs_ros.node.qos import OVERRIDABLE, SubscriptionEventCallbacks

PATIENCE_S = 3.0
"""How long an input may be silent before a warning."""

FOLLOW_S = 0.5
"""How often to check whether an input is published with another of its message types."""
DEPTH = 10
"""Queue depth for small messages."""

_LARGE = ('image', 'mask', 'depth', 'occluders')


class Inputs:
    """Subscribes to the inputs of a frame.

    QoS is best effort, as for sensor data. The depth is 1 for images and :data:`DEPTH` for small
    messages, because an image may need any one of them.

    Parameters
    ----------
    node : rclpy.node.Node
    configuration : Configuration
    health : Health
    on_frame : callable
        Called without arguments when a frame is complete.
    """

    def __init__(
        self,
        node: Node,
        configuration: Configuration,
        health: Health,
        on_frame: Callable[[], None],
    ) -> None:
        self._node = node
        self._health = health
        self._configuration = configuration
        self._types = input_types(configuration.input)
        self._topics = self._make_topics()
        names = tuple(self._topics)
        sync = configuration.sync
        self.synchronizer = Synchronizer(
            names, sync.slop_s, sync.buffer_s, on_frame, time.monotonic, sync.buffer_mb * 10**6
        )
        self._started_s = time.monotonic()
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: dict[str, Any] = {}
        self._kinds: dict[str, type] = {}
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer = None
        try:
            for name in names:
                self._subscribe(name, self._published_kind(name) or self._types[name][0])
        except Exception:
            self.close()
            raise
        # In the group of the subscriptions: no message arrives while one of them is replaced.
        self._timer = node.create_timer(
            FOLLOW_S,
            self._follow_types,
            callback_group=self._group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def close(self) -> None:
        """Destroy the subscriptions."""
        with self._lock:
            if self._timer is not None:
                self._node.destroy_timer(self._timer)
            while self._subscriptions:
                self._node.destroy_subscription(self._subscriptions.popitem()[1])

    def silence(self) -> str:
        """Why no frame becomes complete, in a sentence; ``''`` if frames arrive."""
        now, synchronizer = time.monotonic(), self.synchronizer
        for name in self._topics:
            silent_s = now - synchronizer.last_arrival_s.get(name, self._started_s)
            if silent_s < PATIENCE_S and name in synchronizer.last_arrival_s:
                continue
            malformed_s = now - synchronizer.last_malformed_s.get(name, -math.inf)
            what = 'nothing but malformed messages' if malformed_s < PATIENCE_S else 'nothing'
            topic, published = self._topic_name(name), self._published(name)
            if published and not published & set(map(type_name, self._types[name])):
                return (
                    f'expected {type_names(self._types[name])} on {topic}, its publishers have '
                    f'{" and ".join(sorted(published))}'
                )
            publishers = self._node.count_publishers(self._topics[name])
            since = f'for {silent_s:.0f} s' if name in synchronizer.last_arrival_s else 'yet'
            # The problem of the last malformed message, if nothing else arrives.
            why = f': {self._problems[name]}' if malformed_s < PATIENCE_S else ''
            return f'{what} on {topic} {since} ({publishers} publishers){why}'
        newest = synchronizer.newest
        if newest is not None and now - newest.arrival_s < PATIENCE_S:
            return self._unchanging(['image'])  # with one stamp, any messages make a frame
        return self._unchanging(self._topics) or self._late() or self._apart()

    def _unchanging(self, names: Iterable[str]) -> str:
        """A sentence if the messages of an input all have the same stamp, else ``''``."""
        for name in names:
            stamp_ns, seconds = self.synchronizer.unchanged_s(name) or (0, 0.0)
            if seconds >= PATIENCE_S:
                return (
                    f'each message on {self._topic_name(name)} has the stamp {stamp_ns * 1e-9:.3f} '
                    f's for {seconds:.0f} s: a message has to carry the stamp of the image that it '
                    'belongs to, and an image that of when it was taken'
                )
        return ''

    def _late(self) -> str:
        """A sentence if messages arrive after their counterparts were forgotten, else ``''``."""
        lateness = {name: self.synchronizer.lateness_s(name) for name in self._topics}
        late = {name: seconds for name, seconds in lateness.items() if seconds is not None}
        if not late:
            return ''
        worst = max(late, key=lambda name: late[name])
        sync, crowded_s = self._configuration.sync, self.synchronizer.crowded_s(worst)
        if crowded_s is None:
            remedy = f'messages are kept for {sync.buffer_s:g} s: raise sync.buffer_s'
        else:
            remedy = f'the {sync.buffer_mb} MB of sync.buffer_mb hold {crowded_s:.2g} s: raise it'
        partner = 'the other messages' if worst == 'image' else self._topic_name('image')
        return (
            f'{self._topic_name(worst)} comes {late[worst]:.2f} s later than {partner} of the same '
            f'stamp, {remedy}'
        )

    def _apart(self) -> str:
        """A sentence if the stamps of an input match no image, else ``''``."""
        gaps = {
            name: self.synchronizer.smallest_gap_s(name) for name in self._topics if name != 'image'
        }
        far = {n: g for n, g in gaps.items() if g is not None and g > self._slop_s}
        if far:
            worst = max(far, key=lambda name: far[name])
            return (
                f'the stamps of {self._topic_name(worst)} and {self._topic_name("image")} are '
                f'{far[worst]:.3g} s apart at best, sync.slop_s is {self._slop_s:g} s: a message '
                'has to carry the stamp of the image that it belongs to'
            )
        dropped = self.synchronizer.statistics.dropped
        lacking = {reason: n for reason, n in dropped.items() if reason.startswith('no ')}
        if lacking:
            counts = ', '.join(f'{reason} ({n})' for reason, n in sorted(lacking.items()))
            return f'no image has all that belongs to it: {counts}'
        return ''

    @property
    def patient(self) -> bool:
        """Whether the subscriptions are too new to report silence."""
        return time.monotonic() - self._started_s < PATIENCE_S

    @property
    def _slop_s(self) -> float:
        return self._configuration.sync.slop_s

    def _make_topics(self) -> dict[str, str]:
        settings = self._configuration.input
        transports = picture_transports(settings)
        return {
            name: _picture_topic(self._node, name, transports.get(name, 'raw'))
            for name in self._types
        }

    def _published(self, name: str) -> set[str]:
        """Type names of the publishers of an input."""
        found = self._node.get_publishers_info_by_topic(self._topics[name])
        return {information.topic_type for information in found}

    def _published_kind(self, name: str) -> type | None:
        """The first allowed type of an input that is being published; None if none is."""
        published = self._published(name)
        return next((kind for kind in self._types[name] if type_name(kind) in published), None)

    def _follow_types(self) -> None:
        """For inputs with several allowed types, subscribe with the one that is published."""
        for name, kinds in self._types.items():
            current = self._kinds[name]
            if len(kinds) == 1 or type_name(current) in self._published(name):
                continue
            kind = self._published_kind(name)
            with self._lock:
                if kind is not None and name in self._subscriptions:
                    # A participant can have only one type on a topic: destroy the old one first.
                    self._node.destroy_subscription(self._subscriptions.pop(name))
                    try:
                        self._subscribe(name, kind)
                    except Exception as error:  # another node of this process uses the old type
                        self._health.warn(f'type {name}', f'cannot subscribe: {error}')
                        self._subscribe(name, current)

    def _subscribe(self, name: str, kind: type) -> None:
        qos = QoSProfile(
            depth=1 if name in _LARGE else DEPTH,
            reliability=ReliabilityPolicy.BEST_EFFORT,
        )
        self._kinds[name] = kind
        self._subscriptions[name] = self._node.create_subscription(
            kind,
            self._topics[name],
            lambda message: self._take(name, message),
            qos,
            callback_group=self._group,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda event: self._incompatible(name, event),
                use_default_callbacks=False,
            ),
            qos_overriding_options=OVERRIDABLE,
        )

    def _take(self, name: str, message: Any) -> None:
        try:
            settings = self._configuration
            check_message(message, settings.input.rectified, settings.limits)
            stamp = _stamp_ns(message)
        except Exception as error:  # no content of a message may stop the node
            kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
            problem = self._problems[name] = f'{kind}{error}'
            is_refused = isinstance(error, OverLimit)
            self.synchronizer.add_malformed(name, is_refused)
            what = 'refused a' if is_refused else 'malformed'
            topic = self._topic_name(name)
            self._health.warn(f'{what} {name}', f'{what} message on {topic}: {problem}')
            return
        size = len(message.data) if name in _LARGE else 0
        self.synchronizer.add(name, stamp, message, size)

    def _incompatible(self, name: str, event: Any) -> None:
        topic = self._topic_name(name)
        try:
            policy = QoSPolicyKind(event.last_policy_kind).name.lower()
        except ValueError:  # a policy that this rclpy does not know
            policy = f'policy {event.last_policy_kind}'
        self._health.warn(
            f'qos {name}',
            f'a publisher on {topic} offers an incompatible {policy}: set '
            f'qos_overrides.{topic}.subscription.{policy}',
        )

    def _topic_name(self, name: str) -> str:
        # Not from the subscription: a message may arrive before its object is stored.
        return self._node.resolve_topic_name(self._topics[name])


def _stamp_ns(message: Any) -> int:
    """Stamp of a message in nanoseconds.

    Raises
    ------
    ValueError
        The stamp is zero, so it was not set. Messages without stamps would all match each other.
    """
    stamp = stamp_ns(message.header)
    if not stamp:
        raise ValueError(
            'expected the stamp of when the image was taken, got 0 (with simulated time: nobody '
            'publishes /clock)'
        )
    return stamp


def _picture_topic(node: Node, name: str, transport: str) -> str:
    # As in image_transport: the base topic is remapped, then the transport is appended.
    return name if transport == 'raw' else f'{node.resolve_topic_name(name)}/compressed'
