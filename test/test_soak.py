"""The node under everything at once, in short; and that a leak would be seen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soaked_node import LEAKS, not_flat, sample

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {'memory': 'rss_mb', 'threads': 'threads', 'files': 'files', 'shared': 'shared'}
LEAKING = """
import sys
from benchmarks.soaked_node import leak
for line in sys.stdin:
    if line.strip():
        leak(line.strip())
    print(flush=True)
"""


@pytest.mark.parametrize('kind', ['', *LEAKS])
def test_a_leak_is_seen_and_named(kind):
    """A process that leaks one thing at a time, or nothing."""
    command = [sys.executable, '-c', LEAKING]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        samples = []
        for _ in range(9):
            process.stdin.write(f'{kind}\n')
            process.stdin.flush()
            process.stdout.readline()
            samples.append(sample(process.pid))
        process.kill()
    faults = not_flat(samples)
    assert any(fault.startswith(FIELDS[kind]) for fault in faults) if kind else faults == []


def test_three_samples_say_nothing():
    one = sample(os.getpid())
    assert 'expected 4 cycles or more' in not_flat([one] * 3)[0]
    assert not_flat([one] * 4) == []


def test_the_node_stays_as_it_was_under_everything_at_once():
    """Half a minute of what ``python benchmarks/soak.py`` does for ten."""
    pytest.importorskip('rclpy')
    run = subprocess.run(
        [sys.executable, 'benchmarks/soak.py', '--minutes', '0.5', '--cycle', '2'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "'last frames served': 30" in run.stdout
