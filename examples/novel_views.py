"""Novel views of an object: python novel_views.py [MODEL RGBA_IMAGE]

MODEL is 'embedded', a diffusers folder or an original checkpoint. Without arguments the example
runs with random weights.
"""

import sys

import numpy as np
import tiny_models
from PIL import Image

from nvs_ros.geometry.target import orbit, target_from_angles
from nvs_ros.synthesizer import Synthesizer

if len(sys.argv) > 1:
    synthesizer = Synthesizer.from_pretrained(sys.argv[1])
    rgba = np.array(Image.open(sys.argv[2]).convert('RGBA'))
else:
    synthesizer = Synthesizer(tiny_models.zero123())
    rgba = np.full((64, 64, 4), (200, 80, 40, 0), np.uint8)
    rgba[16:48, 20:44, 3] = 255

source = synthesizer.photograph(rgba[..., :3], rgba[..., 3])
targets = [target_from_angles(source, *viewpoint) for viewpoint in orbit(4)]
method = synthesizer.preset('zero-to-hero')
views = synthesizer.synthesize(synthesizer.observe(source), targets, method, seed=0)
Image.fromarray(np.hstack([source.image, *(view.image for view in views)])).save('novel_views.png')
