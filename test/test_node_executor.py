"""What rclpy's executor with threads gets wrong, and what any executor has to get right."""

import collections
import contextlib
import queue
import sys
import threading

import pytest

pytest.importorskip('rclpy')

import rclpy
from rclpy.action import ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Task
from std_msgs.msg import Empty, UInt32

from nvs_interfaces.action import SynthesizeOrbit
from nvs_ros.node import executor
from nvs_ros.node.executor import ThreadedExecutor
from nvs_ros.testing.robot import DOMAINS, TIMEOUT_S, wait_until

THREADS = 4


class Spin:
    """An executor that spins a node, and what ended it."""

    def __init__(self, **arguments) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context, domain_id=next(DOMAINS))
        self.node = Node('node', context=self.context)
        self.executor = ThreadedExecutor(THREADS, context=self.context, **arguments)
        self.executor.add_node(self.node)
        self.error = None
        self.thread = threading.Thread(target=self._spin)
        self.thread.start()

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except Exception as error:
            self.error = error

    def pair(self, kind, topic, callback):
        """A publisher with a subscription that has found it."""
        group = ReentrantCallbackGroup()
        self.node.create_subscription(kind, topic, callback, 100, callback_group=group)
        publisher = self.node.create_publisher(kind, topic, 100)
        wait_until(publisher.get_subscription_count)
        return publisher

    def close(self) -> None:
        self.executor.shutdown()
        self.thread.join(TIMEOUT_S)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def spin():
    with contextlib.closing(Spin()) as running:
        yield running


def test_every_callback_is_handed_to_a_thread_once(spin, monkeypatch):
    calls = collections.Counter()
    run = Task.__call__

    def count(task):
        calls[task] += 1
        run(task)

    monkeypatch.setattr(Task, '__call__', count)
    received = queue.Queue()
    publisher = spin.pair(UInt32, 'number', received.put)
    for i in range(300):
        publisher.publish(UInt32(data=i))
        received.get(timeout=TIMEOUT_S)
    assert len(calls) >= 300
    assert calls.total() <= 1.05 * len(calls)


@contextlib.contextmanager
def hasty_threads():
    """Threads take turns at every chance."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)


def test_subscriptions_are_destroyed_while_it_spins(spin):
    with hasty_threads():
        for _ in range(300):
            there = [spin.node.create_subscription(Empty, f't{i}', print, 1) for i in range(3)]
            for subscription in there:
                spin.node.destroy_subscription(subscription)
    received = queue.Queue()
    spin.pair(Empty, 'after', received.put).publish(Empty())
    received.get(timeout=TIMEOUT_S)
    assert spin.error is None


def test_actions_are_destroyed_while_it_spins(spin):
    with hasty_threads():
        for _ in range(40):
            servers = [
                ActionServer(spin.node, SynthesizeOrbit, f'orbit{i}', print) for i in range(3)
            ]
            for server in servers:
                server.destroy()
    received = queue.Queue()
    spin.pair(Empty, 'after', received.put).publish(Empty())
    received.get(timeout=TIMEOUT_S)
    assert spin.error is None


def test_what_cannot_be_waited_for_at_all_ends_it(spin, monkeypatch):
    def fail(*arguments):
        raise OSError('of the middleware')

    monkeypatch.setattr(executor, 'FAILING_S', 0.2)
    monkeypatch.setattr(spin.executor, 'wait_for_ready_callbacks', fail)
    spin.executor.create_task(print)
    spin.thread.join(TIMEOUT_S)
    assert isinstance(spin.error, OSError)


def test_callbacks_that_wait_hold_up_nobody_while_there_are_threads(spin):
    gate, received = threading.Event(), queue.Queue()
    waiting = spin.pair(Empty, 'waiting', lambda message: gate.wait(TIMEOUT_S))
    other = spin.pair(Empty, 'other', received.put)
    for _ in range(THREADS - 1):
        waiting.publish(Empty())
    other.publish(Empty())
    received.get(timeout=TIMEOUT_S)
    gate.set()


def test_callbacks_beyond_the_threads_wait_and_are_run(spin):
    gate, received = threading.Event(), queue.Queue()
    publisher = spin.pair(Empty, 'waiting', lambda m: (received.put(m), gate.wait(TIMEOUT_S)))
    for _ in range(2 * THREADS):
        publisher.publish(Empty())
    for _ in range(THREADS):
        received.get(timeout=TIMEOUT_S)
    assert received.empty()
    gate.set()
    for _ in range(THREADS):
        received.get(timeout=TIMEOUT_S)


def test_a_context_that_ends_ends_it_also_when_all_threads_wait(spin):
    gate, received = threading.Event(), queue.Queue()
    publisher = spin.pair(Empty, 'waiting', lambda m: (received.put(m), gate.wait(TIMEOUT_S)))
    for _ in range(THREADS + 1):
        publisher.publish(Empty())
    for _ in range(THREADS):
        received.get(timeout=TIMEOUT_S)
    spin.context.shutdown()
    spin.thread.join(TIMEOUT_S / 2)
    assert not spin.thread.is_alive()
    gate.set()


def test_an_exception_in_a_callback_ends_it(spin):
    def fail(message):
        raise ArithmeticError('of a callback')

    publisher = spin.pair(Empty, 'failing', fail)

    def publish_and_check():
        publisher.publish(Empty())
        return spin.error

    assert isinstance(wait_until(publish_and_check), ArithmeticError)


def test_an_exception_in_a_callback_that_somebody_takes_ends_nothing():
    taken, received = queue.Queue(), queue.Queue()

    def fail(message):
        raise ArithmeticError('of a callback')

    with contextlib.closing(Spin(on_error=taken.put)) as spin:
        failing = spin.pair(Empty, 'failing', fail)
        for _ in range(3):
            failing.publish(Empty())
            assert isinstance(taken.get(timeout=TIMEOUT_S), ArithmeticError)
        spin.pair(Empty, 'after', received.put).publish(Empty())
        received.get(timeout=TIMEOUT_S)
        assert spin.error is None
