"""What the node holds while it is active: inputs, engine and worker, and the stream of views."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from rclpy.node import Node

from nvs_interfaces.msg import NovelView
from nvs_ros.completion.pipeline import TrustedView
from nvs_ros.geometry import TargetCamera
from nvs_ros.node.cameras import pose_from_rigid
from nvs_ros.node.completed import REFUSED, shape_messages, view_messages
from nvs_ros.node.diagnostics import Health
from nvs_ros.node.engine import Engine
from nvs_ros.node.frames import SourceFrame
from nvs_ros.node.inputs import Inputs
from nvs_ros.node.intake import FrameMessages
from nvs_ros.node.outputs import Outputs
from nvs_ros.node.parameters import Parameters
from nvs_ros.node.transforms import UnknownTransform
from nvs_ros.node.viewpoints import configured_target
from nvs_ros.node.worker import Cancelled, Job, Worker

LOOK_S = 0.2
"""Between two frames that are looked at for the memory alone."""


class Session:
    """From activation to deactivation.

    Parameters
    ----------
    node : rclpy.node.Node
    parameters : Parameters
    engine : Engine
    outputs : Outputs
    health : Health
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        engine: Engine,
        outputs: Outputs,
        health: Health,
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._outputs = outputs
        self._health = health
        self.engine = engine
        self._looked_s = -LOOK_S
        configuration = parameters.configuration
        self.worker = Worker(
            self._next_frame,
            configuration.requests.queue,
            lambda error: health.error('worker', error),
        )
        self._inputs = Inputs(node, configuration, health, self.worker.wake)
        self.intake = self._inputs.intake
        self.worker.start()  # last: it works with all of the above

    def close(self, reason: str, timeout_s: float | None = None) -> bool:
        """End all work, answer all requests; return whether the worker ended in time."""
        try:
            self._inputs.close()
        finally:
            ended = self.worker.stop(reason, timeout_s)
        return ended

    def silence(self) -> str:
        """Why no frame gets complete, ``''`` when all is well or it is too early to say."""
        return '' if self._inputs.patient else self._inputs.silence()

    def counts(self) -> dict[str, object]:
        """Frames in, used and dropped by reason, and the age of the last one, for people."""
        intake = self.intake
        statistics, newest = intake.statistics, intake.newest
        counts: dict[str, object] = {
            'images': statistics.images,
            'frames used': statistics.used,
            'frames dropped': statistics.dropped.total(),
        }
        if remembered := self.engine.memory.size:
            counts['frames remembered'] = remembered
        counts |= {f'dropped: {reason}': n for reason, n in sorted(statistics.dropped.items())}
        counts |= {f'malformed: {name}': n for name, n in sorted(statistics.malformed.items())}
        if newest is not None:
            counts['age of the last frame [s]'] = f'{time.monotonic() - newest.arrival_s:.2f}'
        return counts

    def newest_source(self, object_id: str = '') -> SourceFrame:
        """The object of the newest frame that a request is about, the first one by default.

        Raises
        ------
        ValueError
            There is no frame yet, it cannot be used, or there is no such object in it.
        """
        frame = self.intake.newest
        if frame is None:
            raise ValueError(f'no complete frame yet: {self._inputs.silence() or "try again"}')
        sources = self.engine.sources(frame, self._parameters.configuration)
        for source in sources:
            if object_id in ('', source.object_id):
                return source
        raise ValueError(
            f'object_id: expected one of {[source.object_id for source in sources]}, '
            f'got {object_id!r}'
        )

    def synthesize(
        self,
        job: Job,
        source: SourceFrame,
        targets: Sequence[TargetCamera],
        frame_ids: Sequence[str],
        preset: str = '',
        seed: int = -1,
        on_progress: Callable[[float], None] = lambda progress: None,
        trusted: Sequence[TrustedView] | None = None,
    ) -> list[NovelView | None]:
        """See :func:`nvs_ros.node.completed.view_messages`; in the worker's thread."""
        return view_messages(
            self.engine,
            self._parameters.configuration,
            job,
            source,
            targets,
            frame_ids,
            preset=preset,
            seed=seed,
            on_progress=on_progress,
            trusted=trusted,
        )

    def _next_frame(self) -> Callable[[Job], None] | None:
        """Idle work of the worker: the newest frame."""
        frame = self.intake.take()
        return None if frame is None else lambda job: self._stream(job, frame)

    def _stream(self, job: Job, frame: FrameMessages) -> None:
        """Make and publish what is wanted of a frame; what goes wrong concerns this one alone."""
        try:
            indices, reason = self._wanted()
            if reason:
                if self._is_to_be_remembered(frame):
                    self.engine.sources(frame, self._parameters.configuration)
                self.intake.count_dropped(reason)
                return
            sources = self.engine.sources(frame, self._parameters.configuration)
            self._publish_objects(job, sources, indices)
        except Cancelled:
            self.intake.count_dropped('cancelled')
        except UnknownTransform as error:
            self.intake.count_dropped('frame not in TF')
            self._health.warn('transform', f'frame dropped: {error}')
        except ValueError as error:
            self.intake.count_dropped('unusable')
            self._health.warn('frame', f'frame dropped: {error}')
        except Exception as error:
            self.intake.count_dropped('failed')
            self._health.error('frame dropped', error)
        else:
            self.intake.count_used()
            self._health.record('frame to views', time.monotonic() - frame.arrival_s)

    def _is_to_be_remembered(self, frame: FrameMessages) -> bool:
        """Whether a frame that nobody wants views of is looked at, for views that come later."""
        if not self._parameters.configuration.memory.frames:
            return False
        if frame.arrival_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = frame.arrival_s
        return True

    def _wanted(self) -> tuple[list[int], str]:
        """The configured views that are wanted now, and why nothing is, if nothing is."""
        configuration = self._parameters.configuration
        if not configuration.node.enabled:
            return [], 'disabled'
        # In place already, unless a change of the parameter was refused by somebody else.
        self._outputs.resize(len(configuration.views.viewpoints))
        for topic in self._outputs.unmatched():
            self._health.warn(
                f'qos {topic}',
                f'a subscriber of {topic} gets nothing: it asks for another type, or for more '
                f'than is offered (see qos_overrides.{topic}.publisher)',
            )
        indices = self._outputs.wanted(everything=not configuration.node.on_demand)
        if not indices and not self._outputs.wants_shape():
            return [], 'nobody listens'
        return indices, ''

    def _publish_objects(
        self, job: Job, sources: Sequence[SourceFrame], indices: list[int]
    ) -> None:
        """Publish what is wanted of each object; raise what the first one did if none can be."""
        errors: list[tuple[str, Exception]] = []
        for i, source in enumerate(sources):
            try:
                # The topics of single views carry the first object that has any.
                self._publish(job, source, indices, is_first=i == len(errors))
            except Cancelled:
                raise
            except Exception as error:
                errors.append((source.object_id, error))
        if len(errors) == len(sources):
            raise errors[0][1]
        for object_id, error in errors:
            self._health.left_out(object_id, error)

    def _publish(self, job: Job, source: SourceFrame, indices: list[int], is_first: bool) -> None:
        """Make and publish what is wanted of an object: views, shape, frames of the cameras."""
        configuration = self._parameters.configuration
        targets = self._configured_targets(source)
        wants_shape = self._outputs.wants_shape()
        trusted: dict[int, TrustedView] = {}
        if wants_shape:
            views = self.engine.trusted(
                source,
                list(targets.values()),
                configuration.completion,
                configuration.node.seed,
                job,
            )
            trusted = dict(zip(targets, views, strict=True))
        wanted = {i: target for i, target in targets.items() if i in indices}
        if wanted:
            self._publish_views(job, source, wanted, trusted, is_first)
        if wants_shape:
            self._publish_shape(job, source, list(trusted.values()))
        if configuration.node.publish_tf:
            shown = targets if wants_shape else wanted
            poses = {i: source.frame_from_upright @ t.object_from_camera for i, t in shown.items()}
            self.engine.transforms.publish(
                [
                    (source.header, self._view_frame_id(source, i), pose_from_rigid(pose))
                    for i, pose in poses.items()
                ]
            )

    def _configured_targets(self, source: SourceFrame) -> dict[int, TargetCamera]:
        """The configured views that are possible, by their places."""
        views = self._parameters.configuration.views
        targets = {}
        for i, viewpoint in enumerate(views.viewpoints):
            try:
                targets[i] = configured_target(source, viewpoint, views.image_size_px)
            except ValueError as error:
                self._health.warn(f'view {i}', f'view {i} is left out: {error}')
        if not targets:
            raise ValueError('none of the configured views is possible')
        return targets

    def _publish_views(
        self,
        job: Job,
        source: SourceFrame,
        targets: dict[int, TargetCamera],
        trusted: dict[int, TrustedView],
        is_first: bool,
    ) -> None:
        frame_ids = [self._view_frame_id(source, i) for i in targets]
        messages = self.synthesize(
            job,
            source,
            list(targets.values()),
            frame_ids,
            trusted=[trusted[i] for i in targets] if trusted else None,
        )
        made = {i: m for i, m in zip(targets, messages, strict=True) if m is not None}
        if len(made) < len(targets):
            self._health.warn('trust', f'{len(targets) - len(made)} views: {REFUSED}')
        self._outputs.publish(source, list(made) if is_first else [], list(made.values()))

    def _publish_shape(self, job: Job, source: SourceFrame, views: list[TrustedView]) -> None:
        settings = self._parameters.configuration.completion
        try:
            completion = self.engine.completion(source, views, settings, job)
        except ValueError as error:
            self._health.warn('shape', f'no shape: {error}')
            return
        self._outputs.publish_shape(
            shape_messages(
                completion,
                source,
                views,
                normals=settings.normals,
                mesh=self._outputs.wants_mesh(),
            )
        )

    def _view_frame_id(self, source: SourceFrame, index: int) -> str:
        return self.frame_id(f'view_{index}', source.object_id)

    def frame_id(self, name: str, object_id: str = '') -> str:
        """Optical frame of a virtual camera."""
        prefix = self._parameters.configuration.views.frame_prefix
        if not prefix:
            prefix = self._node.get_fully_qualified_name().strip('/').replace('/', '_') + '_'
        words = re.sub(r'\W', '_', object_id) + '_' if object_id else ''
        return f'{prefix}{words}{name}_optical_frame'
