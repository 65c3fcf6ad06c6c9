"""What a model was trained on, and how it wants to be sampled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nvs_ros.errors import UserError
from nvs_ros.geometry.canonical import TrainedRange
from nvs_ros.geometry.guide import GUIDE_CHANNELS
from nvs_ros.settings import SamplerSettings
from nvs_ros.zero123.layout import STABLE_ZERO123, ZERO123, ZERO123_XL


@dataclass(frozen=True)
class ModelProfile:
    """Facts about a model that its networks do not tell.

    Attributes
    ----------
    radius : tuple of float
        Distances of the training cameras, in longest sides of the object.
    elevation_deg : tuple of float
        Elevations of the training cameras; for the original models 5 % to 95 % of them.
    photograph_fill : float
        Longer side of the object over the side of the picture, for photographs without calibration.
    guide_channels : int
        Of the guide at the size of the picture (:mod:`nvs_ros.geometry.guide`); 0: the network
        takes none.
    sampler : mapping
        Fields of :class:`nvs_ros.settings.SamplerSettings` that differ from the paper's defaults.
    confidence : mapping
        How evidence about a view becomes its confidence, as
        :class:`nvs_ros.completion.confidence.Calibration` reads it; empty: not calibrated.
    """

    radius: tuple[float, float] = (1.5, 2.2)
    elevation_deg: tuple[float, float] = (-58.0, 58.0)
    photograph_fill: float = 200 / 256
    guide_channels: int = 0
    sampler: Mapping[str, object] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ('radius', 'elevation_deg'):
            if not (isinstance(getattr(self, name), tuple) and len(getattr(self, name)) == 2):
                raise ValueError(f'{name}: expected two numbers, got {getattr(self, name)!r}')
        if not 0 < self.photograph_fill <= 1:
            raise ValueError(
                f'photograph_fill: expected more than 0 and at most 1, got {self.photograph_fill}'
            )
        if self.guide_channels not in (0, GUIDE_CHANNELS):
            raise ValueError(
                f'guide_channels: expected 0 or {GUIDE_CHANNELS}, got {self.guide_channels!r}'
            )
        _ = self.trained, SamplerSettings(**self.sampler)  # both check their values

    @property
    def trained(self) -> TrainedRange:
        """For the geometry: beyond it views come with a warning."""
        low, high = map(math.radians, self.elevation_deg)
        return TrainedRange(self.radius, (low, high))


_FIRST = ModelProfile(sampler={'msa_window': (700, 1000)})
PROFILES = {ZERO123: _FIRST, STABLE_ZERO123: _FIRST, ZERO123_XL: ModelProfile()}
"""By kind. Zero-to-Hero, section 4.4: mutual self-attention from 600 for XL, from 700 for the first
checkpoint; Stable-Zero123 was not evaluated and takes the latter."""


def read_profile(kind: str, values: Mapping[str, object], model_id: str) -> ModelProfile:
    """The profile of a kind, with what ``profile`` in ``model_index.json`` says differently.

    Raises
    ------
    UserError
        A field that does not exist, or a value that cannot be.
    """
    names = {f.name for f in dataclasses.fields(ModelProfile)}
    if unknown := set(values) - names:
        raise UserError(
            f'{model_id}: expected a profile with {sorted(names)}, found {sorted(unknown)}'
        )
    try:
        return dataclasses.replace(PROFILES[kind], **_tuples(values))
    except (TypeError, ValueError) as error:
        raise UserError(f'{model_id}: expected a usable profile, found {error}') from error


def _tuples(values: Mapping[str, object]) -> dict[str, object]:
    """Lists, which JSON has for tuples, as tuples; at every depth."""
    made = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            value = _tuples(value)
        made[key] = tuple(value) if isinstance(value, list) else value
    return made
