"""Map filtering on MVDream: python mvdream.py [CHECKPOINT STABLE_DIFFUSION_2_1 PROMPT]

The original checkpoint, a diffusers folder for text and VAE, a text; random weights when omitted.
"""

import sys

import tiny_models
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import make_image_grid

from nvs_ros.hero import BEYOND_NVS, attention_map_filtering, make_scheduler, preset
from nvs_ros.zero123.multiview import load_mvdream_unet, multi_view_attention, orbit_cameras

pipe, prompt = tiny_models.mvdream(), 'a duck'
if len(sys.argv) > 1:
    checkpoint, stable_diffusion, prompt = sys.argv[1:]
    pipe = StableDiffusionPipeline.from_pretrained(
        stable_diffusion, unet=load_mvdream_unet(checkpoint)
    ).to('cuda' if torch.cuda.is_available() else 'cpu')

method = preset('amf', **BEYOND_NVS)
pipe.scheduler = make_scheduler(pipe.scheduler, method)
with multi_view_attention(pipe.unet, orbit_cameras(4)), attention_map_filtering(pipe.unet, method):
    views = pipe(f'{prompt}, 3d asset', num_images_per_prompt=4).images
make_image_grid(views, rows=1, cols=4).save('mvdream.png')
