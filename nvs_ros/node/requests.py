"""Requests: the service for one view, the action for many, and two small services."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Literal

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import RCLError, ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from nvs_interfaces.action import SynthesizeOrbit
from nvs_interfaces.msg import NovelView
from nvs_interfaces.srv import SynthesizeView
from nvs_ros.errors import OverLimit
from nvs_ros.messages.job import Cancelled, Job
from nvs_ros.messages.view_maker import REFUSED
from nvs_ros.messages.viewpoints import check_pixels, requested_orbit, requested_target
from nvs_ros.node.outputs import views_message
from nvs_ros.node.parameters import Parameters
from nvs_ros.node.session import Session
from nvs_ros.node.worker import Busy

ANSWER_S = 1.0
"""Time for answers to be sent before services are destroyed, and for rclpy to mark a cancel."""
CANCELLED = 'cancelled by the client'
PROGRESS_PERIOD_S = 0.1
"""Least time between feedback messages without views: clients keep only ten messages, and one with
a view must not be lost."""


class _CountingGroup(ReentrantCallbackGroup):
    """Counts its callbacks that are running, including the sending of their answers."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._condition = threading.Condition()

    def beginning_execution(self, entity: Any) -> Literal[True]:
        with self._condition:
            self._count += 1
        return super().beginning_execution(entity)

    def ending_execution(self, entity: Any) -> None:
        super().ending_execution(entity)
        with self._condition:
            self._count -= 1
            self._condition.notify_all()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count a goal, which rclpy does not run as a callback of the group."""
        self.beginning_execution(None)
        try:
            yield
        finally:
            self.ending_execution(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait until no callback is running; return whether that happened in time."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._count, timeout_s)


class _Goal:
    """An action goal; it may be cancelled before its job exists."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self.cancelled = False

    def start(self, job: Job) -> None:
        """Set the job of the goal."""
        with self._lock:
            self._job = job
            if self.cancelled:
                job.cancel(CANCELLED)

    def cancel(self) -> None:
        """Cancel the job, now or as soon as it exists."""
        with self._lock:
            self.cancelled = True
            if self._job is not None:
                self._job.cancel(CANCELLED)

    @staticmethod
    def wait_for_canceling(goal_handle: ServerGoalHandle) -> bool:
        """Wait until rclpy marks the goal as cancelling, shortly after our callback; else False."""
        deadline = time.monotonic() + ANSWER_S
        while not goal_handle.is_cancel_requested:
            if not goal_handle.is_active or time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True


