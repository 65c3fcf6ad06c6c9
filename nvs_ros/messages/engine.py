"""The synthesizer with a cache for the newest frame: converted sources and the observation."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nvs_ros.completion.pipeline import AssessedView, Completion, assess_views, complete_shape
from nvs_ros.geometry import TargetCamera
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.frames import SourceFrame, placement, source_frames
from nvs_ros.messages.job import Job
from nvs_ros.messages.memory import Memory
from nvs_ros.messages.objects import leave_out
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.messages.transforms import Transforms
from nvs_ros.observation import Observation, measurement_of
from nvs_ros.settings import CompletionSettings, SamplerSettings, ViewSettings
from nvs_ros.synthesizer import Synthesizer, View


class Engine:
    """Makes views of frames; the newest frame is converted and observed only once.

    Parameters
    ----------
    synthesizer : Synthesizer
    transforms : Transforms
    record : callable
        Called with the name of a stage and its duration in seconds.
    on_left_out : callable, optional
        Called with the id of an object that cannot be used, and the error.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        transforms: Transforms,
        record: Callable[[str, float], None],
        on_left_out: Callable[[str, Exception], None] = leave_out,
    ) -> None:
        self._synthesizer = synthesizer
        self.transforms = transforms
        self._record = record
        self._on_left_out = on_left_out
        self.memory = Memory()
        self._lock = threading.Lock()
        self._newest: _Prepared | None = None
        self._observed: tuple[SourceFrame, Observation] | None = None

    def sources(self, frame: FrameMessages, configuration: Configuration) -> list[SourceFrame]:
        """Convert a frame to one source for each object in it; callable from any thread.

        Raises
        ------
        ValueError
            The frame, or every object in it, cannot be used.
        """
        with self._lock:
            if self._newest is None or self._newest.frame is not frame:
                self._newest = _Prepared(frame)
            prepared = self._newest
        if prepared.sources is not None:
            return prepared.sources
        # Waiting for transforms happens outside the lock, so that threads wait at the same time.
        placed = placement(frame, configuration, self.transforms)
        with prepared.lock:
            if prepared.sources is None:
                with self._timed('prepare'):
                    sources = source_frames(
                        frame,
                        configuration,
                        placed,
                        self._synthesizer.canonical,
                        self._on_left_out,
                    )
                    prepared.sources = [
                        self.memory.joined(source, configuration.memory) for source in sources
                    ]
            return prepared.sources

    def forget_what_does_not_fit(self, source: SourceFrame) -> None:
        """Forget the remembered frames of an object as making its views would.

        For a source whose views are not made here.
        """
        size_m = source.canonical.unit_m
        try:
            for frame in source.remembered:
                self._synthesizer.canonical(dataclasses.replace(frame, object_size_m=size_m))
        except ValueError:
            self.memory.forget(source.object_id)

    def sampler(self, configuration: Configuration, preset: str = '') -> SamplerSettings:
        """Sampler settings of a preset (the configured one if empty).

        With the values tuned for the model, and overridden by parameters.

        Raises
        ------
        ValueError
            Unknown preset, or a parameter that does not fit it.
        """
        return self._synthesizer.preset(
            preset or configuration.node.preset, **configuration.sampler_overrides
        )

    def views(
        self,
        source: SourceFrame,
        targets: Sequence[TargetCamera],
        sampler: SamplerSettings,
        seed: int,
        job: Job,
        on_progress: Callable[[float], None] = lambda progress: None,
        *,
        keep: bool = ViewSettings.keep_measured,
    ) -> list[View]:
        """Synthesise views; in the worker's thread only.

        Parameters
        ----------
        source : SourceFrame
        targets : sequence of TargetCamera
        sampler : SamplerSettings
        seed : int
        job : Job
            Cancelling it ends the work after the current network evaluation.
        on_progress : callable
            Called after each network evaluation with the share done, 0..1.
        keep : bool
            As in :meth:`nvs_ros.synthesizer.Synthesizer.synthesize`.

        Raises
        ------
        Cancelled
            The job was cancelled.
        ValueError
            A remembered frame does not fit the present one, or :meth:`Synthesizer.synthesize`
            refuses an argument.
        MemoryError
            Not even one view fits into memory.
        """
        observation = self._observation(source, job)

        def callback(state: dict) -> None:
            job.check()
            on_progress(state['evaluation'] / state['evaluations'])

        with self._timed('synthesize'):
            return self._synthesizer.synthesize(
                observation, targets, sampler, seed=seed, keep=keep, callback=callback
            )

    def assessed(
        self,
        source: SourceFrame,
        targets: Sequence[TargetCamera],
        settings: CompletionSettings,
        seed: int,
        job: Job,
    ) -> list[AssessedView]:
        """Synthesise viewpoints and give their confidence; in the worker's thread only.

        Raises
        ------
        Cancelled
            The job was cancelled.
        """
        observation = self._observation(source, job)
        with self._timed('confidence'):
            return assess_views(
                self._synthesizer,
                observation,
                targets,
                settings,
                seed=seed,
                callback=lambda state: job.check(),
            )

    def completion(
        self,
        source: SourceFrame,
        views: Sequence[AssessedView],
        settings: CompletionSettings,
        job: Job,
    ) -> Completion:
        """The whole shape of an object; in the worker's thread only.

        Raises
        ------
        ValueError
            No shape can be made, see :func:`nvs_ros.completion.pipeline.complete_shape`.
        Cancelled
            The job was cancelled.
        """
        observation = self._observation(source, job)
        with self._timed('complete'):
            return complete_shape(source.frames, observation, views, settings)

    def _observation(self, source: SourceFrame, job: Job) -> Observation:
        job.check()
        if self._observed is None or self._observed[0] is not source:
            with self._timed('observe'):
                self._observed = (source, self._observe(source))
        return self._observed[1]

    def _observe(self, source: SourceFrame) -> Observation:
        measurement = measurement_of(source.frames, source.canonical.unit_m)
        try:
            return self._synthesizer.observe([source.canonical, *source.remembered], measurement)
        except ValueError as error:
            if not source.remembered:
                raise
            self.memory.forget(source.object_id)  # the present frame can be used
            raise ValueError(
                f'a remembered frame does not fit the present one and is forgotten: {error}'
            ) from error

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Record how long a stage took; a stage that fails is not recorded."""
        started = time.monotonic()
        yield
        self._record(stage, time.monotonic() - started)


class _Prepared:
    """A frame and the sources it was converted to; None until then."""

    def __init__(self, frame: FrameMessages) -> None:
        self.frame = frame
        self.lock = threading.Lock()
        self.sources: list[SourceFrame] | None = None
