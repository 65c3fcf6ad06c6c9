"""The weights that ship: they load, they are small, they see more than a copy of the source."""

import json

import numpy as np
import pytest

from nvs_ros.evaluation.protocol import evaluate, summarise
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.training.dataset import DatasetSettings
from nvs_ros.zero123.components import EMBEDDED


@pytest.fixture(scope='module')
def summary():
    return summarise(
        evaluate(Synthesizer.from_pretrained(device='cpu'), ['hourglass'], objects=12, views=4)
    )


def test_the_model_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in EMBEDDED.rglob('*') if file.is_file()) < 30e6


def test_the_codec_keeps_colours(summary):
    assert summary['codec']['all']['fg_psnr'] > 24


def test_views_of_held_out_objects_beat_a_copy_of_the_source(summary):
    ours, copied = summary['hourglass'], summary['copy_source']
    assert ours['far']['fg_psnr'] > copied['far']['fg_psnr'] + 1
    assert ours['far']['iou'] > copied['far']['iou'] + 0.05
    assert ours['all']['psnr'] > copied['all']['psnr']


def test_the_model_knows_its_range():
    profile = Synthesizer.from_pretrained(device='cpu').components.profile
    assert profile.radius == DatasetSettings().radius
    assert profile.elevation_deg == DatasetSettings().elevation_deg
    recipe = json.loads((EMBEDDED / 'model_index.json').read_text())['source']['recipe']
    assert recipe['diffusion']['steps'] > 0 and np.isfinite(recipe['diffusion']['learning_rate'])
