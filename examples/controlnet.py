"""Map filtering on ControlNet: python controlnet.py [STABLE_DIFFUSION CONTROLNET CONDITION PROMPT]

The arguments are two diffusers folders, a pose or segmentation image, and a text. Without them the
example runs with random weights.
"""

import sys

import tiny_models
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image

from nvs_ros.hero import BEYOND_NVS, attention_map_filtering, make_scheduler, preset

if len(sys.argv) > 1:
    base, control, picture, prompt = sys.argv[1:]
    condition: Image.Image = Image.open(picture)
    controlnet = ControlNetModel.from_pretrained(control)
    pipe = StableDiffusionControlNetPipeline.from_pretrained(base, controlnet=controlnet)
    pipe.to('cuda' if torch.cuda.is_available() else 'cpu')
else:
    condition, prompt = Image.new('RGB', (32, 32), 'white'), 'a witch riding her broomstick'
    pipe = tiny_models.controlnet()

method = preset('amf', **BEYOND_NVS)
pipe.scheduler = make_scheduler(pipe.scheduler, method)
with attention_map_filtering(pipe.unet, method):
    pipe(prompt, condition).images[0].save('controlnet.png')
