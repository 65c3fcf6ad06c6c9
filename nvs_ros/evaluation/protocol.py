"""Views of held-out objects against the truth, beside references that cannot see the other side."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from nvs_ros.evaluation.metrics import foreground_psnr, mask_iou, psnr
from nvs_ros.geometry import Camera, CanonicalView, Spherical, pose_from_spherical, target_from_pose
from nvs_ros.silhouette import silhouette
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.training.dataset import DatasetSettings, render_object
from nvs_ros.zero123.conditioning import decode_latents, network_images, rgb_images

HELD_OUT_SEED = 1000
"""Objects of this seed are in no training set (training takes 0)."""
METRICS = ('psnr', 'fg_psnr', 'iou')
REFERENCES = ('copy_source', 'white', 'codec')
FAR_RAD = np.radians(45)


@dataclass(frozen=True)
class Record:
    """One picture against the truth."""

    method: str
    object_index: int
    delta_azimuth_rad: float
    psnr: float
    fg_psnr: float
    iou: float


def evaluate(
    synthesizer: Synthesizer,
    presets: Sequence[str],
    *,
    objects: int,
    views: int = 8,
    seeds: int = 1,
) -> list[Record]:
    """Synthesise every other view of each held-out object from its first.

    Parameters
    ----------
    synthesizer : Synthesizer
    presets : sequence of str
        With the same noise for each of them.
    objects, views, seeds : int

    Returns
    -------
    list of Record
        For each preset and each of :data:`REFERENCES`.
    """
    size = synthesizer.components.image_size
    settings = DatasetSettings(objects=objects, views=views, size=size, seed=HELD_OUT_SEED)
    records = []
    for index in tqdm(range(objects), 'objects'):
        images, masks, cameras = render_object(settings, index)
        for method, pictures in _pictures(synthesizer, images, masks, cameras, presets, seeds):
            for target, picture in enumerate(pictures, start=1):
                truth, mask = images[target], masks[target]
                turn = np.angle(np.exp(1j * (cameras[target, 0] - cameras[0, 0])))
                records.append(
                    Record(
                        method,
                        index,
                        float(turn),
                        psnr(picture, truth),
                        foreground_psnr(picture, truth, mask),
                        mask_iou(silhouette(picture), mask),
                    )
                )
    return records


def _pictures(
    synthesizer: Synthesizer,
    images: np.ndarray,
    masks: np.ndarray,
    cameras: np.ndarray,
    presets: Sequence[str],
    seeds: int,
) -> Iterator[tuple[str, Sequence[np.ndarray]]]:
    """Method and its pictures of all views but the first."""
    yield 'copy_source', [images[0]] * (len(images) - 1)
    yield 'white', [np.full_like(images[0], 255)] * (len(images) - 1)
    yield 'codec', through_codec(synthesizer, images[1:])
    poses = [pose_from_spherical(Spherical(*map(float, camera))) for camera in cameras]
    source = CanonicalView(
        images[0],
        masks[0],
        Camera.canonical(images.shape[1]),
        poses[0],
        unit_m=1.0,
        radius=float(cameras[0, 2]),
        trained=synthesizer.components.profile.trained,
    )
    observation = synthesizer.observe(source)
    targets = [target_from_pose(source, source.camera, pose) for pose in poses[1:]]
    for name in presets:
        for seed in range(seeds):
            made = synthesizer.synthesize(observation, targets, synthesizer.preset(name), seed=seed)
            yield name, [view.image for view in made]


@torch.inference_mode()
def through_codec(synthesizer: Synthesizer, images: np.ndarray) -> np.ndarray:
    """Pictures (n, S, S, 3) uint8 encoded and decoded: no view can be better than its codec."""
    components = synthesizer.components
    pixels = network_images(images).to(components.device, components.dtype)
    latents = components.vae.encode(pixels).latent_dist.mode()
    return rgb_images(decode_latents(components, latents * components.vae.config.scaling_factor))


def summarise(records: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Means: method -> ``all`` and ``far`` (azimuth changes over 45 degrees) -> metric."""
    groups = defaultdict(list)
    for record in records:
        groups[record.method, 'all'].append(record)
        if abs(record.delta_azimuth_rad) > FAR_RAD:
            groups[record.method, 'far'].append(record)
    summary: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (method, split), group in groups.items():
        rows = [dataclasses.asdict(record) for record in group]
        summary[method][split] = {m: float(np.mean([row[m] for row in rows])) for m in METRICS}
    return dict(summary)
