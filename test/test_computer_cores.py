import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from nvs_ros.computer.cores import (
    BLAS_VARIABLES,
    HOLD_S,
    PERIOD_S,
    SPIN_VARIABLES,
    THREAD_VARIABLES,
    Follower,
    Look,
    busy_s,
    others_running,
    threads_for,
)

CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1
OURS = (*SPIN_VARIABLES, *THREAD_VARIABLES, *BLAS_VARIABLES)
CLEAN = {k: v for k, v in os.environ.items() if k not in OURS}
on_linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='not Linux')
MAPS = Path('/proc/self/maps')  # of torch's libraries, too
GNU = MAPS.exists() and 'libgomp' in MAPS.read_text()
on_several_cores = pytest.mark.skipif(CORES < 2, reason='one core')


@pytest.mark.parametrize(
    ('cores', 'others', 'most', 'threads'),
    [
        (8, 0.0, 8, 8),
        (8, 0.2, 8, 8),
        (8, 3.0, 8, 5),
        (8, 4.0, 8, 4),
        (8, 5.0, 8, 8),  # half of eight cores is more than three
        (8, 8.0, 8, 8),
        (16, 4.0, 8, 8),  # two threads a core
        (2, 1.0, 2, 1),
        (2, 1.6, 2, 2),
        (2, 2.3, 2, 2),
        (1, 1.0, 1, 1),
        (2, 0.0, 8, 2),  # the process may use fewer cores than it began with
    ],
)
def test_threads_are_free_cores_or_all(cores, others, most, threads):
    assert threads_for(cores, others, most) == threads


class Machine:
    """Cores that busy programs and the threads of a process share fairly."""

    CORES = 8

    def __init__(self, cores=CORES):
        self.cores, self.programs = cores, 0
        self.now_s = self.everybody_s = self.own_s = self.thread_s = 0.0
        self.brake = Switch()
        self.follower = Follower(self.look, lambda: self.now_s, lambda: self.programs)
        self.follower.share(threads=True, brake=self.brake)

    def look(self):
        used = self.everybody_s, self.own_s, threading.get_ident(), self.thread_s
        return Look(self.now_s, self.cores, *used)

    def pass_s(self, seconds, threads):
        share = min(1.0, self.cores / max(1, threads + self.programs))
        self.now_s += seconds
        self.everybody_s += seconds * (threads + self.programs) * share
        self.own_s += seconds * threads * share
        self.thread_s += seconds * share * (threads > 0)

    def evaluate(self, seconds=1.1 * PERIOD_S):
        """Run the network once; return the number of threads for the next time."""
        self.pass_s(seconds, torch.get_num_threads())
        self.follower.follow()
        return torch.get_num_threads()


class Switch:
    """In the place of the brake."""

    on = False

    def put(self, on, threads):
        self.on = on


@pytest.fixture
def machine():
    before = torch.get_num_threads()
    torch.set_num_threads(Machine.CORES)
    yield Machine()
    torch.set_num_threads(before)


def test_threads_make_room_at_once_and_come_back(machine):
    assert [machine.evaluate() for _ in range(3)] == [8, 8, 8]
    assert not machine.brake.on
    machine.programs = 3
    assert machine.evaluate() < 8
    assert machine.brake.on
    assert [machine.evaluate() for _ in range(5)][-3:] == [5, 5, 5]
    machine.programs = 0
    machine.evaluate()
    assert machine.brake.on  # it may have been a moment
    assert machine.evaluate() == 8
    assert not machine.brake.on


def test_where_no_core_is_free_all_are_used(machine):
    machine.programs = 8
    machine.evaluate()
    threads = [machine.evaluate() for _ in range(round(3 * HOLD_S / PERIOD_S))]
    assert threads.count(8) > 0.8 * len(threads)
    assert machine.brake.on
    machine.programs = 2
    assert [machine.evaluate() for _ in range(round(2 * HOLD_S / PERIOD_S))][-1] == 6


def test_threads_are_left_alone_between_two_looks(machine):
    machine.programs = 3
    assert machine.evaluate(PERIOD_S / 2) == 8
    assert machine.evaluate(PERIOD_S) < 8


