"""The next best view leads somewhere: what is measured there makes the shape better."""

import numpy as np
import pytest

from nvs_ros.completion.hull import SURFACE, Grid, carve
from nvs_ros.completion.pipeline import complete_shape
from nvs_ros.evaluation.shape_metrics import scan, true_shape, volumetric_iou
from nvs_ros.evaluation.shape_protocol import next_frame, observe_views
from nvs_ros.geometry import Spherical, position_from_spherical
from nvs_ros.scenes.categories import make_object
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Synthesizer

SETTINGS = CompletionSettings(seeds=2, cells=32)
GRID = Grid(1.0, SETTINGS.cells)


@pytest.fixture(scope='module')
def synthesizer():
    return Synthesizer.from_pretrained('embedded', device='cpu')


def test_a_camera_that_goes_to_the_next_best_view_makes_the_shape_better(synthesizer, monkeypatch):
    sides = [(azimuth_deg, 0.0, 0.0) for azimuth_deg in (45.0, 120.0, 180.0, 240.0)]
    monkeypatch.setattr('nvs_ros.evaluation.shape_protocol.VIEWPOINTS', sides)
    mesh = make_object('carton', np.random.default_rng(5))
    solid, _ = true_shape(mesh, GRID)
    frames = [scan(mesh, position_from_spherical(Spherical(0.3, 0.5, 1.8)), 64)]
    ious, unmeasured = [], []
    for _ in range(2):
        observation, views, _ = observe_views(synthesizer, mesh, frames, SETTINGS)
        estimates = [view.estimate for view in views]
        made = carve(GRID, frames, estimates, [view.confidence for view in views])
        ious.append(volumetric_iou(made >= SURFACE, solid))
        cloud = complete_shape(frames, observation, views, SETTINGS).cloud
        unmeasured.append(cloud.synthetic.sum())
        frames.append(next_frame(mesh, frames, observation, views, SETTINGS))
    turned = frames[1].object_from_camera[:3, 3] @ frames[0].object_from_camera[:3, 3]
    assert turned < 0, 'the second camera stands on the other side'
    assert ious[1] > ious[0] + 0.05
    assert unmeasured[1] < 0.75 * unmeasured[0]
