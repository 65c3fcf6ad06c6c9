"""Entry point: ``nvs_node``, or ``python -m nvs_ros.node.main``.

Ends with code 0 on SIGINT and SIGTERM within two seconds, also in the middle of sampling.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

END_S = 1.8
"""Time for an orderly end; a network evaluation that takes longer is left behind."""


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end.

    Parameters
    ----------
    args : list of str, optional
        ROS arguments; ``sys.argv`` when omitted.

    Returns
    -------
    int
        0, or 1 when a parameter given at start is wrong.
    """
    rclpy.init(args=args)
    node = executor = None
    try:
        # Loads torch, which takes seconds: by now the signals are handled.
        from nvs_ros.node.view_node import ViewNode

        node = ViewNode()
        # Every request that waits holds a thread; the others are for messages and transitions.
        queue = node.get_parameter('requests.queue').value
        executor = MultiThreadedExecutor(num_threads=queue + 6)
        executor.add_node(node)
        executor.create_task(node.start)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (ParameterException, ValueError) as error:
        rclpy.logging.get_logger('nvs').fatal(f'cannot start: {error}')
        return 1
    finally:
        _end(node, executor)
    return 0


def _end(node: object, executor: MultiThreadedExecutor | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    deadline = threading.Timer(END_S, _leave)
    deadline.daemon = True
    deadline.start()
    if node is not None:
        node.stop(END_S)
    if executor is not None:
        executor.shutdown()
    if node is not None:
        node.destroy_node()
    rclpy.try_shutdown()
    deadline.cancel()


def _leave() -> None:
    """End the process although a thread is still inside the network or a loader."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == '__main__':
    sys.exit(main())
