"""Tiny pipelines with random weights: the examples run on them where no real weights are given."""

import json
import string
import tempfile
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.layout import ZERO123_XL
from nvs_ros.zero123.profile import PROFILES

WIDTH = 32
CLIP = {
    'hidden_size': WIDTH,
    'intermediate_size': WIDTH,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'projection_dim': WIDTH,
}
BLOCKS = {
    'block_out_channels': (8, 16),
    'layers_per_block': 1,
    'norm_num_groups': 4,
    'attention_head_dim': 2,
    'cross_attention_dim': WIDTH,
    'down_block_types': ('CrossAttnDownBlock2D',) * 2,
}
NO_CHECKER = {'safety_checker': None, 'feature_extractor': None, 'requires_safety_checker': False}


def unet(in_channels=4, **config):
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        up_block_types=('CrossAttnUpBlock2D',) * 2,
        **BLOCKS | config,
    )


def vae():
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        down_block_types=('DownEncoderBlock2D',) * 3,
        up_block_types=('UpDecoderBlock2D',) * 3,
    )


def scheduler():
    return DDIMScheduler(
        beta_schedule='scaled_linear',
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def zero123():
    """Components of a Zero-1-to-3 model for pictures of 32x32 pixels."""
    return Zero123Components(
        vae=vae(),
        unet=unet(in_channels=8),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(image_size=32, patch_size=8, **CLIP)
        ),
        cc_projection=torch.nn.Linear(WIDTH + 4, WIDTH),
        scheduler=scheduler(),
        kind=ZERO123_XL,
        profile=PROFILES[ZERO123_XL],
        model_id='random',
    )


def text():
    """Text encoder and tokenizer for prompts in lower case."""
    letters = [*string.ascii_lowercase, *(letter + '</w>' for letter in string.ascii_lowercase)]
    names = [*letters, '<|startoftext|>', '<|endoftext|>']
    config = CLIPTextConfig(
        vocab_size=len(names), bos_token_id=len(letters), eos_token_id=len(letters) + 1, **CLIP
    )
    with tempfile.TemporaryDirectory() as folder:  # the one way that all versions have
        vocabulary, merges = Path(folder, 'vocab.json'), Path(folder, 'merges.txt')
        vocabulary.write_text(json.dumps({name: i for i, name in enumerate(names)}))
        merges.write_text('#version: 0.2\n')
        tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    return {'text_encoder': CLIPTextModel(config), 'tokenizer': tokenizer}


def controlnet():
    """A ControlNet pipeline for pictures of 32x32 pixels."""
    return StableDiffusionControlNetPipeline(
        vae=vae(),
        **text(),
        unet=unet(),
        controlnet=ControlNetModel(conditioning_embedding_out_channels=(8, 8, 16), **BLOCKS),
        scheduler=scheduler(),
        **NO_CHECKER,
    )


def mvdream():
    """A text-to-image pipeline whose UNet takes a camera of 16 numbers as class embedding."""
    return StableDiffusionPipeline(
        vae=vae(),
        **text(),
        unet=unet(class_embed_type='projection', projection_class_embeddings_input_dim=16),
        scheduler=scheduler(),
        **NO_CHECKER,
    )
