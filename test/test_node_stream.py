"""A camera at 30 Hz before a slow sampler: fresh views, flat memory, requests answered meanwhile.

``NVS_STREAM_S=180`` makes it last as long as one wants.
"""

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.testing.robot import EVALUATIONS, PERIOD_S, TIMEOUT_S, graph

STREAM_S = float(os.environ.get('NVS_STREAM_S', '8'))
INFERENCE_S = 1.0
GROWTH_MB = 15
OVERHEAD_S = 0.03


def memory_mb():
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


def stamp(header):
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def test_a_stream_with_a_slow_sampler():
    with graph({'views.azimuths_deg': [30.0]}, width=640, height=480) as running:
        robot, synthesizer = running.robot, running.synthesizer
        received = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(received)
        synthesizer.evaluation_s = INFERENCE_S / EVALUATIONS
        synchronizer = running.node._session.synchronizer
        engine = running.node._session.engine
        inferences = []  # seed, frame, and the newest frame when it ended

        def on_end(seed):
            inferences.append((seed, engine._observed[0].stamp_ns, synchronizer.newest.stamp_ns))

        synthesizer.on_end = on_end
        stop = threading.Event()

        def camera():
            while not stop.wait(PERIOD_S):
                robot.publish_frame()

        thread = threading.Thread(target=camera)
        thread.start()
        stamps, memory, requests = [], [], 0
        try:
            started = time.monotonic()
            while time.monotonic() - started < STREAM_S:
                stamps.append(stamp(received.get(timeout=TIMEOUT_S).header))
                memory.append(memory_mb())
                if len(memory) % 3 == 0:
                    assert robot.synthesize(seed=1).success
                    requests += 1
        finally:
            stop.set()
            thread.join()
        assert requests
        frames = [frame for seed, frame, _ in inferences if seed == 0]
        assert set(stamps[1:]) <= set(frames)
        for (_, _, newest), (seed, frame, _) in itertools.pairwise(inferences):
            assert seed == 1 or frame >= newest, 'older than the end of the previous inference'
        assert memory[-1] - memory[len(memory) // 3] < GROWTH_MB, memory
        shown = [round(mb) for mb in memory[:: max(1, len(memory) // 10)]]
        print(f'\n{len(memory)} views, memory {shown} MB')


def test_overhead_of_the_node_without_a_network():
    """Image in to views out, 640x480, through DDS both ways in one process."""
    with graph({'views.azimuths_deg': [30.0]}, width=640, height=480) as running:
        robot = running.robot
        received = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(received)
        seconds = []
        while len(seconds) < 50:
            while not received.empty():
                received.get()
            robot.stamp_ns += 100_000_000
            messages = robot.scene.messages(robot.stamp_ns)
            started = time.monotonic()
            robot.publish(messages)
            while stamp(received.get(timeout=TIMEOUT_S).header) != robot.stamp_ns:
                pass
            seconds.append(time.monotonic() - started)
        seconds.sort()
        print(f'\nmedian {1e3 * seconds[25]:.1f} ms, fastest {1e3 * seconds[0]:.1f} ms')
        assert seconds[0] < OVERHEAD_S
