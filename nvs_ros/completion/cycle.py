"""Cycle check: with a synthesised view as source, the network must give back the measured image."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nvs_ros.completion.uncertainty import Estimate
from nvs_ros.geometry import CanonicalView, target_from_pose
from nvs_ros.settings import SamplerSettings
from nvs_ros.silhouette import mask_iou
from nvs_ros.synthesizer import Synthesizer


class CycleCheck(NamedTuple):
    """Comparison of the measured image with the one synthesised back from a view.

    Attributes
    ----------
    iou : float
        IoU of the two silhouettes, 0..1.
    error : float
        Root mean square difference of the colours inside the measured silhouette, 0..1.
    """

    iou: float
    error: float


def cycle_check(
    synthesizer: Synthesizer,
    source: CanonicalView,
    estimate: Estimate,
    settings: SamplerSettings,
    callback: Callable[[dict], None] | None = None,
) -> CycleCheck:
    """Synthesise the measured image back from the view of an estimate's first seed.

    Parameters
    ----------
    synthesizer : Synthesizer
    source : CanonicalView
        The measured image.
    estimate : Estimate
        Of a view synthesised from ``source``.
    settings : SamplerSettings
    callback : callable, optional
        As for :meth:`nvs_ros.synthesizer.Synthesizer.synthesize`.
    """
    if not estimate.masks[0].any():
        return CycleCheck(0.0, 1.0)
    target = estimate.target
    imagined = CanonicalView(
        estimate.images[0],
        estimate.masks[0],
        target.camera,
        target.object_from_camera,
        source.unit_m,
        source.radius + target.relative.delta_radius,
        trained=source.trained,
    )
    way_back = target_from_pose(imagined, source.camera, source.object_from_camera)
    observation = synthesizer.observe(imagined)
    (view,) = synthesizer.synthesize(
        observation,
        [way_back],
        settings,
        seed=estimate.seeds[0],
        callback=callback,
        remember=False,  # the memory stays for further views of the measured frame
    )
    inside = source.mask > 127
    difference = (view.image[inside].astype(np.float32) - source.image[inside]) / 255
    error = float(np.sqrt(np.square(difference).mean())) if inside.any() else 1.0
    return CycleCheck(mask_iou(view.mask, source.mask), error)