@pytest.mark.parametrize('pause_s', [0.0, 0.5, 60.0])
def test_before_a_view_what_runs_now_decides(machine, pause_s):
    """Whatever went on in the pause."""
    machine.evaluate()
    machine.pass_s(pause_s, 0)
    machine.programs = 3
    machine.follower.follow(begins=True)
    assert torch.get_num_threads() == 5 and machine.brake.on
    machine.pass_s(pause_s, 0)
    machine.programs = 0
    machine.follower.follow(begins=True)
    assert torch.get_num_threads() == 8 and not machine.brake.on


def test_of_two_cores_one_is_enough_beside_two_programs():
    machine, before = Machine(cores=2), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        machine.programs = 2
        machine.follower.follow(begins=True)
        assert {machine.evaluate() for _ in range(30)} == {1}
    finally:
        torch.set_num_threads(before)


def test_a_number_set_by_the_program_is_the_most_from_then_on(machine):
    torch.set_num_threads(1)
    machine.evaluate()
    torch.set_num_threads(6)
    machine.evaluate()
    machine.programs = 3
    assert machine.evaluate() == 5
    machine.programs = 0
    assert [machine.evaluate() for _ in range(3)][-1] == 6


@on_linux
def test_threads_that_run_are_counted():
    before = others_running()
    loops = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(3)]
    try:
        deadline = time.monotonic() + 10
        while others_running() < before + 2:
            assert time.monotonic() < deadline
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_a_slow_evaluation_tells_as_well(machine):
    machine.programs = 3
    assert machine.evaluate(100 * PERIOD_S) < 8


def test_a_number_that_is_asked_for_is_kept_and_given_back(machine):
    machine.evaluate()
    in_a_thread(lambda: machine.follower.use(3))  # where a node is configured
    machine.programs = 3
    assert {machine.evaluate() for _ in range(5)} == {3}
    assert machine.brake.on
    in_a_thread(lambda: machine.follower.use(0))
    machine.programs = 0
    assert [machine.evaluate() for _ in range(3)][-1] == 8


def test_asked_for_from_the_start_it_is_given_back_too(machine):
    machine.follower.use(1)
    assert machine.evaluate() == 1
    machine.follower.use(0)
    assert [machine.evaluate() for _ in range(3)][-1] == 8


def test_a_number_that_the_program_sets_is_the_most(machine):
    machine.evaluate()
    machine.programs = 2
    assert [machine.evaluate() for _ in range(5)][-1] == 6
    torch.set_num_threads(4)
    machine.programs = 0
    assert [machine.evaluate() for _ in range(5)][-1] == 4


def test_each_thread_that_runs_the_network_follows(machine):
    ready, go = threading.Event(), threading.Event()
    seen = []

    def run():
        seen.append(torch.get_num_threads())
        ready.set()
        go.wait()
        seen.append(machine.evaluate())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    machine.programs = 3
    machine.evaluate()
    go.set()
    thread.join()
    assert seen[0] == 8
    assert seen[1] < 8


def test_without_being_asked_nothing_is_changed(machine):
    follower = Follower(machine.look, lambda: machine.now_s)
    machine.programs = 3
    for _ in range(5):
        machine.pass_s(PERIOD_S, 8)
        follower.follow()
    assert torch.get_num_threads() == 8
    follower.use(0)
    assert torch.get_num_threads() == 8


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@on_linux
def test_work_is_counted():
    cores = os.sched_getaffinity(0)
    before = busy_s(cores)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert busy_s(cores) - before > 0.1


