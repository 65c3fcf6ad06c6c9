"""The examples run as they are, on tiny random weights."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / 'examples'


@pytest.mark.parametrize(
    ('name', 'size'),
    [('novel_views', (160, 32)), ('controlnet', (32, 32)), ('mvdream', (128, 32))],
)
def test_example(name, size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, 'argv', [name])
    runpy.run_path(EXAMPLES / f'{name}.py', run_name='__main__')
    picture = Image.open(tmp_path / f'{name}.png')
    assert picture.size == size
    assert np.asarray(picture).std() > 0


@pytest.mark.parametrize('name', ['novel_views', 'controlnet', 'mvdream'])
def test_example_is_short(name):
    assert len((EXAMPLES / f'{name}.py').read_text().splitlines()) < 30
