"""Entry point: ``nvs_node``, or ``python -m nvs_ros.node.main``.

Ends with code 0 within two seconds after SIGINT or SIGTERM, also while it starts or samples. Most
of the start is imports; :func:`main` makes them after it has taken over the signals, so there are
few at the top of this module.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from nvs_ros.computer.allocator import keep_freed_memory
from nvs_ros.computer.cores import share_cores
from nvs_ros.errors import WITHOUT_ROS

if TYPE_CHECKING:
    from nvs_ros.node.executor import ThreadedExecutor
    from nvs_ros.node.view_node import ViewNode

WORK_S = 1.0
"""Time for the work to end; a network evaluation or a load that takes longer is abandoned."""
END_S = 1.5
"""Time for an orderly end, including the destruction of the node; then the process exits."""


def main(args: list[str] | None = None) -> None:
    """Run the node until a signal or shutdown; does not return.

    The process exits with code 0, or 1 if a parameter given at start is wrong or the node failed.

    Parameters
    ----------
    args : list of str, optional
        ROS arguments; ``sys.argv`` when omitted.
    """
    signals = _Signals()
    keep_freed_memory()
    share_cores()
    try:
        import rclpy
    except ModuleNotFoundError:
        sys.exit(f'nvs_node: {WITHOUT_ROS}')
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException
    from rclpy.signals import SignalHandlerOptions, install_signal_handlers

    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    from nvs_ros.node.executor import ThreadedExecutor
    from nvs_ros.node.view_node import ViewNode  # loads torch, which takes seconds

    node = executor = None
    code = 0
    signals.nothing_to_tear_down = False
    try:
        node = ViewNode()
        # Each waiting request occupies a thread; the others are for messages and transitions.
        queue = node.get_parameter('requests.queue').value
        executor = ThreadedExecutor(queue + 6, on_error=node.callback_failed)
        executor.add_node(node)
        executor.create_task(node.start)
        install_signal_handlers(SignalHandlerOptions.ALL)
        if not signals.came:
            executor.spin()
    except ExternalShutdownException:
        pass
    except (ParameterException, ValueError) as error:
        rclpy.logging.get_logger('nvs').fatal(f'cannot start: {error}')
        code = 1
    except Exception:
        if rclpy.ok():  # else the error is a consequence of the shutdown by a signal
            text = traceback.format_exc()
            rclpy.logging.get_logger('nvs').fatal(f'the node ends by what nobody foresaw: {text}')
            code = 1
    _end(node, executor, code)


class _Signals:
    """Handles SIGINT and SIGTERM until the node spins.

    During the imports they exit the process at once. While the node is created they are only
    recorded, because the creation would fail half-way without its context. Afterwards rclpy's
    handlers shut down the context, which ends ``spin``. Nothing is raised, because an import could
    turn an exception into another one or swallow it.
    """

    def __init__(self) -> None:
        self.nothing_to_tear_down = True
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.nothing_to_tear_down:
            os._exit(0)  # without a flush: an import may be in the middle of one
        if not self.came:
            self.came = True
            _leave_after(END_S, 0)


def _end(node: ViewNode | None, executor: ThreadedExecutor | None, code: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_after(END_S, code)
    import rclpy

    deadline_s = time.monotonic() + WORK_S
    try:
        # A thread may stay in the network or in a load for longer than the timeout.
        if node is not None:
            node.stop(WORK_S)
        if executor is not None:
            executor.shutdown(max(0.0, deadline_s - time.monotonic()))
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    except Exception:
        traceback.print_exc()
        code = code or 1
    finally:
        _leave(code)


def _leave_after(seconds: float, code: int) -> None:
    deadline = threading.Timer(seconds, _leave, [code])
    deadline.daemon = True
    deadline.start()


def _leave(code: int) -> None:
    """Exit without the interpreter's teardown, which takes seconds with torch."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    main()