def output(program, *arguments, **own):
    command = [sys.executable, '-c', program, *arguments]
    done = subprocess.run(command, env=CLEAN | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


BRAKE = """
import os, time
import torch
from nvs_ros.computer.cores import Brake

torch.set_num_threads(2)
numbers = torch.ones(200_000)
numbers.exp()
for task in os.listdir('/proc/self/task'):  # both threads on one core: one waits for the other
    os.sched_setaffinity(int(task), {min(os.sched_getaffinity(0))})

def used_s(times=50):
    before = time.process_time()
    for _ in range(times):
        numbers.exp()
    return time.process_time() - before

brake, spent = Brake(), []
for on in (False, True, False, True):
    brake.put(on, 2)
    assert brake.on == on
    spent.append(used_s())
print(*spent)
"""


@on_linux
@on_several_cores
@pytest.mark.skipif(not GNU, reason="torch's OpenMP is not GNU's")
def test_waiting_threads_sleep_while_the_brake_is_on():
    off, on, off_again, on_again = map(float, output(BRAKE).split())
    assert max(on, on_again) < min(off, off_again) / 3


VARIABLES = """
import os, sys
from nvs_ros.computer import cores
cores.share_cores()
assert not {'torch', 'numpy'} & sys.modules.keys()  # which read the variables
number = os.environ.get('OPENBLAS_NUM_THREADS')
print(cores._follower._threads, cores._follower._brake is not None, number)
"""


@on_linux
@pytest.mark.parametrize(
    ('own', 'printed'),
    [
        ({}, 'True True 1'),
        ({'GOMP_SPINCOUNT': '5'}, 'True False 1'),
        ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'True False 1'),
        ({'OMP_NUM_THREADS': '2'}, 'False True None'),
        ({'OPENBLAS_NUM_THREADS': '2'}, 'True True 2'),
    ],
)
def test_the_users_own_variables_win(own, printed):
    assert output(VARIABLES, **own) == printed


COMMAND = """
import sys
from nvs_ros import cli
from nvs_ros.computer import cores
if sys.argv.pop(1) == 'own':
    cli.main()
else:
    cli.main(sys.argv[1:])
print(cores._follower._threads, cores._follower._brake is not None)
"""


@on_linux
@pytest.mark.parametrize(
    ('words', 'printed'),
    [
        (('own', 'synthesize', 'none.png'), 'True True'),
        (('own', 'convert', 'none.ckpt', 'none'), 'False True'),
        (('called', 'convert', 'none.ckpt', 'none'), 'False False'),
    ],
)
def test_commands_share_the_cores_but_no_caller_of_them_does(words, printed):
    assert output(COMMAND, *words) == printed


NODE = """
import os
from nvs_ros.computer import cores

def leave(code, end=os._exit):
    print(cores._follower._threads, cores._follower._brake is not None, flush=True)
    end(0)

os._exit = leave
from nvs_ros.node.main import main
main(['--ros-args', '-p', 'model.threads:=-1'])
"""


@on_linux
def test_the_node_shares_the_cores():
    assert output(NODE) == 'True True'


VIEW = """
import subprocess, sys
from nvs_ros.computer import cores
cores.share_cores()
import numpy as np
import torch
from nvs_ros.geometry import target_from_angles
from nvs_ros.synthesizer import Synthesizer

synthesizer = Synthesizer.from_pretrained('embedded')
source = synthesizer.photograph(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), np.uint8))
observation, target = synthesizer.observe(source), target_from_angles(source, 1.0, 0.0)

class Enough(Exception):
    pass

def look(state):
    if cores._follower._brake.on:
        raise Enough

loop = [sys.executable, '-S', '-c', 'while True: pass']
busy = [subprocess.Popen(loop) for _ in range(int(sys.argv[1]))]
try:
    for _ in range(50):
        synthesizer.synthesize(observation, [target], synthesizer.preset('fast'), callback=look)
    print('never')
except Enough:
    print('followed')
finally:
    for process in busy:
        process.kill()
        process.wait()
"""


@on_linux
@on_several_cores
def test_a_view_follows_the_cores_while_it_is_made():
    assert output(VIEW, str(CORES)) == 'followed'


LOADING = """
import os, threading
import torch
from nvs_ros.loading import load_synthesizer
from nvs_ros.settings import ModelSettings

torch.set_num_threads(4)
end, loaded = threading.Event(), threading.Event()

def configure():
    try:
        load_synthesizer(ModelSettings(), lambda line: None)
    finally:
        loaded.set()
    end.wait()

before = set(os.listdir('/proc/self/task'))
thread = threading.Thread(target=configure)
thread.start()
loaded.wait()
for _ in range(1000):
    left = len(set(os.listdir('/proc/self/task')) - before)
    if left == 1:
        break
    end.wait(0.01)
print(left)
end.set()
"""


@on_linux
def test_a_loaded_model_leaves_no_threads_behind():
    assert output(LOADING) == '1'  # the one that waits


def test_the_tests_themselves_hardly_spin():
    assert any(name in os.environ for name in SPIN_VARIABLES)
