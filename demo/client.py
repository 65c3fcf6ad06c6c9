"""The demo's client of the node: starts it, receives its views, requests one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.client import Client as ServiceClient
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from nvs_interfaces.msg import NovelViewArray
from nvs_interfaces.srv import SynthesizeView


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


class Client:
    """Client of a node called ``/nvs``.

    Parameters
    ----------
    deadline_s : float
        When to give up, seconds of the monotonic clock.
    tick : callable
        Called several times a second while waiting; may raise to give up.
    """

    def __init__(self, deadline_s: float, tick: Callable[[], None]) -> None:
        self._deadline_s, self._tick = deadline_s, tick
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('nvs_demo', start_parameter_services=False)
        self.received: list[NovelViewArray] = []
        self._node.create_subscription(NovelViewArray, '/nvs/views', self.received.append, 10)
        self._change_state: ServiceClient = self._node.create_client(
            ChangeState, '/nvs/change_state'
        )
        self._synthesize_view: ServiceClient = self._node.create_client(
            SynthesizeView, '/nvs/synthesize_view'
        )

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown()

    def wait_until(self, done: Callable[[], Any], what: str, show: bool = True) -> Any:
        """Spin until ``done()`` returns a true value; return that value.

        Raises
        ------
        DemoError
            It did not do so before the deadline.
        """
        clock = tqdm(
            desc=what, bar_format='{desc}: {elapsed}', mininterval=1, miniters=1, disable=not show
        )
        with clock:
            while not (result := done()):
                if time.monotonic() > self._deadline_s:
                    raise DemoError(f'{what}: not in time')
                self._tick()
                rclpy.spin_once(self._node, timeout_sec=0.2)
                clock.update()
            return result

    def start(self) -> None:
        """Configure and activate the node.

        Raises
        ------
        DemoError
            A transition fails or takes too long.
        """
        what = 'starting the node'
        self.wait_until(self._change_state.service_is_ready, what)
        for name, transition in (
            ('be configured', Transition.TRANSITION_CONFIGURE),
            ('be activated', Transition.TRANSITION_ACTIVATE),
        ):
            request = ChangeState.Request(transition=Transition(id=transition))
            future = self._change_state.call_async(request)
            self.wait_until(future.done, f'{what}: to {name}')
            answer = future.result()
            if answer is None or not answer.success:
                raise DemoError(f'the node cannot {name}')
        self.wait_until(lambda: self._node.count_publishers('/nvs/views'), what, show=False)

    def ask(self, request: SynthesizeView.Request) -> Callable[[], SynthesizeView.Response]:
        """Send a request; return a function that waits for its response and returns it.

        That function raises DemoError if the response comes too late or is a refusal.
        """
        what = 'making one more view on request'
        self.wait_until(self._synthesize_view.service_is_ready, what, show=False)
        future = self._synthesize_view.call_async(request)

        def answer() -> SynthesizeView.Response:
            self.wait_until(future.done, what)
            response = future.result()
            if response is None or not response.success:
                reason = 'no answer' if response is None else response.message
                raise DemoError(f'the node refused a view: {reason}')
            return response

        return answer
