"""The embedded model with a sampler of few evaluations; no test of its own."""

import json
import shutil

from nvs_ros.zero123.components import EMBEDDED

EVALUATIONS = 6
"""Of the full method: 2 early timesteps twice, 1 in the middle, 1 late."""


def make_short_model(folder):
    """Copy the embedded model into a new folder, with a short run as its own sampler."""
    shutil.copytree(EMBEDDED, folder)
    file = folder / 'model_index.json'
    index = json.loads(file.read_text())
    index['profile']['sampler'] = {
        'early_steps': 2,
        'middle_steps': 1,
        'late_steps': 1,
        'resampling_passes': 2,
        'num_inference_steps': 3,
    }
    file.write_text(json.dumps(index))
    return folder
