"""Publish the messages of a bag into the ROS graph."""

from __future__ import annotations

import inspect
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from nvs_ros.bag.reader import Bag, IncompleteBag
from nvs_ros.errors import UserError
from nvs_ros.node.qos import PublisherEventCallbacks

RULE = re.compile(r'[~/A-Za-z_][\w/]*:=[~/A-Za-z_][\w/]*')
"""A remapping rule; checked here because rcl's message about a wrong one takes three lines."""
DEPTH = 10
DELIVERY_S = 2.0
"""How long to wait at the end until reliable subscribers have received everything."""


def replay(
    path: Path,
    *,
    topics: Sequence[str] = (),
    rate: float = 1.0,
    loop: bool = False,
    clock_hz: float = 0.0,
    wait_s: float = 3.0,
    remap: Sequence[str] = (),
) -> None:
    """Publish the messages of a bag with the timing of their recording.

    Publishers are reliable, and transient local if the recorded ones were.

    Parameters
    ----------
    path : Path
        See :class:`nvs_ros.bag.reader.Bag`.
    topics : sequence of str
        Topics to publish; all when empty.
    rate : float
        1: as recorded, 2: twice as fast.
    loop : bool
        Start over at the end, until interrupted; stamps then jump back.
    clock_hz : float
        Rate at which ``/clock`` publishes the time of the bag (for ``use_sim_time``); 0: never.
    wait_s : float
        Longest wait at the start until every topic has a subscriber.
    remap : sequence of str
        ROS remapping rules, ``from:=to``.

    Raises
    ------
    UserError
        The bag or a rule cannot be used; or, at the end, messages are missing or cannot be decoded.
    """
    with Bag(path, topics) as bag:
        for note in bag.notes:
            print(note, flush=True)
        node = _start(remap)
        try:
            player = _Player(node, bag, rate, clock_hz)
            player.wait_for_subscribers(wait_s)
            lost = player.play()
            if lost and loop:
                print(lost, flush=True)
            while loop:
                player.play()
            player.finish()
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
        if lost:
            raise UserError(lost)


def _start(remap: Sequence[str]) -> Node:
    for rule in remap:
        if not RULE.fullmatch(rule):
            raise UserError(f'--remap: expected a rule from:=to, got {rule!r}')
    arguments = [word for rule in remap for word in ('--ros-args', '-r', rule)]
    # Python's own SIGINT handler interrupts the sleep between two messages. It is set explicitly
    # because a process started in the background by a script ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    return rclpy.create_node('nvs_replay', start_parameter_services=False)


class _Player:
    def __init__(self, node: Node, bag: Bag, rate: float, clock_hz: float) -> None:
        self._node, self._bag, self._rate = node, bag, rate
        self._period_s = 1 / clock_hz if clock_hz else None
        self._clock = node.create_publisher(Clock, '/clock', 1) if clock_hz else None
        self._publishers: dict[str, Publisher] = {}
        for name in bag.topics:
            try:
                self._publishers[name] = self._publisher(name)
            except InvalidTopicNameException as error:
                print(f'left out: {" ".join(str(error).split())}', flush=True)

    def _publisher(self, name: str) -> Publisher:
        topic = self._bag.topics[name]
        qos = QoSProfile(depth=DEPTH)
        if topic.latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        # This event ends spin_once as soon as a subscriber matches; Humble lacks it and times out.
        has_matched = 'matched' in inspect.signature(PublisherEventCallbacks).parameters
        events: dict[str, Any] = {'matched': lambda info: None} if has_matched else {}
        return self._node.create_publisher(
            topic.kind, name, qos, event_callbacks=PublisherEventCallbacks(**events)
        )

    def wait_for_subscribers(self, wait_s: float) -> None:
        """Wait until every topic has a subscriber; print which ones have none in the end."""
        deadline = time.monotonic() + wait_s
        while (lonely := self._lonely()) and time.monotonic() < deadline:
            rclpy.spin_once(self._node, timeout_sec=0.1)
        if lonely:
            print(f'nobody listens to {", ".join(lonely)}', flush=True)

    def _lonely(self) -> list[str]:
        return [p.topic_name for p in self._publishers.values() if not p.get_subscription_count()]

    def play(self) -> str:
        """Publish all messages once; return what was missing as a sentence, ``''`` if nothing."""
        try:
            self._play()
        except IncompleteBag as error:
            return str(error)
        return ''

    def _play(self) -> None:
        start_ns, started_s = self._bag.start_ns, time.monotonic()
        with tqdm(total=self._bag.message_count, desc='replay', unit='message') as progress:
            for topic, recorded_ns, message in self._bag.messages():
                due_s = started_s + (recorded_ns - start_ns) * 1e-9 / self._rate
                while (left_s := due_s - time.monotonic()) > 0:
                    time.sleep(min(left_s, self._period_s or left_s))
                    passed_s = (time.monotonic() - started_s) * self._rate
                    self._tell_time(min(start_ns + round(passed_s * 1e9), recorded_ns))
                if topic in self._publishers:
                    self._publishers[topic].publish(message)
                progress.update()

    def _tell_time(self, now_ns: int) -> None:
        if self._clock is not None:
            self._clock.publish(Clock(clock=Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)))

    def finish(self) -> None:
        """Wait until reliable subscribers have received everything."""
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))
