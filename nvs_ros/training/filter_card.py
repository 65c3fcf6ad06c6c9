"""The card of a learned filter: what it was learned on, what it gains and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nvs_ros.hero.learned_filter import STAGES
from nvs_ros.training.filter_recipe import FilterRecipe

CARD = 'README.md'
"""Name of the card, beside the filter."""

_TEMPLATE = """\
# Filter card: a learned filter of attention maps

{weights} weights for the self-attention maps of one network: four for each head of each layer, in
each stage of a run. Nothing of the network is in it, and it is of no use without the network.

| | |
|---|---|
| base weights, SHA-256 of the model | `{model}` |
| layers | {layers} |
| learned on | {objects} objects of the set `{set}`, split `filter` |
| sampled with | preset `{preset}` |
| strength | {strength:g} of the way from untouched maps to the fit |
| views judged on | {judged} objects of the validation split |

**Fit.** Mean divergence of the attention from that of the true picture, nats, on the last quarter
of the recordings:

{divergence}

**Views** of the validation split by strength. The one with the best PSNR was taken; where several
were tried, its row is a little too good:

{views}

{verdict}

**What it cannot do.** It knows no more of the far side of an object than the network does: it
weighs maps that the network made. It says nothing of other networks, also not of later weights of
the same one, until it is measured with them. It was judged on renderings of the set above, not on
photographs. A smaller divergence need not mean better views: compare them on the test split with
`evaluate --filter filter.safetensors --presets hourglass,learned`.

**Licence.** The numbers were computed with the base model: its licence applies to them. The
embedded model and this package are Apache-2.0.
"""


def filter_card(
    recipe: FilterRecipe, model_sha256: str, weights: int, report: Mapping[str, Any]
) -> str:
    """Write the card as Markdown.

    Parameters
    ----------
    recipe : FilterRecipe
    model_sha256 : str
        Of the base weights.
    weights : int
        How many numbers the filter has.
    report : mapping
        Content of ``fit.json``: ``strength``, ``views`` and ``divergence``.
    """
    return _TEMPLATE.format(
        weights=weights,
        model=model_sha256,
        layers=', '.join(f'`{name}`' for name in _layers(report)),
        objects=recipe.objects,
        set=recipe.set,
        preset=recipe.preset,
        judged=recipe.judged,
        strength=report['strength'],
        divergence=_divergence_table(report['divergence']),
        views=_views_table(report['views']),
        verdict=_verdict(report),
    )


def _layers(report: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(each['layer'] for each in report['divergence']))


def _divergence_table(fits: list[dict[str, Any]]) -> str:
    """Means over layers, one row for each stage of the run."""
    rows = [
        '| timesteps, pass | maps as they are | best temperature | all weights |',
        '|---|---|---|---|',
    ]
    for stage in sorted({each['stage'] for each in fits}, reverse=True):
        here = [each for each in fits if each['stage'] == stage]
        means = (
            np.mean([each[kind] for each in here])
            for kind in ('untouched', 'temperature', 'learned')
        )
        name = f'from {STAGES[stage // 2]}, {"further" if stage % 2 else "first"}'
        rows.append(f'| {name} | ' + ' | '.join(f'{mean:.3f}' for mean in means) + ' |')
    return '\n'.join(rows)


def _views_table(views: list[dict[str, float]]) -> str:
    rows = ['| strength | PSNR | fg PSNR | IoU |', '|---|---|---|---|']
    rows += [
        f'| {each["strength"]:g} | {each["psnr"]:.2f} | {each["fg_psnr"]:.2f} | {each["iou"]:.3f} |'
        for each in views
    ]
    return '\n'.join(rows)


def _verdict(report: Mapping[str, Any]) -> str:
    """One sentence: whether filtered views were better than untouched ones."""
    untouched = [each for each in report['views'] if each['strength'] == 0]
    if report['strength'] == 0:
        return 'No strength was better than untouched maps: **this filter changes nothing.**'
    if not untouched:
        return 'Untouched maps (strength 0) were not among them: **its gain is not known.**'
    best = max(each['psnr'] for each in report['views'])
    return f'It gains {best - untouched[0]["psnr"]:.2f} dB of PSNR over untouched maps there.'
