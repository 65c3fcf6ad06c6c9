"""Ours against the same work done plainly with diffusers, in turn, with the ratio of each pair.

    python benchmarks/reference.py [--model embedded|full-random] [--views 8] [--pairs 3]
                                   [--device cpu] [--dtype float32] [--json FILE]

The work: some viewpoints of one frame, 66 network evaluations each, with classifier-free guidance.
The plain program is what a user of diffusers writes: for every viewpoint it encodes the picture,
then evaluates the UNet with its default attention 66 times on ``[uncond, cond]`` with
``DDIMScheduler``, and decodes. Two forms of it are timed:

* ``target``: the target alone, 132 rows for each viewpoint. That is the work of Zero-1-to-3; it
  neither filters nor looks at a source branch, which ours does in the same time;
* ``source``: beside each target its source branch for the evaluations that need it: 50 for the
  embedded model, 52 with the paper's window, 232 and 236 rows.
  That is the work of Zero-to-Hero without sharing, still without filtering.

Ours is the default preset on a frame that it has not seen: everything from the picture to the
pictures. Weights do not matter for time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler
from flops import counted

sys.path.insert(0, str(Path(__file__).parent.parent))
from nvs_ros.computer.allocator import keep_freed_memory
from nvs_ros.computer.timing import config_hash, machine
from nvs_ros.geometry.target import target_from_angles
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.zero123.conditioning import clip_pixels, network_images

GUIDANCE = 3.0


@torch.inference_mode()
def plain(
    model, picture: np.ndarray, poses: np.ndarray, evaluations: int, with_source: int
) -> list[torch.Tensor]:
    """Each viewpoint by itself, with its source branch in so many of the evaluations."""
    return [plain_view(model, picture, pose, evaluations, with_source) for pose in poses]


def plain_view(
    model, picture: np.ndarray, pose: np.ndarray, evaluations: int, with_source: int
) -> torch.Tensor:
    scheduler = DDIMScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(evaluations, device=model.device)
    image = network_images(picture[None]).to(model.device, model.dtype)
    pixels = clip_pixels(image, model.image_encoder.config.image_size).to(model.dtype)
    embedding = model.image_encoder(pixels).image_embeds[:, None]
    cond_latent = model.vae.encode(image).latent_dist.mode()
    identity = np.array([0, 0, 1, 0])
    wanted = np.stack([identity, pose] if with_source else [pose])
    wanted = torch.tensor(wanted, dtype=model.dtype, device=model.device)[:, None]
    tokens = model.cc_projection(torch.cat([embedding.expand(len(wanted), -1, -1), wanted], dim=-1))
    latents = torch.randn(len(wanted), *cond_latent.shape[1:]).to(model.device, model.dtype)
    for index, t in enumerate(scheduler.timesteps):
        if index == with_source:
            tokens, latents = tokens[-1:], latents[-1:]
        cond = cond_latent.expand(len(latents), -1, -1, -1)
        rows = torch.cat([latents, latents])
        rows = torch.cat([rows, torch.cat([torch.zeros_like(cond), cond])], dim=1)
        context = torch.cat([torch.zeros_like(tokens), tokens])
        uncond, guided = model.unet(rows, t, context).sample.chunk(2)
        noise = uncond + GUIDANCE * (guided - uncond)
        latents = scheduler.step(noise, t, latents).prev_sample
    return model.vae.decode(latents / model.vae.config.scaling_factor).sample.cpu()


def seconds(work, clock) -> float:
    started = clock()
    work()
    return clock() - started


def main() -> None:
    keep_freed_memory()  # for both
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--model', default='embedded')
    parser.add_argument('--views', type=int, default=8)
    parser.add_argument('--pairs', type=int, default=3)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--dtype', choices=('float32', 'float16', 'bfloat16'))
    parser.add_argument('--compile', action='store_true', help='ours with model.compile')
    parser.add_argument(
        '--cpu-time', action='store_true', help='of all threads, for a machine that is busy'
    )
    parser.add_argument('--json', type=Path, help='where to write the figures')
    arguments = parser.parse_args()
    dtype = arguments.dtype and getattr(torch, arguments.dtype)
    load = {'device': arguments.device, 'dtype': dtype}
    reference = Synthesizer.from_pretrained(arguments.model, **load).components
    ours = Synthesizer.from_pretrained(arguments.model, compiled=arguments.compile, **load)

    image = np.full((240, 320, 3), 120, np.uint8)
    mask = np.zeros((240, 320), np.uint8)
    image[60:180, 100:220], mask[60:180, 100:220] = (200, 60, 40), 255
    source = ours.photograph(image, mask)
    azimuths = np.linspace(0, 2 * np.pi, arguments.views, endpoint=False)
    targets = [target_from_angles(source, azimuth, 0.1) for azimuth in azimuths]
    poses = np.stack([target.relative.vector() for target in targets])
    evaluations, with_source = counted(reference)
    work = {
        'ours': lambda: ours.synthesize(ours.observe(source), targets),
        'target': lambda: plain(reference, source.image, poses, evaluations, 0),
        'source': lambda: plain(reference, source.image, poses, evaluations, with_source),
    }
    ours.warm_up(views=arguments.views)
    if reference.device.type == 'cuda':
        plain(reference, source.image, poses[:1], evaluations, with_source)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    taken = {name: [] for name in work}
    for pair in range(arguments.pairs):
        for name, one in work.items():
            taken[name].append(seconds(one, clock))
        line = ', '.join(f'{name} {values[-1]:.2f} s' for name, values in taken.items())
        ratios = [taken[name][-1] / taken['ours'][-1] for name in ('target', 'source')]
        print(
            f'pair {pair + 1}: {line}; target {ratios[0]:.2f}, source {ratios[1]:.2f} x ours',
            flush=True,
        )
    medians = {
        name: statistics.median(
            other / own for other, own in zip(taken[name], taken['ours'], strict=True)
        )
        for name in ('target', 'source')
    }
    print(f'median: target {medians["target"]:.2f}, source {medians["source"]:.2f} x ours')
    asked = {key: value for key, value in vars(arguments).items() if key != 'json'}
    report = machine(arguments.device) | {'config_hash': config_hash(asked)} | asked
    report |= {'seconds': taken, 'median_ratio': medians}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
