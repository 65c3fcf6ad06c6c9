"""The settings of the sampler."""

from __future__ import annotations

import dataclasses

from nvs_ros.settings.declaration import Settings, setting


@dataclasses.dataclass(frozen=True)
class SamplerSettings(Settings):
    """The sampler: DDIM with the four parts of Zero-to-Hero, each of which can be off on its own.

    Boundaries and windows are training timesteps, 0 to 1000 with noise at 1000. A window is
    half-open, ``low <= t < high``; equal ends make it empty. Sections are those of Sobol, Xu,
    Litany, *Zero-to-Hero*, NeurIPS 2024.
    """

    schedule: str = setting(
        'hourglass',
        'Timesteps: dense at both ends (section 4.5), or evenly spaced.',
        choices=('hourglass', 'uniform'),
        runtime=True,
    )
    num_inference_steps: int = setting(
        25, 'Number of timesteps of the uniform schedule.', low=1, high=1000, runtime=True
    )
    early_steps: int = setting(
        10, 'Hourglass timesteps above the upper stage boundary.', low=1, high=999, runtime=True
    )
    middle_steps: int = setting(
        6, 'Hourglass timesteps between the stage boundaries.', low=1, high=999, runtime=True
    )
    late_steps: int = setting(
        10, 'Hourglass timesteps below the lower stage boundary.', low=1, high=999, runtime=True
    )
    stage_boundaries: tuple[int, int] = setting(
        (200, 800),
        'Where the late stage ends and the early stage begins.',
        low=1,
        high=999,
        runtime=True,
    )
    resampling_passes: int = setting(
        5,
        'Network evaluations per timestep inside the resampling window (R); 1 is off.',
        low=1,
        high=100,
        runtime=True,
    )
    resampling_window: tuple[int, int] = setting(
        (800, 1000),
        'Where timesteps are resampled.',
        low=0,
        high=1000,
        runtime=True,
    )
    filtering: bool = setting(True, 'Filter the self-attention maps (section 4.3).', runtime=True)
    filter_policy: str = setting(
        'paper',
        'How maps are refined: with the constants below, or as was learned for the model.',
        choices=('paper', 'learned'),
        runtime=True,
    )
    pooling: str = setting(
        'min',
        'How the maps of one timestep are pooled over its passes.',
        choices=('min', 'mean', 'ema'),
        runtime=True,
    )
    alpha_i: float = setting(
        0.5, 'Weight of the current map in `ema` pooling.', low=0.0, high=1.0, runtime=True
    )
    alpha_c: float = setting(
        0.2, 'Weight of the current map against the history.', low=0.0, high=1.0, runtime=True
    )
    alpha_h: float = setting(
        0.5,
        'Weight of the current map in the update of the history.',
        low=0.0,
        high=1.0,
        runtime=True,
    )
    in_step_window: tuple[int, int] = setting(
        (800, 1000), 'Where maps are pooled.', low=0, high=1000, runtime=True
    )
    cross_step_window: tuple[int, int] = setting(
        (600, 1000),
        'Where maps are blended with the history.',
        low=0,
        high=1000,
        runtime=True,
    )
    filter_source: bool = setting(
        False, 'Filter the maps of the source branch as well.', runtime=True
    )
    map_dtype: str = setting(
        'auto',
        'Precision of stored maps; auto is float16 on a GPU, float32 elsewhere.',
        choices=('auto', 'float16', 'float32'),
        runtime=True,
    )
    filter_kernel: str = setting(
        'torch',
        'What filters maps: PyTorch, or one Triton kernel (CUDA, paper policy; experimental).',
        choices=('torch', 'triton'),
        runtime=True,
    )
    mutual_self_attention: bool = setting(
        True, 'Attend to a source branch in the early steps (section 4.4).', runtime=True
    )
    msa_window: tuple[int, int] = setting(
        (600, 1000),
        'Where keys and values come from the source branch; a model may bring its own '
        '(embedded: 800 to 1000, the first checkpoint: 700 to 1000).',
        low=0,
        high=1000,
        runtime=True,
    )
    stochastic_conditioning: bool = setting(
        False,
        'With several frames of an object, each evaluation is shown a random one of them, '
        'else all the nearest one.',
        runtime=True,
    )
    guidance_scale: float = setting(
        3.0, 'Classifier-free guidance; 1 is off.', low=1.0, high=100.0, runtime=True
    )
    eta: float = setting(
        0.0,
        'Noise of the DDIM step: 0 deterministic, 1 as in DDPM.',
        low=0.0,
        high=1.0,
        runtime=True,
    )

    @property
    def learned(self) -> bool:
        """Whether maps are refined by a filter that was learned for the model."""
        return self.filtering and self.filter_policy == 'learned'

    def check(self) -> None:
        for name in ('resampling_window', 'in_step_window', 'cross_step_window', 'msa_window'):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f'{name}: expected low <= high, got {(low, high)}')
        low, high = self.stage_boundaries
        if low >= high:
            raise ValueError(f'stage_boundaries: expected low < high, got {(low, high)}')
        lengths = {'early_steps': 1000 - high, 'middle_steps': high - low, 'late_steps': low}
        for name, length in lengths.items():
            if getattr(self, name) > length:
                raise ValueError(
                    f'{name}: expected at most the {length} timesteps of that stage, '
                    f'got {getattr(self, name)}'
                )
