"""The one maker of views and shapes as messages, for the live node and for bags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from nvs_interfaces.msg import NovelView
from nvs_ros.completion.pipeline import AssessedView, Completion
from nvs_ros.geometry import TargetCamera
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.messages.job import Job
from nvs_ros.messages.viewpoints import configured_target
from nvs_ros.messages.views import novel_view

REFUSED = 'refused, their confidence is under completion.min_confidence'


class ViewMaker:
    """Makes what the configuration says of an object in a frame; in the worker's thread only.

    Parameters
    ----------
    engine : Engine
    configuration : callable
        Returns the settings of now.
    prefix : str
        Of the optical frames of virtual cameras where ``views.frame_prefix`` is empty.
    remark : callable
        Takes a subject and a sentence for people: what was left out, and why.
    """

    def __init__(
        self,
        engine: Engine,
        configuration: Callable[[], Configuration],
        prefix: str,
        remark: Callable[[str, str], None],
    ) -> None:
        self.engine = engine
        self._configuration = configuration
        self._prefix = prefix
        self._remark = remark

    def frame_id(self, camera: str, object_id: str = '') -> str:
        """Optical frame of a virtual camera (``view_0``, ``requested``, ...) about an object."""
        prefix = self._configuration().views.frame_prefix or self._prefix
        return f'{prefix}{_words(object_id)}{camera}_optical_frame'

    def configured_targets(self, source: SourceFrame) -> dict[str, TargetCamera]:
        """The configured views that are possible: ``view_<i>`` -> camera.

        Raises
        ------
        ValueError
            None is.
        """
        views = self._configuration().views
        targets = {}
        for i, viewpoint in enumerate(views.viewpoints):
            try:
                targets[view_name(i)] = configured_target(source, viewpoint, views.image_size_px)
            except ValueError as error:
                self._remark(f'view {i}', f'view {i} is left out: {error}')
        if not targets:
            raise ValueError('none of the configured views is possible')
        return targets

    def assessed(
        self, job: Job, source: SourceFrame, targets: Mapping[str, TargetCamera], seed: int = -1
    ) -> dict[str, AssessedView]:
        """How far to trust views of these cameras.

        Parameters
        ----------
        job : Job
        source : SourceFrame
        targets : mapping
            Name of the virtual camera -> camera.
        seed : int
            That of the configuration when negative.

        Raises
        ------
        Cancelled
            By the job.
        """
        settings = self._configuration()
        seed = settings.node.seed if seed < 0 else seed
        views = self.engine.assessed(source, list(targets.values()), settings.completion, seed, job)
        return dict(zip(targets, views, strict=True))

    def views(
        self,
        job: Job,
        source: SourceFrame,
        targets: Mapping[str, TargetCamera],
        *,
        preset: str = '',
        seed: int = -1,
        on_progress: Callable[[float], None] = lambda progress: None,
        assessed: Mapping[str, AssessedView] | None = None,
    ) -> dict[str, NovelView]:
        """Views that may be published; those under ``completion.min_confidence`` are not made.

        Parameters
        ----------
        job : Job
        source : SourceFrame
        targets : mapping
            Name of the virtual camera -> camera.
        preset : str
            That of the configuration when empty.
        seed : int
            That of the configuration when negative.
        on_progress : callable
            Takes the share of the network evaluations done, after each.
        assessed : mapping, optional
            How far to trust them, where that is known already.

        Raises
        ------
        Cancelled
            By the job.
        """
        settings = self._configuration()
        seed = settings.node.seed if seed < 0 else seed
        least = settings.completion.min_confidence
        if assessed is None and least > 0:
            assessed = self.assessed(job, source, targets, seed)
        kept = [name for name in targets if not assessed or assessed[name].confidence >= least]
        views = self.engine.views(
            source,
            [targets[name] for name in kept],
            self.engine.sampler(settings, preset),
            seed,
            job,
            on_progress,
            keep=settings.views.keep_measured,
        )
        return {
            name: novel_view(
                view,
                source,
                self.frame_id(name, source.object_id),
                preset or settings.node.preset,
                assessed[name] if assessed else None,
            )
            for name, view in zip(kept, views, strict=True)
        }

    def views_with_remark(
        self,
        job: Job,
        source: SourceFrame,
        targets: Mapping[str, TargetCamera],
        on_progress: Callable[[float], None] = lambda progress: None,
        assessed: Mapping[str, AssessedView] | None = None,
    ) -> dict[str, NovelView]:
        """:meth:`views` that nobody asked for one by one: says how many were refused."""
        made = self.views(job, source, targets, on_progress=on_progress, assessed=assessed)
        if len(made) < len(targets):
            self._remark('confidence', f'{len(targets) - len(made)} views: {REFUSED}')
        return made

    def shape(
        self, job: Job, source: SourceFrame, assessed: Mapping[str, AssessedView]
    ) -> Completion | None:
        """The whole shape of an object, None with a remark where the views do not make one.

        Raises
        ------
        Cancelled
            By the job.
        """
        settings = self._configuration().completion
        try:
            return self.engine.completion(source, list(assessed.values()), settings, job)
        except ValueError as error:
            self._remark('shape', f'no shape: {error}')
            return None


def view_name(index: int) -> str:
    """Name of a configured view, in topics and frames."""
    return f'view_{index}'


def file_words(object_id: str) -> str:
    """Id of an object as part of a file's name, ``''`` for one without."""
    return f'_{_words(object_id)[:-1]}' if object_id else ''


def _words(object_id: str) -> str:
    return re.sub(r'\W', '_', object_id) + '_' if object_id else ''
