"""Entry point: ``nvs_node``, or ``python -m nvs_ros.node.main``.

Ends with code 0 on SIGINT and SIGTERM within two seconds, also in the middle of sampling and while
it starts. Imports take most of the start and :func:`main` makes them after it has taken over the
signals: hence so few of them here.
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
"""Time for the work to end; a network evaluation or a loader that takes longer is left behind."""
END_S = 1.5
"""Time for an orderly end, the node's parting from the graph included."""


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to end; does not return.

    The process ends with code 0, or 1 when a parameter given at start is wrong or the node failed.

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
        # Every request that waits holds a thread; the others are for messages and transitions.
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
        if rclpy.ok():  # else a signal has ended it, and what needs a graph fails
            text = traceback.format_exc()
            rclpy.logging.get_logger('nvs').fatal(f'the node ends by what nobody foresaw: {text}')
            code = 1
    _end(node, executor, code)


class _Signals:
    """SIGINT and SIGTERM until the node spins.

    They end the process at once while it imports, and are only noted while the node is made, which
    would fail half-way without its context. From then on rclpy's handlers shut the context down,
    which ends ``spin``. Nothing is raised: an exception in the middle of an import comes out as
    whatever the import makes of it.
    """

    def __init__(self) -> None:
        self.nothing_to_tear_down = True
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.nothing_to_tear_down:
            os._exit(0)  # not even a flush: the import may be in the middle of one
        if not self.came:
            self.came = True
            _leave_after(END_S, 0)


def _end(node: ViewNode | None, executor: ThreadedExecutor | None, code: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_after(END_S, code)
    import rclpy

    deadline_s = time.monotonic() + WORK_S
    try:
        # A thread may be inside the network or a loader for longer than anybody wants to wait.
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
    """End the process without the interpreter's teardown of torch, which takes seconds too."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    main()
