"""The public interface of the algorithm: observe a frame once, synthesise any views of it.

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

from nvs_ros.batches import in_batches, seeds_of
from nvs_ros.computer.cores import follow_cores, following
from nvs_ros.computer.device import usable_device
from nvs_ros.geometry.canonical import CanonicalView, canonical_view, photograph_view
from nvs_ros.geometry.guide import Measurement, guide
from nvs_ros.geometry.keep_measured import clear_empty, keep_measured
from nvs_ros.geometry.spherical import RelativePose
from nvs_ros.geometry.target import TargetCamera, target_from_angles
from nvs_ros.hero.filtering import attention_map_filtering
from nvs_ros.hero.presets import preset, shortened
from nvs_ros.hero.sampler import sample
from nvs_ros.hero.source_branch import SourcePool
from nvs_ros.observation import Frame, Observation, Source, measurement_of
from nvs_ros.settings import DEFAULT_PRESET, ModelSettings, SamplerSettings, ViewSettings
from nvs_ros.silhouette import silhouette
from nvs_ros.view import View
from nvs_ros.zero123.acceleration import accelerate, is_slow_at_first
from nvs_ros.zero123.components import Zero123Components, load_components, load_filter
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
"""Added to the seed of a view for the noise of its source branch (mutual self-attention), so that
targets with one seed share a branch whose noise differs from theirs."""


class Synthesizer:
    """Zero-to-Hero sampling over the components of a Zero-1-to-3 model.

    Not thread-safe: one request at a time per instance.

    Parameters
    ----------
    components : Zero123Components
    source_memory_mb : int
        Most memory for remembered source branches, MB (the setting ``model.source_memory_mb``).
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
        learned_filter: Path | None = None,
    ) -> Synthesizer:
        """Load a model.

        Parameters
        ----------
        source : str or Path
            What :func:`nvs_ros.zero123.components.load_components` takes; or ``'full-random'``,
            a model of the real size with random weights.
        device : str or torch.device, optional
            When omitted: CUDA if it is available, else the CPU.
        dtype : torch.dtype, optional
            When omitted: float16 on CUDA, else float32.
        kind : str, optional
            One of :data:`nvs_ros.zero123.layout.KINDS`; from the files or their name when omitted.
        source_memory_mb : int
            See :class:`Synthesizer`.
        compiled : bool
            Compile the blocks of the network (the setting ``model.compile``).
        learned_filter : Path, optional
            Weights of a filter of attention maps, instead of those that came with the model.

        Raises
        ------
        UserError
            The device cannot be used, or the model cannot be loaded.
        """
        follow_cores(begins=True)  # loading also computes
        device = usable_device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        dtype = dtype or (torch.float16 if device.type == 'cuda' else torch.float32)
        if source == FULL_RANDOM:
            components = full_random(device=device, dtype=dtype)
        else:
            components = load_components(source, device=device, dtype=dtype, kind=kind)
        if learned_filter is not None:
            components.learned_filter = load_filter(learned_filter, components.unet)
        accelerate(components, compiled=compiled)
        return cls(components, source_memory_mb=source_memory_mb)

    def preset(self, name: str = DEFAULT_PRESET, **overrides: object) -> SamplerSettings:
        """Settings of a preset with the values tuned for this model, and some fields replaced.

        Raises
        ------
        ValueError
            Unknown preset, unknown field or wrong value, or a learned filter is asked for and the
            model has none.
        """
        settings = preset(name, self.components.profile.sampler, **overrides)
        if settings.learned and self.components.learned_filter is None:
            raise ValueError(
                f'preset {name}: expected a model with a learned filter, '
                f'{self.components.model_id} has none; train-filter makes one'
            )
        return settings

    def photograph(
        self, image: np.ndarray, mask: np.ndarray, *, elevation_rad: float = 0.0
    ) -> CanonicalView:
        """Canonical view of a photograph without calibration; see :func:`photograph_view`."""
        return photograph_view(
            image,
            mask,
            image_size=self.components.image_size,
            elevation_rad=elevation_rad,
            fill=self.components.profile.photograph_fill,
            trained=self.components.profile.trained,
        )

    def canonical(self, frame: Frame) -> CanonicalView:
        """Warp a frame into the camera the model was trained on; see :func:`canonical_view`."""
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
        """Make views of a blank image, so that the first request need not wait for compilation.

        Also lets CUDA choose its kernels. Does nothing on the CPU without compilation.

        Parameters
        ----------
        settings : SamplerSettings, optional
            :meth:`preset` when omitted. Shortened to a few timesteps.
        views : int
            Number of views that one request will ask for.
        """
        if not is_slow_at_first(self.components):
            return
        quick = shortened(settings or self.preset())
        size = self.components.image_size
        blank = np.full((size, size, 3), 255, np.uint8)
        source = self.photograph(blank, np.full((size, size), 255, np.uint8))
        targets = [target_from_angles(source, 0.0, 0.0)] * views
        observation = self.observe(source)
        for _ in range(2):  # first with the source branch, then with the remembered one
            self.synthesize(observation, targets, quick)

    def observe(
        self,
        frames: Frame | CanonicalView | Sequence[Frame | CanonicalView],
        measurement: Measurement | None = None,
    ) -> Observation:
        """Encode one or several frames of one object, once for all its views.

        Parameters
        ----------
        frames : Frame or CanonicalView, or a sequence of them
            Calibrated frames, or results of :meth:`canonical` or :meth:`photograph`. Several
            frames share one object frame and take the object size of the first. Viewpoints are
            relative to the first; for each target the network is shown the nearest frame.
        measurement : Measurement, optional
            What is known of the object's shape; computed from all frames when omitted (a
            ``CanonicalView`` contributes its silhouette).

        Raises
        ------
        ValueError
            There is no frame, or a frame cannot be used.
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

        A view depends on the frames, its camera, the settings and its seed, not on the other
        targets. Targets with the same nearest frame are one batch; with mutual self-attention they
        must share the seed as well. A batch that does not fit into memory is halved.

        Parameters
        ----------
        observation : Observation
        targets : sequence of TargetCamera
        settings : SamplerSettings, optional
            :meth:`preset` when omitted.
        seed : int or sequence of int
            0 to 2**63 - 1, one for all targets or for each. Same seed, same view on a device.
        keep : bool
            Measured surface that the target sees replaces the network's pixels, and what the
            network drew in space that was seen empty is removed.
        callback : callable, optional
            See :func:`nvs_ros.hero.sampler.sample`; evaluations are counted over all batches.
        remember : bool
            Keep the source branch for further views of this frame and forget that of another frame.
            False for a frame of which no further views will be made.

        Raises
        ------
        ValueError
            A seed is outside 0 to 2**63 - 1, or the number of seeds differs from the number of
            targets.
        MemoryError
            Not even one view fits into memory.
        """
        settings = settings or self.preset()
        seeds = seeds_of(seed, len(targets))
        nearest = [observation.nearest(target) for target in targets]
        told = [  # each with its pose relative to the frame that the network is shown
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
        images = in_batches(batches, make, following(callback))
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
        """Canonical images (n, S, S, 3) uint8 of targets that share a frame and source branch."""
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
        policy = components.learned_filter if settings.learned else None
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
            attention=attention_map_filtering(components.unet, settings, policy=policy),
        )
        return rgb_images(decode_latents(components, latents))

    def _tokens(self, source: Source, poses: Sequence[RelativePose]) -> torch.Tensor:
        """Conditioning tokens (n, 1, d) for poses relative to a source."""
        return pose_tokens(
            self.components,
            source.condition.embedding,
            np.stack([pose.vector() for pose in poses]),
            source_polar_rad=np.pi / 2 - source.view.spherical.elevation_rad,
        )

    def conditions(
        self, observation: Observation, targets: Sequence[TargetCamera], shown: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Channels that the network takes beside the noisy latent, for targets and source branch.

        Parameters
        ----------
        observation : Observation
        targets : sequence of n TargetCamera
        shown : int
            Index in ``observation.sources`` of the frame that the network is shown.

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
