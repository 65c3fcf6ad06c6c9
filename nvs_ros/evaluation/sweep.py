"""Sweep over the constants of the method, changing one at a time."""

from __future__ import annotations

from nvs_ros.evaluation.methods import Method, parse_preset
from nvs_ros.settings import DEFAULT_PRESET
from nvs_ros.synthesizer import Synthesizer

CONSTANTS: dict[str, tuple[str, ...]] = {
    'alpha_c': ('0.05', '0.5', '0.8'),
    'alpha_h': ('0.25', '0.75', '1.0'),
    'pooling': ('mean', 'ema'),
    'resampling_passes': ('1', '3', '8'),
    'resampling_window': ('600..1000', '900..1000'),
    'in_step_window': ('900..1000',),
    'cross_step_window': ('0..1000', '800..1000'),
    'msa_window': ('0..1000', '400..1000', '600..1000', '800..1000', '900..1000'),
    'guidance_scale': ('1.0', '1.5', '2.0', '4.0'),
    'eta': ('1.0',),
}
"""Field of :class:`nvs_ros.settings.SamplerSettings` -> values to try besides the model's own."""


def sweep_methods(synthesizer: Synthesizer) -> list[Method]:
    """The model's default preset, then the preset with each value of :data:`CONSTANTS` that differs
    from it."""
    own = parse_preset(synthesizer, DEFAULT_PRESET)
    changed = (
        parse_preset(synthesizer, f'{DEFAULT_PRESET}:{field}={value}')
        for field, values in CONSTANTS.items()
        for value in values
    )
    return [own, *(method for method in changed if method.settings != own.settings)]
