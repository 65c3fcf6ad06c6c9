"""All settings of the node, built from the values of its parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

from nvs_ros import settings
from nvs_ros.hero.presets import preset
from nvs_ros.settings import text as settings_text


@dataclasses.dataclass(frozen=True)
class Configuration:
    """All settings of the node, checked together."""

    node: settings.NodeSettings
    input: settings.InputSettings
    sync: settings.SyncSettings
    object: settings.ObjectSettings
    model: settings.ModelSettings
    views: settings.ViewSettings
    memory: settings.MemorySettings
    requests: settings.RequestSettings
    limits: settings.LimitSettings
    completion: settings.CompletionSettings
    sampler_overrides: dict[str, Any]
    """Sampler fields that are set by parameters; they override any preset."""

    def sampler(self, preset_name: str = '') -> settings.SamplerSettings:
        """Sampler settings of a preset (the configured one if empty), with the overrides.

        Raises
        ------
        ValueError
            Unknown preset, or an override that does not fit it.
        """
        return preset(preset_name or self.node.preset, **self.sampler_overrides)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Configuration:
        """Build from parameter values; those that are missing or None keep their default.

        Raises
        ------
        ValueError
            A value has a wrong type or is out of range, values do not fit each other, or a preset
            is unknown; the message names the parameter.
        """
        given = {name: value for name, value in values.items() if value is not None}
        grouped = settings_text.by_group(given)
        overrides = grouped.pop('sampler')
        groups: dict[str, Any] = {
            prefix or 'node': _build(prefix, settings_text.GROUPS[prefix], fields)
            for prefix, fields in grouped.items()
        }
        configuration = cls(**groups, sampler_overrides=overrides)
        if configuration.memory.frames and not configuration.node.still_frame:
            raise ValueError(
                'memory.frames: expected 0 where no frame is known to stand still, got '
                f'{configuration.memory.frames}: set fixed_frame or reference_frame'
            )
        configuration.sampler()  # raises for an unknown preset and for overrides that do not fit
        try:
            preset(configuration.completion.preset)
        except ValueError as error:
            raise ValueError(f'completion.{error}') from None
        return configuration


def _build(prefix: str, group: type[settings.Settings], fields: dict) -> settings.Settings:
    try:
        return group(**fields)
    except ValueError as error:
        raise ValueError(f'{prefix}.{error}' if prefix else str(error)) from None
