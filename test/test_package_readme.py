"""What the README says can be done, can be done."""

import re
import subprocess
from pathlib import Path

import cv2
import numpy as np

from nvs_ros.cli import COMMANDS
from nvs_ros.hero.presets import preset
from nvs_ros.synthesizer import Synthesizer

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()


def test_every_local_link_leads_somewhere():
    targets = re.findall(r'\]\(([^)#]+)\)', README)
    local = [target for target in targets if not target.startswith('http')]
    assert not [target for target in local if not (ROOT / target).exists()]


def test_every_make_target_exists():
    targets = set(re.findall(r'^make (\w+)|`make (\w+)`', README, flags=re.MULTILINE))
    names = {name for pair in targets for name in pair if name}
    assert {'demo', 'test', 'clean'} <= names
    for name in names:
        subprocess.run(['make', '--dry-run', name], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_every_command_exists():
    named = set(re.findall(r'python -m nvs_ros (\w+)', README))
    assert named
    assert named <= set(COMMANDS)


def test_the_program_runs(monkeypatch):
    """The Python of the README, on a drawing of a box, gives a view of the object on white."""
    # Ten evaluations of the network show it as well as 66.
    quick = preset('zero123', num_inference_steps=10)
    monkeypatch.setattr(Synthesizer, 'preset', lambda self: quick)
    image = np.full((240, 320, 3), 90, np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    cv2.rectangle(image, (110, 60), (210, 200), (200, 30, 30), -1)
    cv2.rectangle(mask, (110, 60), (210, 200), 255, -1)
    (program,) = re.findall(r'```python\n(.*?)```', README, flags=re.DOTALL)
    names = {'image': image, 'mask': mask}
    exec(compile(program, 'README.md', 'exec'), names)
    view, size = names['view'], names['synthesizer'].components.image_size
    assert view.image.shape == (size, size, 3)
    assert 0.02 < (view.mask > 127).mean() < 0.9
    assert (view.image[0, 0] > 230).all()
