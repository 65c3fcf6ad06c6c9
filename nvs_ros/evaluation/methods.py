"""The methods that are compared: presets of the sampler, and references."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml

from nvs_ros.errors import UserError
from nvs_ros.evaluation.perturbed_guidance import Perturbation, perturbed_guidance
from nvs_ros.evaluation.sets import Known
from nvs_ros.geometry.guide import Measurement
from nvs_ros.geometry.keep_measured import clear_empty, keep_measured
from nvs_ros.geometry.target import TargetCamera
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.oracle import injected_attention_maps, record_attention_maps
from nvs_ros.hero.sampler import make_scheduler, sample
from nvs_ros.settings import SamplerSettings
from nvs_ros.synthesizer import Observation, Synthesizer, View
from nvs_ros.zero123.conditioning import (
    decode_latents,
    network_images,
    pose_tokens,
    rgb_images,
)

DETERMINISTIC = ('copy_source', 'white', 'codec')
"""References without a network evaluation: a copy of the source image, a white image, and the true
image through the autoencoder, an upper bound for any view of the network."""


@dataclass(frozen=True)
class Method:
    """A way to make views with the network.

    Attributes
    ----------
    name : str
        A preset with its overrides, or a reference.
    settings : SamplerSettings
    kind : str
        ``'sampler'``; ``'one_step'``: the image that the first network evaluation predicts;
        ``'oracle'``: sampling with the attention maps of the true image (section 4.1).
    known : Known
        What is known of the object's shape.
    keep : bool
        Whether measured pixels are kept in the views.
    guide : bool
        Whether the network gets a guide made from the known shape.
    layers : str
        The oracle gives the layers whose names begin with this; empty: all.
    window : (int, int)
        It gives them at timesteps low <= t < high.
    perturbation : Perturbation or None
        Guidance by perturbed attention: PAG or SEG.
    """

    name: str
    settings: SamplerSettings
    kind: str = 'sampler'
    known: Known = Known()
    keep: bool = True
    guide: bool = True
    layers: str = ''
    window: tuple[int, int] = (0, 1000)
    perturbation: Perturbation | None = None

    def described(self) -> dict[str, Any]:
        """Everything that decides the views, in plain types, for the results."""
        content = dataclasses.asdict(self)
        settings = content.pop('settings')
        content['perturbation'] = None if self.perturbation is None else repr(self.perturbation)
        return settings | {name: value for name, value in content.items() if name != 'name'}

    def evaluations(self, synthesizer: Synthesizer) -> int:
        """Number of network evaluations for a view.

        One of one row a view (without guidance) counts as much as one of two; the third row that
        PAG and SEG add to guidance counts as a half.
        """
        if self.kind == 'one_step':
            return 1
        scheduler = make_scheduler(synthesizer.components.scheduler, self.settings)
        number = len(scheduler.timesteps) + (self.kind == 'oracle')
        if self.perturbation is not None:
            return math.ceil(number * self.perturbation.evaluations(self.settings))
        return number


def parse_preset(synthesizer: Synthesizer, text: str) -> Method:
    """Method from a preset with overrides: ``zero-to-hero:alpha_c=0.5:msa_window=700..1000``.

    ``PRESET@KNOWN`` says what is known of the object's shape, see
    :meth:`nvs_ros.evaluation.sets.Known.parse`. More fields are allowed: with ``keep=false``
    measured pixels are not kept in the views, with ``guide=false`` the network gets an empty guide;
    ``pag=SCALE`` or ``seg=SCALE`` guide by perturbed attention, see :class:`Perturbation`.
    ``oracle`` is the hourglass with the attention maps of the true image, in the layers whose names
    begin with ``layers`` and at the timesteps in ``window``.

    Raises
    ------
    UserError
        Unknown preset or field, or a wrong value.
    """
    name, *assignments = text.split(':')
    name, _, known = name.partition('@')
    overrides = {}
    for assignment in assignments:
        field, equals, value = assignment.partition('=')
        if not equals:
            raise UserError(f'preset {text}: expected PRESET:FIELD=VALUE, got {assignment!r}')
        low, dots, high = value.partition('..')
        overrides[field] = yaml.safe_load(f'[{low}, {high}]' if dots else value)
    try:
        uses = {use: overrides.pop(use, True) for use in ('keep', 'guide')}
        for use, value in uses.items():
            if not isinstance(value, bool):
                raise ValueError(f'{use}: expected true or false, got {value!r}')
        where: dict[str, Any] = {}
        if name == 'oracle':
            name, where = 'hourglass', _where(synthesizer, overrides)
        perturbation = Perturbation.taken_from(overrides)
        settings = synthesizer.preset(name, **overrides)
        if perturbation is not None:
            perturbation.check(synthesizer.components.unet, settings)
        return Method(
            text,
            settings,
            known=Known.parse(known),
            perturbation=perturbation,
            **uses,
            **where,
        )
    except ValueError as error:
        raise UserError(f'preset {text}: {error}') from error


def _where(synthesizer: Synthesizer, overrides: dict[str, Any]) -> dict[str, Any]:
    """Fields of an oracle's :class:`Method`; takes ``layers`` and ``window`` out of the overrides.

    Raises
    ------
    ValueError
        No layer begins so, or the window is not two timesteps.
    """
    layers = str(overrides.pop('layers', ''))
    names = list(self_attention_layers(synthesizer.components.unet))
    if not any(name.startswith(layers) for name in names):
        raise ValueError(f'layers: expected the beginning of one of {names}, got {layers!r}')
    window = overrides.pop('window', Method.window)
    if not (isinstance(window, list | tuple) and len(window) == 2):
        raise ValueError(f'window: expected LOW..HIGH, got {window!r}')
    return {'kind': 'oracle', 'layers': layers, 'window': tuple(window)}


def references(synthesizer: Synthesizer) -> list[Method]:
    """The references that need the network.

    ``one_step``: the blurred mean view (without guidance, which would sharpen it);
    ``uniform_equal``: plain sampling with as many evaluations as the full method;
    ``mean_pooling``: the full method with the mean of the maps instead of their minimum;
    ``oracle``: the hourglass with the attention maps of the true image.
    """
    hourglass, full = synthesizer.preset('hourglass'), synthesizer.preset()
    unguided = synthesizer.preset('hourglass', guidance_scale=1.0)
    evaluations = Method('', full).evaluations(synthesizer)
    uniform = synthesizer.preset('zero123', num_inference_steps=evaluations)
    return [
        Method('one_step', unguided, 'one_step'),
        Method('uniform_equal', uniform),
        Method('mean_pooling', synthesizer.preset(pooling='mean')),
        Method('oracle', hourglass, 'oracle'),
    ]


def deterministic_pictures(
    synthesizer: Synthesizer, source: np.ndarray, truths: np.ndarray
) -> dict[str, np.ndarray]:
    """Name in :data:`DETERMINISTIC` -> images (n, S, S, 3) uint8, from a source image (S, S, 3) and
    the true images (n, S, S, 3)."""
    copies = np.broadcast_to(source, truths.shape)
    pictures = (copies, np.full_like(truths, 255), through_codec(synthesizer, truths))
    return dict(zip(DETERMINISTIC, pictures, strict=True))


@torch.inference_mode()
def through_codec(synthesizer: Synthesizer, images: np.ndarray) -> np.ndarray:
    """Images (n, S, S, 3) uint8, encoded and decoded by the autoencoder."""
    components = synthesizer.components
    return rgb_images(decode_latents(components, true_latents(synthesizer, images)))


def pictures_of(
    method: Method,
    synthesizer: Synthesizer,
    observation: Observation,
    targets: Sequence[TargetCamera],
    truths: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Views (n, S, S, 3) uint8 that a method makes from one source.

    Parameters
    ----------
    method : Method
    synthesizer : Synthesizer
    observation : Observation
    targets : sequence of n TargetCamera
    truths : (n, S, S, 3) uint8
        The true images; only the oracle uses them.
    seed : int
        The same for all methods, so that they start from the same noise.
    """
    if method.perturbation is not None:
        plain = dataclasses.replace(method, perturbation=None)
        with perturbed_guidance(synthesizer.components.unet, method.settings, method.perturbation):
            return pictures_of(plain, synthesizer, observation, targets, truths, seed)
    if method.kind == 'one_step':
        return _first_prediction(method, synthesizer, observation, targets, seed)
    if method.kind == 'oracle':
        return _oracle(method, synthesizer, observation, targets, truths, seed)
    if method.guide:
        views = synthesizer.synthesize(
            observation, targets, method.settings, seed=seed, keep=method.keep
        )
        return np.stack([view.image for view in views])
    blind = dataclasses.replace(observation, measurement=Measurement.nothing())
    views = synthesizer.synthesize(blind, targets, method.settings, seed=seed, keep=False)
    known = observation.measurement if method.keep else Measurement.nothing()
    return np.stack([_kept(v, known, target) for v, target in zip(views, targets, strict=True)])


