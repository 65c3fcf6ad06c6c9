"""Operations and bytes of a view, counted on networks without memory; nothing is computed.

    python benchmarks/flops.py

2 operations are one multiply-add, as torch.utils.flop_counter counts them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.map_filter import inside
from nvs_ros.hero.presets import preset
from nvs_ros.hero.sampler import make_scheduler
from nvs_ros.hero.shortcuts import single_token_context
from nvs_ros.zero123.components import Zero123Components, empty_components, find_model
from nvs_ros.zero123.random_weights import FILES


def gflop(work: Callable[[], object]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device='meta')


def map_elements(components: Zero123Components) -> int:
    """Elements of all self-attention maps of one row."""
    found = []

    def count(attn: torch.nn.Module, args: tuple) -> None:
        found.append(attn.heads * args[0].shape[1] ** 2)

    for layer in self_attention_layers(components.unet).values():
        layer.register_forward_pre_hook(count)
    evaluate(components)
    return sum(found)


def evaluate(components: Zero123Components) -> None:
    side, width = components.latent_size, components.unet.config.cross_attention_dim
    timestep = torch.tensor(501, device='meta')
    with torch.no_grad():
        components.unet(
            meta(1, components.unet.config.in_channels, side, side), timestep, meta(1, 1, width)
        )


def counted(components: Zero123Components) -> tuple[int, int]:
    """Network evaluations of the default preset, and those of them with the source branch."""
    settings = preset(tuned=components.profile.sampler)
    timesteps = make_scheduler(components.scheduler, settings).timesteps.tolist()
    return len(timesteps), sum(inside(t, settings.msa_window) for t in timesteps)


def report(components: Zero123Components) -> None:
    unet = components.unet
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    print(f'{components.model_id}: UNet {parameters / 1e6:.1f} M parameters')
    rows = {}
    for name, shortcut in (('as it is', nullcontext()), ('with bias', single_token_context(unet))):
        with shortcut:
            rows[name] = gflop(lambda: evaluate(components))
        print(f'  UNet {name}, one row: {rows[name]:.2f} GFLOP')
    evaluations, with_source = counted(components)
    for name, number in ('first', evaluations + with_source), ('following', evaluations):
        print(f'  {name} view, {2 * number} rows: {rows["with bias"] * 2 * number:.0f} GFLOP')
    side, image, pixels = (
        components.latent_size,
        components.image_size,
        components.image_encoder.config.image_size,
    )
    vae = components.vae
    print(f'  VAE encode {gflop(lambda: vae.encode(meta(1, 3, image, image))):.2f} GFLOP')
    latent = meta(1, vae.config.latent_channels, side, side)
    print(f'  VAE decode {gflop(lambda: vae.decode(latent)):.2f} GFLOP')
    clip = gflop(lambda: components.image_encoder(meta(1, 3, pixels, pixels)))
    print(f'  image embedding {clip:.2f} GFLOP')
    elements = map_elements(components)
    print(f'  maps of one row: {elements / 1e6:.2f} M elements')


def main() -> None:
    for files in (find_model('embedded'), FILES):
        components = empty_components(files)
        for network in (components.unet, components.vae, components.image_encoder):
            network.eval()
        report(components)


if __name__ == '__main__':
    main()
