"""DDIM on the hourglass schedule, with resampling (Zero-to-Hero, sections 4.3 and 4.5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMScheduler, DDIMSchedulerOutput

# DiffusionPipeline.from_pretrained looks for the base class in the module of a component.
from diffusers.schedulers.scheduling_utils import SchedulerMixin  # noqa: F401
from diffusers.utils.torch_utils import randn_tensor


class HourglassDDIMScheduler(DDIMScheduler):
    """DDIM with timesteps that are dense at both ends, and repeated where they are resampled.

    A drop-in for ``pipe.scheduler``::

        pipe.scheduler = HourglassDDIMScheduler.from_config(pipe.scheduler.config)

    ``timesteps`` lists every network evaluation: inside the resampling window each timestep is
    listed R times. ``step`` denoises to the next *different* timestep and, before each repeat, adds
    noise back to the current one. With ``schedule='uniform'`` and ``resampling_passes=1`` it is
    plain DDIM.

    `DDIMScheduler.step` derives the previous timestep from a constant stride, which does not exist
    here; this class stores each (t, t_prev) pair. The noise schedule, ``prediction_type``,
    ``timestep_spacing`` and clipping keep the meaning that they have in DDIM:

    * ``'leading'`` anchors each stage at its lower end plus ``steps_offset``: with an offset of 1
      the timesteps are 981..801, 701..201, 181..1;
    * ``'trailing'`` anchors it at its upper end minus one: 999..819, 799..299, 199..19.

    Parameters
    ----------
    num_train_timesteps, beta_start, ..., rescale_betas_zero_snr
        As in :class:`diffusers.DDIMScheduler`.
    schedule : {'hourglass', 'uniform'}
        ``'uniform'`` takes the timesteps of `DDIMScheduler.set_timesteps`.
    early_steps, middle_steps, late_steps : int
        Timesteps in each stage of the hourglass; the paper's 10, 6, 10 make both ends five times as
        dense as the middle (lambda = 5).
    stage_boundaries : (int, int)
        Timesteps where the late stage ends and the early stage begins.
    resampling_passes : int
        Network evaluations per timestep inside `resampling_window`, R in the paper.
    resampling_window : (int, int)
        ``low <= t < high``; equal ends make it empty.

    Raises
    ------
    ValueError
        A value is out of range, or the schedule needs a timestep that the model cannot predict from
        (zero terminal SNR with epsilon prediction).

    Notes
    -----
    Notation (variable -> name in paper): ``passes`` -> R, ``previous`` -> t-1, ``sample`` -> z_t,
    ``alpha_bar`` -> cumulative product of 1 - beta.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = 'linear',
        trained_betas: np.ndarray | list[float] | None = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = 'epsilon',
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = 'leading',
        rescale_betas_zero_snr: bool = False,
        schedule: str = 'hourglass',
        early_steps: int = 10,
        middle_steps: int = 6,
        late_steps: int = 10,
        stage_boundaries: Sequence[int] = (200, 800),
        resampling_passes: int = 5,
        resampling_window: Sequence[int] = (800, 1000),
    ) -> None:
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            trained_betas=trained_betas,
            clip_sample=clip_sample,
            set_alpha_to_one=set_alpha_to_one,
            steps_offset=steps_offset,
            prediction_type=prediction_type,
            thresholding=thresholding,
            dynamic_thresholding_ratio=dynamic_thresholding_ratio,
            clip_sample_range=clip_sample_range,
            sample_max_value=sample_max_value,
            timestep_spacing=timestep_spacing,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
        )
        if schedule not in ('hourglass', 'uniform'):
            raise ValueError(f"schedule: expected 'hourglass' or 'uniform', got {schedule!r}")
        if prediction_type not in ('epsilon', 'sample', 'v_prediction'):
            raise ValueError(
                "prediction_type: expected 'epsilon', 'sample' or 'v_prediction', "
                f'got {prediction_type!r}'
            )
        if not isinstance(resampling_passes, int) or resampling_passes < 1:
            raise ValueError(
                f'resampling_passes: expected a whole number from 1, got {resampling_passes}'
            )
        if resampling_window[0] > resampling_window[1]:
            raise ValueError(f'resampling_window: expected low <= high, got {resampling_window}')
        self._pairs: list[tuple[int, int]] = []
        self._index: int | None = None

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: str | torch.device | None = None
    ) -> None:
        """List the network evaluations of one run and forget the previous run.

        Parameters
        ----------
        num_inference_steps : int, optional
            Number of timesteps of the uniform schedule. The hourglass ignores it and takes the sum
            of its stages, so that pipelines may pass their own default.
        device : str or torch.device, optional
            Device of ``timesteps``.

        Raises
        ------
        ValueError
            The number of timesteps is missing or does not fit a stage, ``timestep_spacing`` is not
            one the hourglass supports, the first timestep is beyond training, or the model cannot
            predict from it (zero terminal SNR with epsilon prediction).
        """
        if self.config.schedule == 'uniform':
            if num_inference_steps is None or num_inference_steps < 1:
                raise ValueError(
                    'num_inference_steps: the uniform schedule needs a number from 1, '
                    f'got {num_inference_steps}'
                )
            super().set_timesteps(num_inference_steps)
            distinct = self.timesteps.tolist()
        else:
            distinct = self._hourglass()
        if distinct[0] >= self.config.num_train_timesteps:
            raise ValueError(
                f'steps_offset: {self.config.steps_offset} puts the first of {len(distinct)} '
                f'timesteps at {distinct[0]}, expected less than {self.config.num_train_timesteps}'
            )
        if self.config.prediction_type == 'epsilon' and self.alphas_cumprod[distinct[0]] == 0:
            raise ValueError(
                f"prediction_type: 'epsilon' cannot denoise t={distinct[0]}, without signal "
                "(rescale_betas_zero_snr); expected 'v_prediction' or 'sample'"
            )
        self._pairs = [
            (t, previous)
            for t, previous in zip(distinct, [*distinct[1:], -1], strict=True)
            for _ in range(self.passes(t))
        ]
        self.num_inference_steps = len(distinct)
        self.timesteps: torch.Tensor = torch.tensor([t for t, _ in self._pairs], device=device)
        self._index = None

    def passes(self, timestep: int) -> int:
        """Return the number of network evaluations at a timestep: R inside the window, else 1."""
        low, high = self.config.resampling_window
        return self.config.resampling_passes if low <= timestep < high else 1

    def _hourglass(self) -> list[int]:
        config = self.config
        low, high = config.stage_boundaries
        trailing = config.timestep_spacing == 'trailing'
        if config.timestep_spacing not in ('leading', 'trailing'):
            raise ValueError(
                "timestep_spacing: the hourglass needs 'leading' or 'trailing', "
                f'got {config.timestep_spacing!r}'
            )
        stages = (
            ('early_steps', high, config.num_train_timesteps),
            ('middle_steps', low, high),
            ('late_steps', 0, low),
        )
        timesteps = []
        for name, start, end in stages:
            count = config[name]
            if not 1 <= count <= end - start:
                raise ValueError(
                    f'{name}: expected 1 to {end - start} steps in [{start}, {end}), got {count}'
                )
            offsets = [k * (end - start) // count for k in range(count)]
            if trailing:
                timesteps += [end - 1 - offset for offset in offsets]
            else:
                timesteps += [start + config.steps_offset + offset for offset in reversed(offsets)]
        return timesteps

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: torch.Generator | list[torch.Generator] | None = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Denoise z_t to z_{t-1}; if t is repeated next, add noise to return to z_t.

        Parameters
        ----------
        model_output, sample : torch.Tensor
            (n, c, h, w), the network's prediction and z_t.
        timestep : int or torch.Tensor
            The current timestep; must be the next one in ``timesteps``.
        eta : float
            Noise of the DDIM step; 0 is deterministic.
        generator : torch.Generator or list of them, optional
            For the noise. With a list, one for each of the n samples, a sample does not depend on
            its neighbours in the batch.
        use_clipped_model_output, variance_noise, return_dict
            As in :meth:`diffusers.DDIMScheduler.step`.

        Returns
        -------
        DDIMSchedulerOutput or tuple
            ``prev_sample``, the next network input, and ``pred_original_sample``.

        Raises
        ------
        ValueError
            :meth:`set_timesteps` was not called, the timestep is not the next one, or both
            `generator` and `variance_noise` are given with `eta` above 0.
        """
        t, previous = self._advance(timestep)
        deviation = eta * self._get_variance(t, previous) ** 0.5
        predicted, denoised = self._denoise(
            model_output, t, previous, sample, deviation, use_clipped_model_output
        )
        if eta > 0:
            if variance_noise is not None and generator is not None:
                raise ValueError('expected `generator` or `variance_noise`, got both')
            if variance_noise is None:
                variance_noise = self._noise_like(model_output, generator)
            predicted = predicted + deviation * variance_noise
        if self._index is not None and self._pairs[self._index][0] == t:
            predicted = self._renoise(predicted, t, previous, generator)
        if not return_dict:
            return predicted, denoised
        return DDIMSchedulerOutput(prev_sample=predicted, pred_original_sample=denoised)

    def _advance(self, timestep: int | torch.Tensor) -> tuple[int, int]:
        """Return (t, t_prev) of this evaluation and advance; after the last one start over."""
        if not self._pairs:
            raise ValueError('expected set_timesteps() before step()')
        t = int(timestep)
        if self._index is None:
            places = [i for i, pair in enumerate(self._pairs) if pair[0] == t]
            if not places:
                raise ValueError(f'timestep: expected one of {self.timesteps.tolist()}, got {t}')
            self._index = places[0]
        pair = self._pairs[self._index]
        if pair[0] != t:
            raise ValueError(
                f'timestep: expected {pair[0]} as evaluation {self._index + 1}, got {t}; '
                'call set_timesteps() before a new run'
            )
        self._index = self._index + 1 if self._index + 1 < len(self._pairs) else None
        return pair

    def _alpha_bar(self, timestep: int) -> torch.Tensor:
        return self.alphas_cumprod[timestep] if timestep >= 0 else self.final_alpha_cumprod

    def _denoise(
        self,
        model_output: torch.Tensor,
        t: int,
        previous: int,
        sample: torch.Tensor,
        deviation: torch.Tensor,
        use_clipped_model_output: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """DDIM, formulas (12) and (16): the mean of z_{t-1} and the predicted z_0."""
        alpha_bar, alpha_bar_previous = self._alpha_bar(t), self._alpha_bar(previous)
        signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        if self.config.prediction_type == 'epsilon':
            denoised = (sample - noise * model_output) / signal
            epsilon = model_output
        elif self.config.prediction_type == 'sample':
            denoised = model_output
            epsilon = (sample - signal * denoised) / noise
        else:
            denoised = signal * sample - noise * model_output
            epsilon = signal * model_output + noise * sample

        if self.config.thresholding:
            denoised = self._threshold_sample(denoised)
        elif self.config.clip_sample:
            limit = self.config.clip_sample_range
            denoised = denoised.clamp(-limit, limit)
        if use_clipped_model_output:
            epsilon = (sample - signal * denoised) / noise

        # With zero terminal SNR and eta = 1 this is 0, or slightly below 0 by rounding.
        remaining = (1 - alpha_bar_previous - deviation**2).clamp(min=0)
        direction = remaining**0.5 * epsilon
        return alpha_bar_previous**0.5 * denoised + direction, denoised

    def _renoise(
        self,
        sample: torch.Tensor,
        t: int,
        previous: int,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> torch.Tensor:
        """Section 4.3: q(z_t | z_{t-1}), the forward process between two sampled timesteps."""
        ratio = self._alpha_bar(t) / self._alpha_bar(previous)
        return ratio**0.5 * sample + (1 - ratio) ** 0.5 * self._noise_like(sample, generator)

    @staticmethod
    def _noise_like(
        tensor: torch.Tensor, generator: torch.Generator | list[torch.Generator] | None
    ) -> torch.Tensor:
        """Noise drawn on the generators' device and copied to a GPU without synchronisation."""
        if not tensor.is_cuda or generator is None:
            return randn_tensor(
                tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype
            )
        drawn_on = (generator if isinstance(generator, torch.Generator) else generator[0]).device
        noise = randn_tensor(tensor.shape, generator, drawn_on, tensor.dtype)
        if noise.is_cuda:
            return noise
        return noise.pin_memory().to(tensor.device, non_blocking=True)
