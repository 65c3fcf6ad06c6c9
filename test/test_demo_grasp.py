"""``make demo-grasp`` from end to end: one look, the far side, a grasp, the lift."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip('rclpy')
pytest.importorskip('mujoco', reason='no mujoco: pip install .[grasp]')
pytest.importorskip('coacd', reason='no coacd: pip install .[grasp]')

DEMO = Path(__file__).parents[1] / 'demo' / 'grasp.py'
CELL, SHOWN = 220, 7
"""Side of a picture on the strip, and how many there are when the thing is held to the end."""


def test_a_thing_that_nobody_knows_is_lifted(tmp_path):
    done = subprocess.run(
        [sys.executable, DEMO, '--output', tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[1].endswith(': held')
    imagined = int(done.stdout.partition(' of its cloud imagined')[0].rpartition(' ')[2][:-1])
    assert 10 < imagined < 90
    with Image.open(tmp_path / 'grasp.png') as sheet:
        assert sheet.width > SHOWN * CELL
