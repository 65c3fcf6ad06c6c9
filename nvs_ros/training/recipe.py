"""The recipe of a model, as a file says it, and what of it a run may change while it goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml

from nvs_ros.errors import UserError
from nvs_ros.replacing import replacing
from nvs_ros.scenes.dataset import DatasetSettings
from nvs_ros.settings import Settings, setting
from nvs_ros.training.autoencoder import WIDTHS
from nvs_ros.training.diffusion import PATCH_SIZE
from nvs_ros.training.loop import FitSettings, learning_rate_factor

GIVEN_WITH_A_MODEL = ('architecture', 'autoencoder')
"""What a recipe does not say when it starts from a model."""
WITHOUT_MEANING = ('checkpoint_every', 'compile')
"""Fields of a stage that may change at any time: the model stays the same."""


@dataclass(frozen=True)
class ArchitectureSettings(Settings):
    """Sizes of the networks."""

    latent_factor: int = setting(
        4, 'Side of a picture over side of its latent.', choices=tuple(WIDTHS)
    )
    widths: tuple[int, ...] = setting(
        (64, 128, 192), 'Channels of the UNet at each resolution.', low=8
    )

    def check(self) -> None:
        if not self.widths or any(width % 8 for width in self.widths):
            raise ValueError(f'widths: expected multiples of 8, got {self.widths}')


@dataclass(frozen=True)
class Recipe:
    """Settings of everything that :func:`nvs_ros.training.run.train` does.

    Attributes
    ----------
    dataset : DatasetSettings
    architecture : ArchitectureSettings
    autoencoder, diffusion : FitSettings
    initialize_from : str, optional
        A model to start from, named as for :func:`nvs_ros.zero123.components.load_components`:
        its autoencoder is kept, the rest is trained on.
    """

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    architecture: ArchitectureSettings = field(default_factory=ArchitectureSettings)
    autoencoder: FitSettings = field(default_factory=FitSettings)
    diffusion: FitSettings = field(default_factory=FitSettings)
    initialize_from: str | None = None

    def __post_init__(self) -> None:
        size, shape = self.dataset.size, self.architecture
        multiple = max(PATCH_SIZE, shape.latent_factor * 2 ** (len(shape.widths) - 1))
        if size % multiple:
            raise ValueError(f'size: expected a multiple of {multiple}, got {size}')

    @classmethod
    def from_yaml(cls, file: Path) -> Recipe:
        """Read ``{dataset: {...}, architecture: {...}, autoencoder: {...}, diffusion: {...}}`` or
        ``{initialize_from: MODEL, dataset: {...}, diffusion: {...}}``; what is left out keeps its
        default."""
        try:
            return cls.from_dict(yaml.safe_load(Path(file).read_text()) or {})
        except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
            raise UserError(f'{file}: {error}') from None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Recipe:
        """The inverse of :meth:`as_dict`."""
        stages = {
            'dataset': DatasetSettings,
            'architecture': ArchitectureSettings,
            'autoencoder': FitSettings,
            'diffusion': FitSettings,
        }
        given = isinstance(content, dict) and content.get('initialize_from') is not None
        for name in GIVEN_WITH_A_MODEL if given else ():
            del stages[name]
        _check_keys(content, [*stages, 'initialize_from'])
        groups = {name: content[name] or {} for name in stages if name in content}
        for name, values in groups.items():
            _check_keys(values, [each.name for each in fields(stages[name])])
        return cls(
            **{name: stages[name](**values) for name, values in groups.items()},
            initialize_from=str(content['initialize_from']) if given else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """What has something to say, in plain types."""
        unused = GIVEN_WITH_A_MODEL if self.initialize_from is not None else ('initialize_from',)
        content = _plain(dataclasses.asdict(self))
        return {name: value for name, value in content.items() if name not in unused}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _check_keys(content: Any, names: Collection[str]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f'expected a mapping with some of {", ".join(names)}, got {content!r}')
    if unknown := [key for key in content if key not in names]:
        raise ValueError(f'expected some of {", ".join(names)}, got {unknown[0]!r}')


def keep_recipe(recipe: Recipe, run: Path) -> None:
    """Write the recipe of a new run as ``recipe.yaml``; check it for one that goes on.

    ``checkpoint_every`` and ``compile`` may change, and so may the number of steps of the last
    stage while that changes the learning rate of no step that was done: before the decay. A folder
    with a state but without ``recipe.yaml`` takes the recipe that it is given.

    Raises
    ------
    UserError
        The folder belongs to another recipe; the message names the first difference.
    """
    run.mkdir(parents=True, exist_ok=True)
    file = run / 'recipe.yaml'
    if file.exists():
        kept = Recipe.from_yaml(file)
        differences = _differences(kept.as_dict(), recipe.as_dict())
        done = _steps_done(run / 'diffusion.pt')
        for name, (before, now) in differences.items():
            if name.rpartition('.')[2] in WITHOUT_MEANING:
                continue
            if name == 'diffusion.steps' and _same_rates(kept.diffusion, recipe.diffusion, done):
                continue
            reason = f' after {done} steps' if name == 'diffusion.steps' else ''
            raise UserError(
                f'{run}: expected {name} {before!r} as in its recipe.yaml{reason}, got {now!r}; '
                'another recipe needs another folder'
            )
    with replacing(file) as partial:
        partial.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False))


def _differences(before: Mapping, now: Mapping, prefix: str = '') -> dict[str, tuple[Any, Any]]:
    """Dotted name -> both values, where they differ."""
    found = {}
    for name in dict.fromkeys([*before, *now]):
        a, b = before.get(name), now.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= _differences(a, b, f'{prefix}{name}.')
        elif a != b:
            found[prefix + name] = a, b
    return found


def _steps_done(state: Path) -> int:
    if not state.exists():
        return 0
    return torch.load(state, map_location='cpu', mmap=True, weights_only=True)['step']


def _same_rates(before: FitSettings, now: FitSettings, done: int) -> bool:
    """Whether the steps done would have had the same learning rate: the decay only falls, so the
    last of them tells."""
    last = max(done - 1, 0)
    return done <= now.steps and learning_rate_factor(before, last) == learning_rate_factor(
        now, last
    )
