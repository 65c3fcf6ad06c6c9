"""Novel views of an object: python novel_views.py [MODEL] [RGBA_IMAGE]

MODEL is 'embedded', a diffusers folder or an original checkpoint; random weights when omitted.
"""

import sys

import numpy as np
from PIL import Image
from tiny_models import zero123

from nvs_ros.geometry.canonical import photograph_view
from nvs_ros.geometry.target import orbit, target_from_angles
from nvs_ros.hero import preset
from nvs_ros.synthesizer import Synthesizer

model, picture = [*sys.argv[1:], None, None][:2]
synthesizer = Synthesizer.from_pretrained(model) if model else Synthesizer(zero123())
rgba = np.full((64, 64, 4), (200, 80, 40, 0), np.uint8)
rgba[16:48, 20:44, 3] = 255
if picture:
    rgba = np.array(Image.open(picture).convert('RGBA'))

size = synthesizer.components.image_size
source = photograph_view(rgba[..., :3], rgba[..., 3], image_size=size)
targets = [target_from_angles(source, *viewpoint) for viewpoint in orbit(4)]
views = synthesizer.synthesize(synthesizer.observe(source), targets, preset('zero-to-hero'), seed=0)
Image.fromarray(np.hstack([source.image, *(view.image for view in views)])).save('novel_views.png')
