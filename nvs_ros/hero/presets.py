"""The paper's ablation ladder as named settings (Zero-to-Hero, table 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nvs_ros.settings import DEFAULT_PRESET, SamplerSettings

_HOURGLASS = SamplerSettings(resampling_passes=1, filtering=False, mutual_self_attention=False)
_RESAMPLE = SamplerSettings(filtering=False, mutual_self_attention=False)

PRESETS = MappingProxyType(
    {
        'zero123': dataclasses.replace(_HOURGLASS, schedule='uniform'),
        'hourglass': _HOURGLASS,
        'resample': _RESAMPLE,
        'amf': dataclasses.replace(_RESAMPLE, filtering=True),
        'msa': dataclasses.replace(_HOURGLASS, mutual_self_attention=True),
        DEFAULT_PRESET: SamplerSettings(),
        'learned': dataclasses.replace(_HOURGLASS, filtering=True, filter_policy='learned'),
        'fast': dataclasses.replace(_HOURGLASS, early_steps=4, middle_steps=2, late_steps=2),
    }
)
"""Plain DDIM; hourglass; hourglass and resampling; these and filtering; hourglass and mutual
self-attention; all four parts; hourglass and a filter that was learned for the model; an hourglass
of only eight evaluations, for quick views and for the silhouettes of :mod:`nvs_ros.completion`
(docs/performance.md)."""

BEYOND_NVS: Mapping[str, Any] = MappingProxyType(
    {
        'stage_boundaries': (200, 700),
        'early_steps': 15,
        'middle_steps': 5,
        'resampling_window': (700, 1000),
        'in_step_window': (700, 1000),
        'cross_step_window': (700, 1000),
        'alpha_c': 0.3,
    }
)
"""Overrides of ``'amf'`` for other pipelines (section 5.3): a longer window, less history."""


def preset(
    name: str = DEFAULT_PRESET, tuned: Mapping[str, Any] | None = None, **overrides: Any
) -> SamplerSettings:
    """Return the settings of a preset, with some fields replaced.

    Parameters
    ----------
    name : str
        Key of :data:`PRESETS`.
    tuned : mapping, optional
        Fields with the values tuned for a model. They apply only to fields that the preset leaves
        at their defaults, so that a part of the method that it switches off stays off.
    **overrides
        Fields of :class:`~nvs_ros.settings.SamplerSettings`.

    Raises
    ------
    ValueError
        Unknown preset, unknown field or wrong value.
    """
    if name not in PRESETS:
        raise ValueError(f'preset: expected one of {list(PRESETS)}, got {name!r}')
    chosen, defaults = PRESETS[name], SamplerSettings()
    fields = {field.name for field in dataclasses.fields(SamplerSettings)}
    unknown = sorted(set(overrides) - fields)
    if unknown:
        raise ValueError(f'expected fields of SamplerSettings, got {unknown}')
    free = {field for field in fields if getattr(chosen, field) == getattr(defaults, field)}
    tuned = {field: value for field, value in (tuned or {}).items() if field in free}
    return dataclasses.replace(chosen, **{**tuned, **overrides})


def shortened(settings: SamplerSettings) -> SamplerSettings:
    """Return the settings with only a few evaluations, which still pass through every window."""
    return dataclasses.replace(
        settings,
        early_steps=2,
        middle_steps=2,
        late_steps=1,
        num_inference_steps=5,
        resampling_passes=min(2, settings.resampling_passes),
    )
