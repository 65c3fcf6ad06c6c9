"""The weights that ship: they load, they are small, they see more than a copy of the source."""

import json

import numpy as np
import pytest

from nvs_ros.evaluation.methods import parse_preset
from nvs_ros.evaluation.protocol import Evaluation, ProtocolSettings, measure_object
from nvs_ros.evaluation.sets import open_set
from nvs_ros.evaluation.statistics import object_scores
from nvs_ros.scenes.dataset import DatasetSettings
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.zero123.components import EMBEDDED


@pytest.fixture(scope='module')
def results():
    synthesizer = Synthesizer.from_pretrained(device='cpu')
    objects = open_set('household', split='test', views=4, size=synthesizer.components.image_size)
    settings = ProtocolSettings(objects=12, views=4, sources=1, seeds=1)
    methods = [parse_preset(synthesizer, 'hourglass')]
    evaluation = Evaluation(synthesizer, objects, methods, settings)
    return [measure_object(evaluation, index)[0] for index in range(settings.objects)]


def means(results, split):
    return {
        method: {metric: np.nanmean(values) for metric, values in by_metric.items()}
        for method, by_metric in object_scores(results, split).items()
    }


def test_the_model_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in EMBEDDED.rglob('*') if file.is_file()) < 30e6


def test_the_codec_keeps_colours(results):
    assert means(results, 'all')['codec']['fg_psnr'] > 24


def test_views_of_held_out_objects_beat_a_copy_of_the_source(results):
    far = means(results, 'over_45')
    assert far['hourglass']['fg_psnr'] > far['copy_source']['fg_psnr'] + 1
    assert far['hourglass']['iou'] > far['copy_source']['iou'] + 0.05
    near_and_far = means(results, 'all')
    assert near_and_far['hourglass']['psnr'] > near_and_far['copy_source']['psnr']


def test_the_model_knows_its_range():
    profile = Synthesizer.from_pretrained(device='cpu').components.profile
    assert profile.radius == DatasetSettings().radius
    assert profile.elevation_deg == DatasetSettings().elevation_deg
    recipe = json.loads((EMBEDDED / 'model_index.json').read_text())['source']['recipe']
    assert recipe['diffusion']['steps'] > 0 and np.isfinite(recipe['diffusion']['learning_rate'])
