"""The diffusers layout: one subfolder for each component, loaded one by one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPVisionModelWithProjection

from nvs_ros.zero123.components import ZERO123, Zero123Components


def load_folder(folder: Path, *, device='cpu', dtype=torch.float32) -> Zero123Components:
    """Load every component of a folder in diffusers layout."""
    index = json.loads((folder / 'model_index.json').read_text())
    tensors = load_file(next((folder / 'cc_projection').glob('*.safetensors')))
    weight, bias = tensors['projection.weight'], tensors['projection.bias']
    projection = torch.nn.Linear(weight.shape[1], weight.shape[0])
    projection.load_state_dict({'weight': weight, 'bias': bias})
    components = Zero123Components(
        vae=AutoencoderKL.from_pretrained(folder, subfolder='vae'),
        unet=UNet2DConditionModel.from_pretrained(folder, subfolder='unet'),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(
            folder, subfolder='image_encoder'
        ),
        cc_projection=projection,
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder='scheduler'),
        kind=index.get('kind', ZERO123),
        model_id=str(folder),
    )
    for module in (components.vae, components.unet, components.image_encoder, projection):
        module.eval().requires_grad_(False)
    return components.to(device, dtype)
