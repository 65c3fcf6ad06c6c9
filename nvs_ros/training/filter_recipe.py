"""How a filter of attention maps is learned."""

from __future__ import annotations

from dataclasses import dataclass

from nvs_ros.settings import Settings, setting


@dataclass(frozen=True)
class FilterRecipe(Settings):
    """How a filter is learned."""

    preset: str = setting('learned', 'Preset that samples the views, as for `evaluate`.')
    layers: str = setting('', 'Beginning of the names of the layers to filter; empty: all.')
    set: str = setting('household', 'Objects, as for `evaluate`.')
    objects: int = setting(40, 'Objects to record.', low=2)
    judged: int = setting(
        24, 'Objects of the validation split whose views choose the strength.', low=2
    )
    strengths: tuple[float, ...] = setting(
        (0.0, 0.25, 0.5, 0.75, 1.0),
        'Shares of the way from untouched maps to the fit that are tried.',
        low=0.0,
        high=1.0,
    )
