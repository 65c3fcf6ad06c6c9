"""The lifecycle node."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from nvs_ros.loading import give_back_memory, gpu_memory_mb, load_synthesizer
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.engine import Engine
from nvs_ros.messages.objects import detections_type
from nvs_ros.node.diagnostics import Health
from nvs_ros.node.outputs import Outputs
from nvs_ros.node.parameters import Parameters
from nvs_ros.node.requests import Requests
from nvs_ros.node.session import Session
from nvs_ros.node.transforms import NodeTransforms
from nvs_ros.settings import ModelSettings
from nvs_ros.synthesizer import Synthesizer

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ViewNode(LifecycleNode):
    """Synthesises views of the objects in each frame and on request.

    What exists in each lifecycle state:

    =============  ==================================================================
    unconfigured   parameters, diagnostics
    inactive       + model, publishers, TF, services and action (which refuse requests)
    active         + subscriptions, worker
    =============  ==================================================================

    Parameters
    ----------
    load : callable
        Called with :class:`ModelSettings` and a function that logs a line; returns the synthesizer.
    name : str
    **arguments
        As for :class:`rclpy.lifecycle.LifecycleNode`.
    """

    def __init__(
        self,
        load: Callable[[ModelSettings, Callable[[str], object]], Synthesizer] = load_synthesizer,
        name: str = 'nvs',
        **arguments: Any,
    ) -> None:
        super().__init__(name, **arguments)
        self._load = load
        self._state = 'unconfigured'
        self._synthesizer: Synthesizer | None = None
        self._transforms: NodeTransforms | None = None
        self._outputs: Outputs | None = None
        self._requests: Requests | None = None
        self._session: Session | None = None
        self._settings = Parameters(self, self._prepare, self._apply)
        self._health = Health(self, self._describe)

    def start(self) -> None:
        """Configure and activate, if ``autostart`` is set."""
        if not self._settings.configuration.node.autostart:
            self.get_logger().info('waiting to be configured (autostart is false)')
        elif self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, create publishers and services; to inactive, or stay unconfigured."""
        configuration = self._settings.configuration
        try:
            if configuration.input.objects == 'detections':
                detections_type()  # checked before the model, which takes long to load
            self._synthesizer = self._load(configuration.model, self.get_logger().info)
            self._transforms = NodeTransforms(self, configuration.node.tf_timeout_s)
            self._check_presets(configuration)
            self._outputs = Outputs(self)
            self._outputs.resize(len(configuration.views.viewpoints))
            self._requests = Requests(
                self, self._settings, lambda: self._session, self._health.refuse
            )
        except Exception as error:
            self.get_logger().debug(traceback.format_exc())
            self.get_logger().error(f'cannot configure: {error}')
            self._release()
            return FAILURE
        if not self._transforms.available:
            self.get_logger().info(
                'tf2_ros is not installed: poses are taken in the frame of the image only, '
                'and frames of virtual cameras are not published'
            )
        self._state = 'inactive'
        with self._outputs.lock:
            return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the worker; to active, or stay inactive."""
        synthesizer, transforms, outputs = self._configured()
        with outputs.lock:
            result = super().on_activate(state)
        health = self._health
        engine = Engine(synthesizer, transforms, health.record, health.left_out)
        try:
            self._session = Session(self, self._settings, engine, transforms, outputs, health)
        except Exception as error:
            self.get_logger().error(f'cannot activate: {error}')
            with outputs.lock:
                super().on_deactivate(state)
            return FAILURE
        self._state = 'active'
        self.get_logger().info('active')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the worker and unsubscribe; to inactive."""
        self._end_session('the node is being deactivated')
        self._state = 'inactive'
        _, _, outputs = self._configured()
        with outputs.lock:
            return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release model, publishers and services; to unconfigured."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; to finalized."""
        self._release()
        self._state = 'finalized'
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; to unconfigured."""
        self._release()
        return SUCCESS

    def stop(self, timeout_s: float) -> bool:
        """End the work before the process exits; return whether the worker ended in time."""
        return self._end_session('the node is shutting down', timeout_s)

    def destroy_node(self) -> None:
        """Destroy the node with its action server and state machine.

        rclpy does not destroy these two, and they keep the node alive: its participant stays in the
        graph, and if the process exits without the interpreter's teardown, its segment of shared
        memory is never removed.
        """
        if (requests := self._requests) is not None:
            requests.destroy()
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _configured(self) -> tuple[Synthesizer, NodeTransforms, Outputs]:
        """The parts made by :meth:`on_configure`; raises RuntimeError if it was not called."""
        synthesizer, transforms, outputs = self._synthesizer, self._transforms, self._outputs
        if synthesizer is None or transforms is None or outputs is None:
            raise RuntimeError(f'expected a node that is configured, it is {self._state}')
        return synthesizer, transforms, outputs

    def _end_session(self, reason: str, timeout_s: float | None = None) -> bool:
        session, self._session = self._session, None
        return session is None or session.close(reason, timeout_s)

    def callback_failed(self, error: BaseException) -> None:
        """Log what a callback raised; the node keeps running."""
        self._health.error('a callback failed', error)

    def _prepare(self, configuration: Configuration) -> None:
        """Raise if changed parameters do not fit the model or publishers cannot be created."""
        self._check_presets(configuration)
        if (outputs := self._outputs) is not None:
            outputs.grow(len(configuration.views.viewpoints))

    def _apply(self, configuration: Configuration) -> None:
        """Adjust the publishers after a change of parameters."""
        if (outputs := self._outputs) is not None:
            outputs.resize(len(configuration.views.viewpoints))

    def _check_presets(self, configuration: Configuration) -> None:
        """Raise ValueError if the sampler settings do not fit the values tuned for the model."""
        if (synthesizer := self._synthesizer) is not None:
            synthesizer.preset(configuration.node.preset, **configuration.sampler_overrides)
            synthesizer.preset(configuration.completion.preset)

    def _release(self) -> None:
        try:
            self._end_session('the node is being cleaned up')
        except Exception as error:
            self._health.error('cleaning up', error)
        for part in (self._requests, self._outputs, self._transforms):
            try:
                if part is not None:
                    part.close()
            except Exception as error:  # the other parts have to be released all the same
                self._health.error('cleaning up', error)
        self._synthesizer = self._transforms = self._outputs = self._requests = None
        self._state = 'unconfigured'
        give_back_memory()

    def _describe(self) -> tuple[bytes, str, dict[str, object]]:
        """Level, message and values of the diagnostic status."""
        configuration = self._settings.configuration
        values: dict[str, object] = {'state': self._state, 'preset': configuration.node.preset}
        if (synthesizer := self._synthesizer) is not None:
            values['model'] = synthesizer.components.model_id
            values['device'] = synthesizer.components.device
        if (memory_mb := gpu_memory_mb()) is not None:
            values['GPU memory [MB]'] = round(memory_mb)
        session = self._session
        if session is None:
            return DiagnosticStatus.WARN, self._state, values
        values |= session.counts()
        if not session.worker.alive:
            message = 'the worker has ended: deactivate and activate the node'
            return DiagnosticStatus.ERROR, message, values
        if not configuration.node.enabled:
            return DiagnosticStatus.OK, 'disabled: requests only', values
        if silence := session.silence():
            self._health.warn('silence', silence)
            return DiagnosticStatus.WARN, silence, values
        return DiagnosticStatus.OK, 'active', values
