"""Everything that exists only while the node is active: inputs, engine, worker, stream of views."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rclpy.node import Node

from nvs_ros.completion.pipeline import AssessedView
from nvs_ros.errors import OverLimit
from nvs_ros.messages.cameras import pose_from_rigid
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.messages.job import Cancelled, Job
from nvs_ros.messages.shapes import shape_messages
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.messages.transforms import UnknownTransform
from nvs_ros.messages.view_maker import ViewMaker
from nvs_ros.node.diagnostics import Health
from nvs_ros.node.inputs import Inputs
from nvs_ros.node.outputs import Outputs
from nvs_ros.node.parameters import Parameters
from nvs_ros.node.transforms import NodeTransforms
from nvs_ros.node.worker import Worker

LOOK_S = 0.2
"""Least time between two frames that are converted only to be remembered."""


class Session:
    """The work of the node from activation to deactivation.

    Parameters
    ----------
    node : rclpy.node.Node
    parameters : Parameters
    engine : Engine
    transforms : NodeTransforms
    outputs : Outputs
    health : Health
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        engine: Engine,
        transforms: NodeTransforms,
        outputs: Outputs,
        health: Health,
    ) -> None:
        self._parameters = parameters
        self._outputs = outputs
        self._health = health
        self.engine = engine
        self.transforms = transforms
        self.maker = ViewMaker(
            engine,
            lambda: parameters.configuration,
            node.get_fully_qualified_name().strip('/').replace('/', '_') + '_',
            health.warn,
        )
        self._looked_s = -LOOK_S
        configuration = parameters.configuration
        self.worker = Worker(
            self._next_frame,
            configuration.requests.queue,
            lambda error: health.error('worker', error),
        )
        self._inputs = Inputs(node, configuration, health, self.worker.wake)
        self.synchronizer = self._inputs.synchronizer
        self.worker.start()  # last, because it uses everything above

    def close(self, reason: str, timeout_s: float | None = None) -> bool:
        """End all work and cancel all requests; return whether the worker ended in time."""
        try:
            self._inputs.close()
        finally:
            ended = self.worker.stop(reason, timeout_s)
        return ended

    def silence(self) -> str:
        """Why no frame becomes complete; ``''`` if frames arrive or it is too early to tell."""
        return '' if self._inputs.patient else self._inputs.silence()

    def counts(self) -> dict[str, object]:
        """Counts for the diagnostics: frames in, used, dropped by reason; age of the last frame."""
        synchronizer = self.synchronizer
        statistics, newest = synchronizer.statistics, synchronizer.newest
        counts: dict[str, object] = {
            'images': statistics.images,
            'frames used': statistics.used,
            'frames dropped': statistics.dropped.total(),
        }
        if remembered := self.engine.memory.size:
            counts['frames remembered'] = remembered
        counts |= {f'dropped: {reason}': n for reason, n in sorted(statistics.dropped.items())}
        counts |= {f'malformed: {name}': n for name, n in sorted(statistics.malformed.items())}
        counts |= {f'refused: {name}': n for name, n in sorted(statistics.refused.items())}
        if newest is not None:
            counts['age of the last frame [s]'] = f'{time.monotonic() - newest.arrival_s:.2f}'
        return counts

    def newest_source(self, object_id: str = '') -> SourceFrame:
        """An object in the newest frame; the first one if no id is given.

        Raises
        ------
        ValueError
            There is no frame yet, it cannot be used, or there is no such object in it.
        """
        frame = self.synchronizer.newest
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

    def _next_frame(self) -> Callable[[Job], None] | None:
        """Idle work for the worker: the newest frame, None if there is no new one."""
        frame = self.synchronizer.take()
        return None if frame is None else lambda job: self._stream(job, frame)

    def _stream(self, job: Job, frame: FrameMessages) -> None:
        """Make and publish what is wanted of a frame; errors are logged and counted."""
        try:
            names, reason = self._wanted()
            if reason:
                if self._is_to_be_remembered(frame):
                    self.engine.sources(frame, self._parameters.configuration)
                self.synchronizer.count_dropped(reason)
                return
            sources = self.engine.sources(frame, self._parameters.configuration)
            self._publish_objects(job, sources, names)
        except Cancelled:
            self.synchronizer.count_dropped('cancelled')
        except UnknownTransform as error:
            self.synchronizer.count_dropped('frame not in TF')
            self._health.warn('transform', f'frame dropped: {error}')
        except OverLimit as error:
            self.synchronizer.count_dropped('over a limit')
            self._health.refuse('frames', f'frame refused: {error}')
        except ValueError as error:
            self.synchronizer.count_dropped('unusable')
            self._health.warn('frame', f'frame dropped: {error}')
        except Exception as error:
            self.synchronizer.count_dropped('failed')
            self._health.error('frame dropped', error)
        else:
            self.synchronizer.count_used()
            self._health.record('frame to views', time.monotonic() - frame.arrival_s)

    def _is_to_be_remembered(self, frame: FrameMessages) -> bool:
        """Whether to convert a frame without wanted views, so that it can be remembered."""
        if not self._parameters.configuration.memory.frames:
            return False
        if frame.arrival_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = frame.arrival_s
        return True

    def _wanted(self) -> tuple[list[str], str]:
        """Names of the wanted views, and the reason if nothing is wanted, else ``''``."""
        configuration = self._parameters.configuration
        if not configuration.node.enabled:
            return [], 'disabled'
        # Usually nothing to do; a refused change of the parameters may have left too many.
        self._outputs.resize(len(configuration.views.viewpoints))
        for topic in self._outputs.unmatched():
            self._health.warn(
                f'qos {topic}',
                f'a subscriber of {topic} gets nothing: it asks for another type, or for more '
                f'than is offered (see qos_overrides.{topic}.publisher)',
            )
        names = self._outputs.wanted(everything=not configuration.node.on_demand)
        if not names and not self._outputs.wants_shape():
            return [], 'nobody listens'
        return names, ''

    def _publish_objects(self, job: Job, sources: Sequence[SourceFrame], names: list[str]) -> None:
        """Publish what is wanted of each object.

        Raises
        ------
        Exception
            Every object failed: the error of the first one.
        """
        errors: list[tuple[str, Exception]] = []
        for i, source in enumerate(sources):
            try:
                # The topics of single views are for the first object that did not fail.
                self._publish(job, source, names, is_first=i == len(errors))
            except Cancelled:
                raise
            except Exception as error:
                errors.append((source.object_id, error))
        if len(errors) == len(sources):
            raise errors[0][1]
        for object_id, problem in errors:
            self._health.left_out(object_id, problem)

    def _publish(self, job: Job, source: SourceFrame, names: list[str], is_first: bool) -> None:
        """Make and publish what is wanted of an object: views, shape, TF of virtual cameras."""
        targets = self.maker.configured_targets(source)
        assessed: dict[str, AssessedView] = {}
        if self._outputs.wants_shape():
            assessed = self.maker.assessed(job, source, targets)
        wanted = {name: target for name, target in targets.items() if name in names}
        if wanted:
            views = self.maker.views_with_remark(job, source, wanted, assessed=assessed or None)
            self._outputs.publish(source, views, single=is_first)
        if assessed:
            self._publish_shape(job, source, assessed)
        if self._parameters.configuration.node.publish_tf:
            self.transforms.publish(
                [
                    (
                        source.header,
                        self.maker.frame_id(name, source.object_id),
                        pose_from_rigid(source.frame_from_upright @ target.object_from_camera),
                    )
                    for name, target in (targets if assessed else wanted).items()
                ]
            )

    def _publish_shape(
        self, job: Job, source: SourceFrame, assessed: dict[str, AssessedView]
    ) -> None:
        completion = self.maker.shape(job, source, assessed)
        if completion is None:
            return
        self._outputs.publish_shape(
            shape_messages(
                completion,
                source,
                list(assessed.values()),
                normals=self._parameters.configuration.completion.normals,
                mesh=self._outputs.wants_mesh(),
            )
        )
