"""Learning a filter of attention maps for a model: record, fit, choose how far to follow it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nvs_ros.errors import UserError
from nvs_ros.evaluation.methods import parse_preset
from nvs_ros.evaluation.protocol import Evaluation, ProtocolSettings, measure_object
from nvs_ros.evaluation.sets import ObjectSet, open_set
from nvs_ros.hashes import sha256_of
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.replacing import replacing
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.training.filter_card import CARD, filter_card
from nvs_ros.training.filter_fit import StageFit, fit_stage
from nvs_ros.training.filter_recipe import FilterRecipe
from nvs_ros.training.filter_recordings import read_recordings, record, write_recordings
from nvs_ros.zero123.components import find_model

VIEWS = 3
"""Views of each object, the first of which is the source."""


def learn_filter(model: str, recipe: FilterRecipe, folder: Path) -> LearnedPolicy:
    """Learn a filter; the same call goes on where one was stopped.

    Parameters
    ----------
    model : str
        As for :func:`nvs_ros.zero123.components.load_components`.
    recipe : FilterRecipe
    folder : Path
        Gets ``recordings/``, ``fit.json`` (divergence from the true attention by layer and stage,
        and quality of views by strength), ``filter.safetensors`` and its card, ``README.md``.

    Returns
    -------
    LearnedPolicy
        Also written.

    Raises
    ------
    UserError
        The folder belongs to another recipe or model, or the recipe does not fit the model.
    """
    synthesizer = Synthesizer.from_pretrained(model, device='cpu')
    weights = sha256_of(find_model(model).weight_paths)
    _keep_recipe({'model_sha256': weights, **dataclasses.asdict(recipe)}, folder)
    unet = synthesizer.components.unet
    names = [n for n in self_attention_layers(unet) if n.startswith(recipe.layers)]
    if not names:
        raise UserError(
            f'layers: expected the beginning of one of {list(self_attention_layers(unet))}, '
            f'got {recipe.layers!r}'
        )
    neutral = LearnedPolicy.neutral(unet, names.__contains__)
    fits = _fits(_recorded(synthesizer, recipe, neutral, folder), names)
    fitted = {name: weights.clone() for name, weights in neutral.weights.items()}
    for (name, stage), fit in fits.items():
        fitted[name][stage] = fit.weights
    judged = {
        strength: _judge(synthesizer, recipe, _between(neutral, fitted, strength))
        for strength in tqdm(recipe.strengths, 'strengths')
    }
    strength = max(judged, key=lambda s: judged[s]['psnr'])
    policy = dataclasses.replace(_between(neutral, fitted, strength), trained_on=weights)
    with replacing(folder / 'filter.safetensors') as partial:
        policy.save(partial)
    report = {
        'strength': strength,
        'views': [{'strength': s, **quality} for s, quality in judged.items()],
        'divergence': [
            {'layer': layer, 'stage': stage, **_figures(fit)}
            for (layer, stage), fit in fits.items()
        ],
    }
    (folder / 'fit.json').write_text(json.dumps(report, indent=2) + '\n')
    number = sum(each.numel() for each in policy.weights.values())
    (folder / CARD).write_text(filter_card(recipe, weights, number, report))
    return policy


def _keep_recipe(content: dict[str, Any], folder: Path) -> None:
    content = json.loads(json.dumps(content))
    file = folder / 'recipe.json'
    if file.exists():
        before = json.loads(file.read_text())
        for name, value in content.items():
            if before.get(name) != value:
                raise UserError(
                    f'{folder}: expected {name} {before.get(name)!r} as in its recipe.json, '
                    f'got {value!r}; another recipe needs another folder'
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial:
        partial.write_text(json.dumps(content, indent=2) + '\n')


def _recorded(
    synthesizer: Synthesizer, recipe: FilterRecipe, policy: LearnedPolicy, folder: Path
) -> list[Path]:
    """Files of recordings, made where they are missing."""
    components = synthesizer.components
    components.learned_filter = policy
    settings = parse_preset(synthesizer, recipe.preset).settings
    if not settings.learned or settings.mutual_self_attention:
        raise UserError(
            'preset: expected one with a learned filter and without mutual self-attention, '
            f'got {recipe.preset!r}'
        )
    objects = _objects(synthesizer, recipe, 'filter')
    (folder / 'recordings').mkdir(exist_ok=True)
    files = []
    for index in tqdm(range(recipe.objects), 'record'):
        files.append(folder / 'recordings' / f'object_{index:05d}.safetensors')
        if not files[-1].exists():
            write_recordings(record(synthesizer, objects, index, settings, policy), files[-1])
    return files


def _objects(synthesizer: Synthesizer, recipe: FilterRecipe, split: str) -> ObjectSet:
    size = synthesizer.components.image_size
    return open_set(recipe.set, split=split, views=VIEWS, size=size)


def _fits(files: list[Path], names: list[str]) -> dict[tuple[str, int], StageFit]:
    return {
        (name, stage): fit_stage(*pair)
        for name in tqdm(names, 'fit')
        for stage, pair in read_recordings(files, name).items()
    }


def _between(neutral: LearnedPolicy, fitted: dict[str, Any], strength: float) -> LearnedPolicy:
    weights = {name: start.lerp(fitted[name], strength) for name, start in neutral.weights.items()}
    return LearnedPolicy(weights)


def _judge(
    synthesizer: Synthesizer, recipe: FilterRecipe, policy: LearnedPolicy
) -> dict[str, float]:
    """Mean PSNR (dB), PSNR over the object and IoU of views of the validation split."""
    synthesizer.components.learned_filter = policy
    method = parse_preset(synthesizer, recipe.preset)
    evaluation = Evaluation(
        synthesizer,
        _objects(synthesizer, recipe, 'validation'),
        [method],
        ProtocolSettings(objects=recipe.judged, views=VIEWS, sources=1, seeds=1),
    )
    records = [
        each
        for index in range(recipe.judged)
        for each in measure_object(evaluation, index)[0]['records']
        if each['method'] == method.name
    ]
    return {
        name: float(np.mean([each[name] for each in records]))
        for name in ('psnr', 'fg_psnr', 'iou')
    }


def _figures(fit: StageFit) -> dict[str, Any]:
    return {
        'untouched': fit.untouched,
        'temperature': fit.temperature,
        'learned': fit.learned,
        'weights': fit.weights.tolist(),
    }
