"""Entry point: ``nvs_node``, or ``python -m nvs_ros.node.main``.

Ends with code 0 on SIGINT and SIGTERM within two seconds, also in the middle of sampling.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException

from nvs_ros.allocator import keep_freed_memory
from nvs_ros.node.executor import ThreadedExecutor

if TYPE_CHECKING:
    from nvs_ros.node.view_node import ViewNode

END_S = 1.5
"""Time for an orderly end; a network evaluation that takes longer is left behind."""


def main(args: list[str] | None = None) -> None:
    """Run the node until it is told to end; does not return.

    The process ends with code 0, or 1 when a parameter given at start is wrong or the node failed.

    Parameters
    ----------
    args : list of str, optional
        ROS arguments; ``sys.argv`` when omitted.
    """
    keep_freed_memory()
    rclpy.init(args=args)
    node = executor = None
    code = 0
    try:
        # Loads torch, which takes seconds: by now the signals are handled.
        from nvs_ros.node.view_node import ViewNode

        node = ViewNode()
        # Every request that waits holds a thread; the others are for messages and transitions.
        queue = node.get_parameter('requests.queue').value
        executor = ThreadedExecutor(queue + 6, on_error=node.callback_failed)
        executor.add_node(node)
        executor.create_task(node.start)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
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


def _end(node: ViewNode | None, executor: ThreadedExecutor | None, code: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A thread may be inside the network or a loader for longer than anybody wants to wait.
    deadline = threading.Timer(END_S, _leave, [code])
    deadline.daemon = True
    deadline.start()
    try:
        if node is not None:
            node.stop(END_S)
        if executor is not None:
            executor.shutdown()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    except Exception:
        traceback.print_exc()
        code = code or 1
    finally:
        _leave(code)


def _leave(code: int) -> None:
    """End the process without the interpreter's teardown of torch, which takes seconds too."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == '__main__':
    main()
