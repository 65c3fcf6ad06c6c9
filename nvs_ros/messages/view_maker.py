"""Makes views and shapes of a frame as messages, for the live node and for bags alike."""

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
    """Makes the configured views and the shape of an object; in the worker's thread only.

    Parameters
    ----------
    engine : Engine
    configuration : callable
        Returns the current settings.
    prefix : str
        Prefix of the optical frames of virtual cameras when ``views.frame_prefix`` is empty.
    remark : callable
        Called with a subject and a sentence for people: what was left out, and why.
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
            None of the configured views is possible.
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
        """Views of these cameras with their confidence.

        Parameters
        ----------
        job : Job
        source : SourceFrame
        targets : mapping
            Name of the virtual camera -> camera.
        seed : int
            The configured seed when negative.

        Raises
        ------
        Cancelled
            The job was cancelled.
        """
        settings = self._configuration()
        cameras = list(targets.values())
        seed = self._seed(seed)
        views = self.engine.assessed(source, cameras, settings.completion, seed, job)
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
        """Views that may be published; a confidence under ``completion.min_confidence`` excludes.

        Parameters
        ----------
        job : Job
        source : SourceFrame
        targets : mapping
            Name of the virtual camera -> camera.
        preset : str
            The configured preset when empty.
        seed : int
            The configured seed when negative.
        on_progress : callable
            Called after each network evaluation with the share done, 0..1.
        assessed : mapping, optional
            Their confidence if it is already known; else it is computed when there is a least one.

        Raises
        ------
        Cancelled
            The job was cancelled.
        ValueError
            Unknown preset, or the views cannot be made, see :meth:`Engine.views`.
        """
        settings = self._configuration()
        seed = self._seed(seed)
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
                mark=settings.views.mark,
            )
            for name, view in zip(kept, views, strict=True)
        }

    def _seed(self, seed: int) -> int:
        """The configured seed in place of a negative one."""
        return self._configuration().node.seed if seed < 0 else seed

    def views_with_remark(
        self,
        job: Job,
        source: SourceFrame,
        targets: Mapping[str, TargetCamera],
        on_progress: Callable[[float], None] = lambda progress: None,
        assessed: Mapping[str, AssessedView] | None = None,
    ) -> dict[str, NovelView]:
        """:meth:`views` for cameras that nobody requested: a remark tells how many were refused."""
        made = self.views(job, source, targets, on_progress=on_progress, assessed=assessed)
        if len(made) < len(targets):
            self._remark('confidence', f'{len(targets) - len(made)} views: {REFUSED}')
        return made

    def shape(
        self, job: Job, source: SourceFrame, assessed: Mapping[str, AssessedView]
    ) -> Completion | None:
        """The whole shape of an object; None, with a remark, if none can be made.

        Raises
        ------
        Cancelled
            The job was cancelled.
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
    """Id of an object as a part of file names; ``''`` for an object without id."""
    return f'_{_words(object_id)[:-1]}' if object_id else ''


def _words(object_id: str) -> str:
    return re.sub(r'\W', '_', object_id) + '_' if object_id else ''
