"""Makes the messages of a recorded frame."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.completion.export import save_cloud, save_mesh
from nvs_ros.completion.pipeline import AssessedView, provenance_of
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.messages.job import Job
from nvs_ros.messages.shapes import shape_messages
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.messages.transforms import Transforms
from nvs_ros.messages.view_maker import ViewMaker, file_words
from nvs_ros.messages.views import views_message
from nvs_ros.synthesizer import Synthesizer

PREFIX = 'nvs_'
"""Prefix of TF frames that a node called ``/nvs`` has when ``views.frame_prefix`` is empty."""


class Made(NamedTuple):
    """Messages of an object in a frame."""

    views: NovelViewArray
    names: list[str]
    """Names of these views (``view_0``, ...), in the same order."""
    shape: dict[str, Any]
    """Topic -> message; empty if no shape is wanted or can be made."""


class FrameMaker:
    """Makes the views of a frame as the node does."""

    def __init__(
        self,
        configuration: Configuration,
        synthesizer: Synthesizer,
        transforms: Transforms,
        shapes: Path | None = None,
    ) -> None:
        self.configuration = configuration
        self._shapes = shapes
        self._engine = Engine(
            synthesizer, transforms, lambda stage, seconds: None, self._leave_out_object
        )
        self.missed: dict[str, str] = {}
        """Object of the newest frame that was left out of it -> why."""
        self._told: set[str] = set()
        self._maker = ViewMaker(
            self._engine, lambda: configuration, PREFIX, lambda subject, text: tqdm.write(text)
        )

    def views(self, frame: FrameMessages, on_progress: Callable[[float], None]) -> list[Made]:
        """Messages of each object in the frame; failed objects are left out.

        Raises
        ------
        ValueError
            The frame cannot be used.
        Exception
            Every object failed: the error of the first one.
        """
        made, errors = [], []
        self.missed = {}
        for source in self._engine.sources(frame, self.configuration):
            try:
                made.append(self._made_of(source, on_progress))
            except Exception as error:  # of any kind: the other objects may still be usable
                errors.append((source.object_id, error))
        if not made:
            raise errors[0][1]
        for object_id, problem in errors:
            self._leave_out_object(object_id, problem)
        return made

    def remember(self, frame: FrameMessages) -> None:
        """Convert a frame whose views are made elsewhere, so that later frames can remember it.

        Afterwards the same is remembered as if its views had been made; a frame that cannot be
        used is passed over.
        """
        with contextlib.suppress(ValueError):
            for source in self._engine.sources(frame, self.configuration):
                self._engine.forget_what_does_not_fit(source)

    def forget(self) -> None:
        """Forget all remembered frames."""
        self._engine.memory.forget()

    def _leave_out_object(self, object_id: str, error: Exception) -> None:
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        problem = self.missed.setdefault(object_id, f'{kind}{error}')
        if object_id not in self._told:
            self._told.add(object_id)
            tqdm.write(f'object {object_id!r} left out of a frame: {problem}')

    def _made_of(self, source: SourceFrame, on_progress: Callable[[float], None]) -> Made:
        targets = self._maker.configured_targets(source)
        job = Job(lambda job: None)
        assessed = None
        if self._shapes is not None:
            assessed = self._maker.assessed(job, source, targets)
        views = self._maker.views_with_remark(job, source, targets, on_progress, assessed)
        shape = {}
        if assessed and self._shapes is not None:
            shape = self._shape_of(self._shapes, job, source, assessed)
        return Made(views_message(list(views.values()), source), list(views), shape)

    def _shape_of(
        self, folder: Path, job: Job, source: SourceFrame, assessed: dict[str, AssessedView]
    ) -> dict[str, Any]:
        """Write the shape of an object to files; return its messages by topic."""
        completion = self._maker.shape(job, source, assessed)
        if completion is None:
            return {}
        settings, views = self.configuration.completion, list(assessed.values())
        provenance = {
            **provenance_of(views, settings),
            'stamp_ns': source.stamp_ns,
            'frame': f'object: z up; its pose in {source.header.frame_id} (row by row) '
            + ' '.join(f'{value:.6g}' for value in source.frame_from_upright[:3].ravel()),
            'frames': len(source.frames),
        }
        file = folder / f'{source.stamp_ns}{file_words(source.object_id)}'
        save_cloud(completion.cloud, file.with_suffix('.ply'), provenance)
        save_mesh(completion.surface, file.with_suffix('.obj'), provenance)
        messages = shape_messages(completion, source, views, normals=settings.normals)
        return messages._asdict()
