"""The synthesizer with what it remembers of the newest frame."""

from __future__ import annotations

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
    """Makes views of frames; each frame is converted and observed once, whoever asks for it.

    Parameters
    ----------
    synthesizer : Synthesizer
    transforms : Transforms
    record : callable
        Takes the name of a stage and its seconds.
    on_left_out : callable, optional
        Takes the id of an object that cannot be used, and the error.
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
        """Convert a frame, one source for each object in it; callable from any thread.

        Raises
        ------
        ValueError
            What is wrong with the frame.
        """
        with self._lock:
            if self._newest is None or self._newest.frame is not frame:
                self._newest = _Prepared(frame)
            prepared = self._newest
        if prepared.sources is not None:
            return prepared.sources
        # Transforms may be waited for: without a lock, so that everybody waits once and at a time.
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

    def sampler(self, configuration: Configuration, preset: str = '') -> SamplerSettings:
        """Sampler settings of a preset as the model wants it, with those that parameters set."""
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
            Its cancellation ends the work after the present network evaluation.
        on_progress : callable
            Takes the share of the network evaluations done, after each.
        keep : bool
            Measured pixels stay as they were measured.

        Raises
        ------
        Cancelled
            By the job.
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
        """Say how far to trust viewpoints; in the worker's thread only.

        Raises
        ------
        Cancelled
            By the job.
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
            The views do not make one.
        Cancelled
            By the job.
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
        """Record how long a stage took; one that fails is not recorded."""
        started = time.monotonic()
        yield
        self._record(stage, time.monotonic() - started)


class _Prepared:
    """A frame and what it was converted to."""

    def __init__(self, frame: FrameMessages) -> None:
        self.frame = frame
        self.lock = threading.Lock()
        self.sources: list[SourceFrame] | None = None
