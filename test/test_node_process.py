"""The node as its own process, with the embedded model: it serves, and it ends in time."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

import rclpy

from benchmarks.soaked_node import own_segments
from nvs_interfaces.msg import NovelViewArray
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.testing.robot import TIMEOUT_S, Orbit, Robot, Spinning, wait_until

START_S = 60.0
END_S = 2.0
DOMAIN = 77
TESTS = Path(__file__).parent
SIGNALS = int(os.environ.get('NVS_SIGNALS', 5))
"""How many starts are ended at a random time: within the first ten seconds where this is set, else
within the imports, where most can go wrong."""
SEED = int(os.environ.get('NVS_SEED', time.time_ns() % 10**6))


@pytest.fixture
def robot(monkeypatch):
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    with Spinning(Robot(context)) as robot:
        yield robot
    rclpy.shutdown(context=context)


@pytest.fixture
def start():
    """Start the node with parameters; it is killed at the end if it still runs."""
    started = []

    def run(*parameters, program=('-m', 'nvs_ros.node.main')):
        arguments = ['model.device:=cpu', 'model.threads:=1', *parameters]
        command = [sys.executable, *program, '--ros-args']
        command += [word for argument in arguments for word in ('-p', argument)]
        environment = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join([str(TESTS), os.environ.get('PYTHONPATH', '')]),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_DOMAIN_ID': str(DOMAIN),
        }
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def end(process, number, when=''):
    """Signal the process; it must end with 0 in time, and leave nothing."""
    segments = own_segments(process.pid)
    sent = time.monotonic()
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    took_s = time.monotonic() - sent
    told = f'{number.name} {when}: {took_s:.1f} s, {log}'
    assert process.returncode == 0, told
    assert 'Traceback' not in log, told
    assert 'terminate called' not in log, told
    assert took_s < END_S, told
    assert [segment for segment in sorted(segments) if os.path.exists(segment)] == [], told


def end_while_sampling(process, robot, number):
    """Signal the process in the middle of an orbit; it must end with 0 in time."""
    orbit = Orbit(robot, count=40)
    assert orbit.first.wait(TIMEOUT_S), 'no progress'
    assert own_segments(process.pid)
    end(process, number)


def test_views_of_the_embedded_model_through_two_processes_until_sigterm(start, robot):
    process = start('preset:=hourglass', 'views.azimuths_deg:=[90.0]', 'sampler.early_steps:=2')
    views = robot.subscribe(NovelViewArray, '/nvs/views')
    message = robot.frames_until_message(views, START_S)
    assert message.views[0].image.width == 64
    assert message.views[0].preset == 'hourglass'
    first = robot.synthesize(seed=4)
    again = robot.synthesize(seed=4)
    assert first.success, first.message
    assert first.view.image.data == again.view.image.data
    end_while_sampling(process, robot, signal.SIGTERM)


def test_it_ends_with_0_on_sigint_in_the_middle_of_sampling(start, robot):
    process = start('preset:=hourglass')
    assert robot.view_client.wait_for_service(START_S)
    robot.frames_until(lambda: robot.synthesize(seed=1).success, START_S)
    end_while_sampling(process, robot, signal.SIGINT)


def handles_signals(process):
    """Whether the process has taken over SIGTERM: before, Python itself is still starting."""
    status = Path(f'/proc/{process.pid}/status').read_text()
    caught = int(re.search(r'^SigCgt:\s*(\w+)', status, re.MULTILINE)[1], 16)
    return caught >> (signal.SIGTERM - 1) & 1


def test_it_ends_with_0_at_any_time_of_its_start(start):
    chance = random.Random(SEED)
    started = time.monotonic()
    process = start()
    wait_until(lambda: handles_signals(process), START_S)
    first_s = time.monotonic() - started
    assert any('loading model' in line for line in process.stderr)
    last_s = 10.0 if 'NVS_SIGNALS' in os.environ else 1.2 * (time.monotonic() - started)
    process.kill()
    print(f'NVS_SEED={SEED}, {SIGNALS} signals from {first_s:.2f} to {last_s:.1f} s')
    numbers = itertools.cycle([signal.SIGTERM, signal.SIGINT])
    for number in itertools.islice(numbers, SIGNALS):
        delay_s = chance.uniform(first_s, last_s)
        started, process = time.monotonic(), start()
        wait_until(lambda: handles_signals(process), START_S)  # noqa: B023
        time.sleep(max(0.0, started + delay_s - time.monotonic()))
        end(process, number, f'{time.monotonic() - started:.2f} s after the start')


STUCK = """
import pathlib
import sys
import time
from nvs_ros.testing.robot import LightSynthesizer
from nvs_ros.node import main, view_node

where, told = sys.argv[1:3]

def wait_in(place):
    if place == where:
        pathlib.Path(told).touch()
        time.sleep(60)

class Slow(LightSynthesizer):
    def synthesize(self, *arguments, **settings):
        wait_in('network')
        return super().synthesize(*arguments, **settings)

def load(settings, log):
    wait_in('loader')
    return Slow()

node = view_node.ViewNode
view_node.ViewNode = lambda: node(load)
main.main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ('stuck_in', 'number'), [('loader', signal.SIGINT), ('network', signal.SIGTERM)]
)
def test_it_ends_while_work_goes_on_that_does_not(start, robot, tmp_path, stuck_in, number):
    told = tmp_path / 'told'
    process = start('enabled:=false', program=['-c', STUCK, stuck_in, str(told)])
    if stuck_in == 'loader':
        wait_until(told.exists, START_S)
    else:
        answers = []
        assert robot.view_client.wait_for_service(START_S)

        def is_stuck():
            if not answers or answers[-1].done():
                answers.append(robot.view_client.call_async(SynthesizeView.Request()))
            return told.exists()

        robot.frames_until(is_stuck, START_S)
    assert own_segments(process.pid)
    end(process, number)


def test_a_wrong_parameter_is_one_clear_line(start):
    process = start('sync.slop_s:=-1.0')
    _, log = process.communicate(timeout=START_S)
    assert process.returncode == 1
    assert 'cannot start' in log
    assert 'slop_s' in log
    assert 'Traceback' not in log


FAULTY = """
import os
import signal
from nvs_ros.node import executor, main, view_node

class Faulty(view_node.ViewNode):
    def stop(self, timeout_s):
        print('stopped', flush=True)
        return super().stop(timeout_s)

    def destroy_node(self):
        print('destroyed', flush=True)
        super().destroy_node()
        if {fault!r} == 'in the teardown':
            raise OSError('of a teardown')

    def start(self):
        if {fault!r} == 'in the executor':
            executor.ThreadedExecutor.spin_once = lambda executor: 1 / 0
        elif {fault!r} == 'in the teardown':
            os.kill(os.getpid(), signal.SIGTERM)

view_node.ViewNode = Faulty
main.main()
"""


@pytest.mark.parametrize('fault', ['in the executor', 'in the teardown'])
def test_whatever_ends_the_node_everything_is_let_go(fault):
    """An exception that nobody foresaw: said once, code 1, and nothing left spinning."""
    process = subprocess.run(
        [sys.executable, '-c', FAULTY.format(fault=fault)],
        env={**os.environ, 'ROS_DOMAIN_ID': str(DOMAIN)},
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert process.stdout.split() == ['stopped', 'destroyed'], process.stderr
    assert process.returncode == 1, process.stderr
    said = {'in the executor': 'ZeroDivisionError', 'in the teardown': 'of a teardown'}[fault]
    assert said in process.stderr
    assert 'terminate called' not in process.stderr
