"""The public door of the algorithm: observe a frame once, synthesise any views of it.

Works without ROS::

    synthesizer = Synthesizer.from_pretrained('embedded')
    observation = synthesizer.observe(synthesizer.photograph(image, mask))
    target = target_from_angles(observation.source, azimuth_rad=1.0, elevation_rad=0.2)
    (view,) = synthesizer.synthesize(observation, [target], seed=0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from nvs_ros.batches import in_batches
from nvs_ros.computer.cores import follow_cores
from nvs_ros.errors import UserError
from nvs_ros.geometry.canonical import CanonicalView, canonical_view, photograph_view
from nvs_ros.geometry.guide import Measurement, guide
from nvs_ros.geometry.keep_measured import clear_empty, keep_measured
from nvs_ros.geometry.spherical import RelativePose
from nvs_ros.geometry.target import TargetCamera, target_from_angles
from nvs_ros.hero.presets import preset, shortened
from nvs_ros.hero.sampler import sample
from nvs_ros.hero.source_branch import SourcePool
from nvs_ros.observation import Frame, Observation, Source, measurement_of
from nvs_ros.settings import DEFAULT_PRESET, SEEDS, ModelSettings, SamplerSettings, ViewSettings
from nvs_ros.silhouette import silhouette
from nvs_ros.view import View
from nvs_ros.zero123.acceleration import accelerate, is_slow_at_first
from nvs_ros.zero123.components import Zero123Components, load_components
from nvs_ros.zero123.conditioning import (
    ImageCondition,
    decode_latents,
    encode_images,
    guide_latents,
    network_images,
    pose_tokens,
    rgb_images,
)
from nvs_ros.zero123.random_weights import FULL_RANDOM, full_random

IDENTITY_POSE = RelativePose(0.0, 0.0, 0.0)
SOURCE_SEED_OFFSET = 2**32
"""The source branch of mutual self-attention has noise of its own, the same for all targets of a
frame."""


class Synthesizer:
    """Zero-to-Hero sampling over the components of a Zero-1-to-3 model.

    Not thread-safe: one request at a time per instance.

    Parameters
    ----------
    components : Zero123Components
    source_memory_mb : int
        As the setting of the model of that name.
    """

    def __init__(
        self,
        components: Zero123Components,
        *,
        source_memory_mb: int = ModelSettings.source_memory_mb,
    ) -> None:
        self.components = components
        self._sources = SourcePool(source_memory_mb * 10**6)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = 'embedded',
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        kind: str | None = None,
        source_memory_mb: int = ModelSettings.source_memory_mb,
        compiled: bool = ModelSettings.compile,
    ) -> Synthesizer:
        """Load a model.

        Parameters
        ----------
        source : str or Path
            What :func:`nvs_ros.zero123.components.load_components` takes; or ``'full-random'``,
            a model of the real size with random weights.
        device : optional
            CUDA where there is one, else the CPU.
        dtype : optional
            float16 on CUDA, else float32.
        kind : str, optional
            One of :data:`nvs_ros.zero123.layout.KINDS`; from the files or their name when omitted.
        source_memory_mb : int
            See :class:`Synthesizer`.
        compiled : bool
            As the setting ``model.compile``.

        Raises
        ------
        UserError
            There is no such device, or the model cannot be used.
        """
        follow_cores(begins=True)  # loading computes, too
        device = _usable(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        dtype = dtype or (torch.float16 if device.type == 'cuda' else torch.float32)
        if source == FULL_RANDOM:
            components = full_random(device=device, dtype=dtype)
        else:
            components = load_components(source, device=device, dtype=dtype, kind=kind)
        accelerate(components, compiled=compiled)
        return cls(components, source_memory_mb=source_memory_mb)

    def preset(self, name: str = DEFAULT_PRESET, **overrides: object) -> SamplerSettings:
        """A preset as this model wants it, with some fields replaced.

        Raises
        ------
        ValueError
            Unknown preset, unknown field or wrong value.
        """
        return preset(name, self.components.profile.sampler, **overrides)

    def photograph(
        self, image: np.ndarray, mask: np.ndarray, *, elevation_rad: float = 0.0
    ) -> CanonicalView:
        """Show the model a photograph without calibration; see :func:`photograph_view`."""
        return photograph_view(
            image,
            mask,
            image_size=self.components.image_size,
            elevation_rad=elevation_rad,
            fill=self.components.profile.photograph_fill,
            trained=self.components.profile.trained,
        )

    def canonical(self, frame: Frame) -> CanonicalView:
        """Re-project a frame into the camera that the model knows; see :func:`canonical_view`."""
        return canonical_view(
            frame.image,
            frame.mask,
            frame.camera,
            frame.object_from_camera,
            object_size_m=frame.object_size_m,
            depth_m=frame.depth_m,
            image_size=self.components.image_size,
            trained=self.components.profile.trained,
        )

    def warm_up(self, settings: SamplerSettings | None = None, *, views: int = 1) -> None:
        """Make views of nothing, so that the first request finds everything chosen and compiled.

        On the CPU without compilation there is nothing to do, and nothing is done.

        Parameters
        ----------
        settings : SamplerSettings, optional
            :meth:`preset` when omitted. Cut to a few timesteps.
        views : int
            As many as will be asked for at once.
        """
        if not is_slow_at_first(self.components):
            return
        quick = shortened(settings or self.preset())
        size = self.components.image_size
        blank = np.full((size, size, 3), 255, np.uint8)
        source = self.photograph(blank, np.full((size, size), 255, np.uint8))
        targets = [target_from_angles(source, 0.0, 0.0)] * views
        observation = self.observe(source)
        for _ in range(2):  # with the source branch, and with what was remembered of it
            self.synthesize(observation, targets, quick)

    def observe(
        self,
        frames: Frame | CanonicalView | Sequence[Frame | CanonicalView],
        measurement: Measurement | None = None,
    ) -> Observation:
        """Encode a frame, or several of one object, once for all views of it.

        Parameters
        ----------
        frames : Frame or CanonicalView, or a sequence of them
            Calibrated frames, or what :meth:`canonical` or :meth:`photograph` made. Several are in
            one object frame, and the object has the size that the first one says. Viewpoints are
            counted from the first; the network is shown the one nearest to each target.
        measurement : Measurement, optional
            What is known of the object's shape; that of all frames when omitted. Of a
            ``CanonicalView`` that is its silhouette.

        Raises
        ------
        ValueError
            No frame, or one that cannot be used; the message says why.
        """
        frames = list(frames) if isinstance(frames, Sequence) else [frames]
        if not frames:
            raise ValueError('frames: expected one or more, got none')
        views: list[CanonicalView] = []
        for frame in frames:
            if isinstance(frame, Frame):
                if views:
                    frame = dataclasses.replace(frame, object_size_m=views[0].unit_m)
                frame = self.canonical(frame)
            views.append(frame)
        encoded = encode_images(
            self.components, network_images(np.stack([view.image for view in views]))
        )
        rows = zip(encoded.embedding.split(1), encoded.latent.split(1), strict=True)
        sources = [
            Source(view, ImageCondition(*row)) for view, row in zip(views, rows, strict=True)
        ]
        return Observation(
            sources[0].view,
            sources[0].condition,
            measurement or measurement_of(frames, views[0].unit_m),
            tuple(sources[1:]),
        )

    def synthesize(
        self,
        observation: Observation,
        targets: Sequence[TargetCamera],
        settings: SamplerSettings | None = None,
        *,
        seed: int | Sequence[int] = 0,
        keep: bool = ViewSettings.keep_measured,
        callback: Callable[[dict], None] | None = None,
        remember: bool = True,
    ) -> list[View]:
        """Synthesise the object as the target cameras would see it.

        A view depends on the frames, its camera, the settings and its seed, not on what else is in
        the batch. All targets that are nearest to one of the frames are one batch, with mutual
        self-attention one for each seed; a batch that does not fit memory is halved.

        Parameters
        ----------
        observation : Observation
        targets : sequence of TargetCamera
        settings : SamplerSettings, optional
            :meth:`preset` when omitted.
        seed : int or sequence of int
            0 to 2**63 - 1, of all targets or of each. Same seed, same view, on the same device.
        keep : bool
            What was measured and the target sees stays in the view as it was measured, and what
            was seen empty stays empty.
        callback : callable, optional
            See :func:`nvs_ros.hero.sampler.sample`, counted over all batches; may raise to cancel.
        remember : bool
            Keep what was computed of the source branch for further views, in place of what is
            remembered of another frame; False for a frame that will not be asked for again.

        Raises
        ------
        ValueError
            A seed is another, or there are not as many as targets.
        MemoryError
            Not even one view fits memory.
        """
        settings = settings or self.preset()
        seeds = _seeds(seed, len(targets))
        nearest = [observation.nearest(target) for target in targets]
        told = [  # the cameras as the network is told of them
            target.relative_to(observation.sources[i].view) if i else target
            for i, target in zip(nearest, targets, strict=True)
        ]

        def make(batch, report):
            chosen = [told[i] for i in batch], settings, [seeds[i] for i in batch]
            return self._sample(observation, nearest[batch[0]], *chosen, report, remember)

        # Each seed has a source branch of its own.
        groups = list(
            zip(nearest, seeds if settings.mutual_self_attention else nearest, strict=True)
        )
        batches = [[i for i, g in enumerate(groups) if g == one] for one in dict.fromkeys(groups)]
        images = in_batches(batches, make, _following(callback))
        views = []
        for i, canonical in enumerate(images):
            target, outline = told[i], silhouette(canonical)
            known = observation.measurement
            if keep:
                canonical, outline = clear_empty(canonical, outline, known, target)
            image, mask = target.warp_back(canonical, outline)
            measured = np.zeros_like(mask)
            if keep:
                image, mask, measured = keep_measured(image, mask, known.surface, target)
            views.append(
                View(
                    image=image,
                    mask=mask,
                    measured=measured,
                    camera=target.camera,
                    object_from_camera=target.object_from_camera,
                    relative=targets[i].relative,
                    seed=seeds[i],
                    model_id=self.components.model_id,
                    warnings=target.warnings + target.picture_warnings(outline),
                )
            )
        return views

    def _sample(
        self, observation, shown, targets, settings, seeds, callback, remember
    ) -> np.ndarray:
        """Canonical pictures (n, S, S, 3) uint8 of targets that are shown one of the frames, and
        share its source branch."""
        components, source = self.components, observation.sources[shown]
        tokens = self._tokens(source, [IDENTITY_POSE, *(t.relative for t in targets)])
        cond_latents, source_cond_latent = self.conditions(observation, targets, shown)
        further = []
        if settings.stochastic_conditioning:
            for i, other in enumerate(observation.sources):
                if i != shown:
                    poses = [target.relative_to(other.view).relative for target in targets]
                    rows = self.conditions(observation, targets, i)[0]
                    further.append((self._tokens(other, poses), rows))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        shape = source.condition.latent.shape
        noise = torch.cat([torch.randn(shape, generator=g) for g in generators])
        memory = None
        if remember and settings.mutual_self_attention:  # else there is no source branch
            memory = self._sources.memory(observation.condition, shown, settings, seeds[0])
        latents = sample(
            components.unet,
            components.scheduler,
            tokens=tokens[1:],
            cond_latents=cond_latents,
            noise=noise.to(components.device),  # float32: the latents keep its precision
            settings=settings,
            generator=generators,
            source_token=tokens[:1],
            source_cond_latent=source_cond_latent,
            source_memory=memory,
            source_generator=torch.Generator().manual_seed(seeds[0] + SOURCE_SEED_OFFSET),
            further_conditions=further,
            callback=callback,
        )
        return rgb_images(decode_latents(components, latents))

    def _tokens(self, source: Source, poses: Sequence[RelativePose]) -> torch.Tensor:
        """The token (n, 1, d) of each pose relative to a source."""
        return pose_tokens(
            self.components,
            source.condition.embedding,
            np.stack([pose.vector() for pose in poses]),
            source_polar_rad=np.pi / 2 - source.view.spherical.elevation_rad,
        )

    def conditions(
        self, observation: Observation, targets: Sequence[TargetCamera], shown: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network takes beside the noisy latent: of each target, and of the source branch.

        Parameters
        ----------
        observation : Observation
        targets : sequence of n TargetCamera
        shown : int
            Place of the frame that the network is shown.

        Returns
        -------
        cond_latents : torch.Tensor
            (n, k, h, w): the conditioning latent, and the guide where the model has one.
        source_cond_latent : torch.Tensor
            (1, k, h, w), with a guide of zeros.
        """
        components, latent = self.components, observation.sources[shown].condition.latent
        rows = latent.expand(len(targets), *latent.shape[1:])
        if not components.guide_inputs:
            return rows, latent
        guides = [
            guide(observation.measurement, t.canonical_camera, t.object_from_canonical)
            for t in targets
        ]
        folded = guide_latents(np.stack(guides), components.latent_factor).to(latent)
        none = latent.new_zeros(1, *folded.shape[1:])
        return torch.cat([rows, folded], 1), torch.cat([latent, none], 1)


def _following(callback: Callable[[dict], None] | None) -> Callable[[dict], None]:
    """A callback that has a look at the cores as well, which are looked at now, too."""
    follow_cores(begins=True)

    def follow(progress: dict) -> None:
        follow_cores()
        if callback is not None:
            callback(progress)

    return follow


def _seeds(seed: int | Sequence[int], targets: int) -> list[int]:
    """A seed for each target."""
    seeds = list(seed) if isinstance(seed, Sequence) else [seed]
    for wrong in [one for one in seeds if not 0 <= one < SEEDS]:
        raise ValueError(f'seed: expected 0 to {SEEDS - 1}, got {wrong}')
    if not isinstance(seed, Sequence):
        seeds *= targets
    if len(seeds) != targets:
        raise ValueError(f'seed: expected one for each of {targets} targets, got {len(seeds)}')
    return seeds


def _usable(name: str | torch.device) -> torch.device:
    """The device, after a number has been there and back."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, RuntimeError) as error:  # a build without CUDA asserts
        reason = str(error).splitlines()[0]
        raise UserError(f'device: expected one that can be used, got {name}: {reason}') from error
    return device