class Requests:
    """Serves ``~/synthesize_view``, ``~/synthesize_orbit``, ``~/enable`` and ``~/forget``.

    A callback waits in a thread of the executor until the worker has finished its job, so the
    executor needs more threads than requests may wait. (Awaiting a future instead would make
    rclpy's executors busy-wait.)

    Parameters
    ----------
    node : rclpy.node.Node
    parameters : Parameters
    session : callable
        Returns the session, None while the node is not active.
    refuse : callable
        Called with what was refused (``'requests'``) and why, in a sentence.
    """

    def __init__(
        self,
        node: Node,
        parameters: Parameters,
        session: Callable[[], Session | None],
        refuse: Callable[[str, str], None],
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._session = session
        self._refuse = refuse
        self._limits = parameters.configuration.limits
        self._fixed_frame = parameters.configuration.node.still_frame
        self._goals: dict[bytes, _Goal] = {}
        self._lock = threading.Lock()
        group = self._under_way = _CountingGroup()
        self._services = [
            node.create_service(
                SynthesizeView, '~/synthesize_view', self._synthesize_view, callback_group=group
            ),
            # In the group of the parameter services, so that changes are made one at a time.
            node.create_service(SetBool, '~/enable', self._enable),
            node.create_service(Trigger, '~/forget', self._forget_frames, callback_group=group),
        ]
        self._action = ActionServer(
            node,
            SynthesizeOrbit,
            '~/synthesize_orbit',
            self._synthesize_orbit,
            callback_group=group,
            cancel_callback=self._cancel,
        )

    def close(self) -> None:
        """Destroy services and action after the pending answers were sent."""
        self._under_way.wait(ANSWER_S)
        self._flush()
        self.destroy()

    def destroy(self) -> None:
        """Destroy services and action now."""
        for service in self._services:
            self._node.destroy_service(service)
        self._action.destroy()

    def _flush(self) -> None:
        """Wait until rclpy has sent the answers of finished callbacks, which it does in tasks."""
        executor = self._node.executor
        for _ in range(2):  # the end of a goal makes a task, which makes that of the answer
            sent = threading.Event()
            if executor is not None:
                executor.create_task(sent.set)
                sent.wait(ANSWER_S / 2)

    def _synthesize_view(
        self, request: SynthesizeView.Request, response: SynthesizeView.Response
    ) -> SynthesizeView.Response:
        try:
            session = self._active_session()
            source = self._source(session, request)
            target = requested_target(
                source, request.viewpoint, session.transforms, self._fixed_frame
            )
            check_pixels([target], self._limits)
            job = session.worker.submit(
                lambda job: session.maker.views(
                    job,
                    source,
                    {'requested': target},
                    preset=request.preset,
                    seed=request.seed,
                )
            )
            views = job.result()
            if not views:
                raise ValueError(f'view {REFUSED}')
            response.view, response.success = views['requested'], True
        except Exception as error:
            response.success, response.message = False, self._reason(error)
        return response

    def _synthesize_orbit(self, goal_handle: ServerGoalHandle) -> SynthesizeOrbit.Result:
        with self._under_way.counted():
            return self._serve_orbit(goal_handle)

    def _serve_orbit(self, goal_handle: ServerGoalHandle) -> SynthesizeOrbit.Result:
        goal, request = self._goal(goal_handle), goal_handle.request
        result = SynthesizeOrbit.Result()
        finished: list[NovelView] = []
        try:
            session = self._active_session()
            source = self._source(session, request)
            result.views = views_message((), source)
            targets = requested_orbit(
                source, request, session.transforms, self._fixed_frame, self._limits
            )
            job = session.worker.submit(
                lambda job: self._orbit(job, session, source, targets, goal_handle, finished)
            )
            goal.start(job)
            job.result()
            goal_handle.succeed()
            result.success = True
        except Exception as error:
            result.message = self._reason(error)
            self._node.get_logger().info(
                f'orbit ended after {len(finished)} views: {result.message}'
            )
            with contextlib.suppress(RCLError, InvalidHandle):  # the context may be gone already
                if goal.cancelled and goal.wait_for_canceling(goal_handle):
                    goal_handle.canceled()
                else:
                    goal_handle.abort()
        finally:
            self._forget(goal_handle)
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
            made = session.maker.views(
                job,
                source,
                {f'orbit_{start + i}': target for i, target in enumerate(part)},
                preset=goal.preset,
                seed=goal.seed,
                on_progress=report,
            )
            views = list(made.values())
            finished += views
            feedback.finished, feedback.progress = len(finished), len(finished) / total
            feedback.views = views
            goal_handle.publish_feedback(feedback)
            feedback.views = []

    def _cancel(self, goal_handle: ServerGoalHandle) -> CancelResponse:
        self._goal(goal_handle).cancel()
        if not goal_handle.is_active:  # it has ended meanwhile
            self._forget(goal_handle)
        return CancelResponse.ACCEPT

    def _goal(self, goal_handle: ServerGoalHandle) -> _Goal:
        with self._lock:
            return self._goals.setdefault(bytes(goal_handle.goal_id.uuid), _Goal())

    def _forget(self, goal_handle: ServerGoalHandle) -> None:
        with self._lock:
            self._goals.pop(bytes(goal_handle.goal_id.uuid), None)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        try:
            (result,) = self._node.set_parameters([Parameter('enabled', value=request.data)])
        except Exception as error:
            response.success, response.message = False, self._reason(error)
            return response
        response.success = result.successful
        response.message = result.reason or f'views of frames: {"on" if request.data else "off"}'
        return response

    def _forget_frames(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        try:
            count = self._active_session().engine.memory.forget()
        except Exception as error:
            response.success, response.message = False, self._reason(error)
            return response
        response.success, response.message = True, f'forgotten: {count} frames'
        return response

    def _active_session(self) -> Session:
        session = self._session()
        if session is None:
            raise ValueError('the node is not active: activate it (ros2 lifecycle set)')
        return session

    def _source(self, session: Session, request: Any) -> Any:
        """Object of a request; the preset, which is quicker to check, is checked first."""
        self._parameters.configuration.sampler(request.preset)
        return session.newest_source(request.object_id)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, (Busy, OverLimit)):
            self._refuse('requests', f'request refused: {error}')
        if isinstance(error, Busy):
            return f'busy: {error}; ask again later, or raise requests.queue'
        if isinstance(error, (ValueError, Cancelled)):
            return str(error)
        self._node.get_logger().error(''.join(traceback.format_exception(error)))
        return f'failed: {type(error).__name__}: {error}'
