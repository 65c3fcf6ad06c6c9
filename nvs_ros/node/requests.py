"""Requests: the service for one view, the action for many, and the switch of the stream."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import RCLError, ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from nvs_interfaces.action import SynthesizeOrbit
from nvs_interfaces.msg import NovelView
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.node.completed import REFUSED
from nvs_ros.node.outputs import views_message
from nvs_ros.node.parameters import Parameters
from nvs_ros.node.session import Session
from nvs_ros.node.viewpoints import requested_orbit, requested_target
from nvs_ros.node.worker import Busy, Cancelled, Job

CANCEL_POLL_S = 0.05
PROGRESS_PERIOD_S = 0.1
"""Feedback without a view comes no faster: clients keep ten messages, a view must not be lost."""


class Requests:
    """Serves ``~/synthesize_view``, ``~/synthesize_orbit`` and ``~/enable``.

    A callback waits in a thread of the executor for its turn at the worker, so the executor needs
    more threads than requests may wait. (Awaiting a future instead makes rclpy's executors spin.)

    Parameters
    ----------
    node : rclpy.node.Node
    parameters : Parameters
    session : callable
        Returns the session, None while the node is not active.
    """

    def __init__(
        self, node: Node, parameters: Parameters, session: Callable[[], Session | None]
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._session = session
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(
                SynthesizeView, '~/synthesize_view', self._synthesize_view, callback_group=group
            ),
            node.create_service(SetBool, '~/enable', self._enable, callback_group=group),
        ]
        self._action = ActionServer(
            node,
            SynthesizeOrbit,
            '~/synthesize_orbit',
            self._synthesize_orbit,
            callback_group=group,
            cancel_callback=lambda goal_handle: CancelResponse.ACCEPT,
        )

    def close(self) -> None:
        """Destroy services and action."""
        for service in self._services:
            self._node.destroy_service(service)
        self._action.destroy()

    def _synthesize_view(
        self, request: SynthesizeView.Request, response: SynthesizeView.Response
    ) -> SynthesizeView.Response:
        try:
            session = self._active_session()
            source = self._source(session, request)
            target = requested_target(source, request.viewpoint, session.engine.transforms)
            frame_id = session.frame_id('requested', source.object_id)
            job = session.worker.submit(
                lambda job: session.synthesize(
                    job, source, [target], [frame_id], request.preset, request.seed
                )
            )
            (view,) = job.result()
            if view is None:
                raise ValueError(f'view {REFUSED}')
            response.view, response.success = view, True
        except Exception as error:
            response.success, response.message = False, self._reason(error)
        return response

    def _synthesize_orbit(self, goal_handle: ServerGoalHandle) -> SynthesizeOrbit.Result:
        goal, result = goal_handle.request, SynthesizeOrbit.Result()
        finished: list[NovelView] = []
        try:
            session = self._active_session()
            source = self._source(session, goal)
            result.views = views_message((), source)
            targets = requested_orbit(source, goal, session.engine.transforms)
            job = session.worker.submit(
                lambda job: self._orbit(job, session, source, targets, goal_handle, finished)
            )
            while not job.wait(CANCEL_POLL_S):
                if goal_handle.is_cancel_requested:
                    job.cancel('cancelled by the client')
            job.result()
            result.success = True
            goal_handle.succeed()
        except Exception as error:
            result.message = self._reason(error)
            self._node.get_logger().info(
                f'orbit ended after {len(finished)} views: {result.message}'
            )
            with contextlib.suppress(RCLError):  # the context may be gone already
                if goal_handle.is_cancel_requested:
                    goal_handle.canceled()
                else:
                    goal_handle.abort()
        result.views.views = finished
        return result

    def _orbit(
        self,
        job: Job,
        session: Session,
        source: Any,
        targets: list,
        goal_handle: ServerGoalHandle,
        finished: list[NovelView],
    ) -> None:
        """Make the views of an orbit in batches, with feedback; in the worker's thread."""
        goal, total = goal_handle.request, len(targets)
        batch = self._parameters.configuration.requests.batch
        feedback = SynthesizeOrbit.Feedback(total=total)
        reported_s = time.monotonic()

        def report(progress: float) -> None:
            nonlocal reported_s
            if time.monotonic() - reported_s >= PROGRESS_PERIOD_S:
                reported_s = time.monotonic()
                feedback.progress = (len(finished) + progress * len(part)) / total
                goal_handle.publish_feedback(feedback)

        for start in range(0, total, batch):
            part = targets[start : start + batch]
            frame_ids = [
                session.frame_id(f'orbit_{start + i}', source.object_id) for i in range(len(part))
            ]
            made = session.synthesize(job, source, part, frame_ids, goal.preset, goal.seed, report)
            views = [view for view in made if view is not None]
            finished += views
            feedback.finished, feedback.progress = len(finished), len(finished) / total
            feedback.views = views
            goal_handle.publish_feedback(feedback)
            feedback.views = []

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        (result,) = self._node.set_parameters([Parameter('enabled', value=request.data)])
        response.success = result.successful
        response.message = result.reason or f'views of frames: {"on" if request.data else "off"}'
        return response

    def _active_session(self) -> Session:
        session = self._session()
        if session is None:
            raise ValueError('the node is not active: activate it (ros2 lifecycle set)')
        return session

    def _source(self, session: Session, request: Any) -> Any:
        """Object of a request, after what is quicker to check."""
        self._parameters.configuration.sampler(request.preset)
        return session.newest_source(request.object_id)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, Busy):
            return f'busy: {error}; ask again later, or raise requests.queue'
        if isinstance(error, (ValueError, Cancelled)):
            return str(error)
        self._node.get_logger().error(''.join(traceback.format_exception(error)))
        return f'failed: {type(error).__name__}: {error}'