def _kept(view: View, known: Measurement, target: TargetCamera) -> np.ndarray:
    """Image of a view by the canonical camera, measured pixels kept and empty space cleared."""
    image, mask = clear_empty(view.image, view.mask, known, target)
    return keep_measured(image, mask, known.surface, target)[0]


class _Enough(Exception):
    """Ends a sampling run after its first evaluation."""


def _first_prediction(method, synthesizer, observation, targets, seed) -> np.ndarray:
    kept = {}

    def stop(progress: dict) -> None:
        kept.update(progress)
        raise _Enough

    try:
        synthesizer.synthesize(observation, targets, method.settings, seed=seed, callback=stop)
    except _Enough:
        return rgb_images(decode_latents(synthesizer.components, kept['denoised']))
    raise RuntimeError('expected a callback after the first network evaluation, got none')


def _oracle(method, synthesizer, observation, targets, truths, seed) -> np.ndarray:
    components = synthesizer.components
    inputs = sampling_inputs(synthesizer, observation, targets, seed)
    unet, scheduler, settings = components.unet, components.scheduler, method.settings
    maps = record_attention_maps(
        unet,
        scheduler,
        latents=true_latents(synthesizer, truths).float(),
        settings=settings,
        layers=lambda name: name.startswith(method.layers),
        **inputs,
    )
    attention = injected_attention_maps(unet, maps, method.window)
    sampled = sample(unet, scheduler, settings=settings, attention=attention, **inputs)
    return rgb_images(decode_latents(components, sampled))


def sampling_inputs(
    synthesizer: Synthesizer, observation: Observation, targets: Sequence[TargetCamera], seed: int
) -> dict[str, Any]:
    """Tokens, conditioning latents and noise of targets, as :func:`nvs_ros.hero.sampler.sample`
    takes them; the same noise for each, as in the synthesizer when all have one seed."""
    components, condition = synthesizer.components, observation.condition
    noise = torch.randn(condition.latent.shape, generator=torch.Generator().manual_seed(seed))
    return {
        'tokens': pose_tokens(
            components,
            condition.embedding,
            np.stack([target.relative.vector() for target in targets]),
            source_polar_rad=np.pi / 2 - observation.source.spherical.elevation_rad,
        ),
        'cond_latents': synthesizer.conditions(observation, targets)[0],
        'noise': noise.to(components.device).expand(len(targets), *noise.shape[1:]),
    }


@torch.inference_mode()
def true_latents(synthesizer: Synthesizer, images: np.ndarray) -> torch.Tensor:
    """Latents of images, scaled as the network denoises them."""
    components = synthesizer.components
    pixels = network_images(images).to(components.device, components.dtype)
    return components.vae.encode(pixels).latent_dist.mode() * components.vae.config.scaling_factor
