"""Transitions: what is acquired is released, and a failure leaves the node unconfigured."""

import gc
import re
import threading
import time
import weakref

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.errors import UserError
from nvs_ros.testing.robot import PERIOD_S, LightSynthesizer, graph, wait_until


def change(robot, transition):
    client = robot.node.create_client(ChangeState, '/nvs/change_state')
    return robot.call(client, ChangeState.Request(transition=Transition(id=transition))).success


def state(robot):
    client = robot.node.create_client(GetState, '/nvs/get_state')
    return robot.call(client, GetState.Request()).current_state.id


def entities(node):
    """Names and numbers of what the node offers and listens to."""
    who = (node.get_name(), node.get_namespace())
    return (
        sorted(topic for topic, _ in node.get_publisher_names_and_types_by_node(*who)),
        sorted(topic for topic, _ in node.get_subscriber_names_and_types_by_node(*who)),
        sorted(service for service, _ in node.get_service_names_and_types_by_node(*who)),
        *(
            len(list(kind))
            for kind in (node.subscriptions, node.publishers, node.services, node.waitables)
        ),
    )


def test_what_is_acquired_is_released():
    with graph(start=False) as running:
        node, robot = running.node, running.robot
        unconfigured = entities(node)
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        inactive = active = None
        for _ in range(2):
            assert change(robot, Transition.TRANSITION_CONFIGURE)
            inactive = inactive or entities(node)
            assert entities(node) == inactive != unconfigured
            for _ in range(2):
                assert change(robot, Transition.TRANSITION_ACTIVATE)
                active = active or entities(node)
                assert entities(node) == active != inactive
                while not views.empty():
                    views.get()
                robot.frames_until_message(views)
                assert change(robot, Transition.TRANSITION_DEACTIVATE)
                assert entities(node) == inactive
            assert change(robot, Transition.TRANSITION_CLEANUP)
            assert entities(node) == unconfigured
        assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
        assert change(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert state(robot) == State.PRIMARY_STATE_FINALIZED


def test_shutdown_of_an_active_node_in_the_middle_of_sampling():
    with graph() as running:
        running.robot.subscribe(NovelViewArray, '/nvs/views')
        running.synthesizer.gate.clear()
        running.robot.frames_until(running.synthesizer.sampling.is_set)
        assert change(running.robot, Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert state(running.robot) == State.PRIMARY_STATE_FINALIZED


def test_a_model_that_cannot_be_had_leaves_the_node_unconfigured():
    attempts = []

    def load(settings, log):
        attempts.append(settings.source)
        if len(attempts) == 1:
            raise UserError('no such folder: /models/zero123')
        return LightSynthesizer()

    with graph(start=False, load=load) as running:
        robot = running.robot
        before = entities(running.node)
        assert not change(robot, Transition.TRANSITION_CONFIGURE)
        assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
        assert entities(running.node) == before
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        assert state(robot) == State.PRIMARY_STATE_INACTIVE


def test_a_subscription_that_cannot_be_made_leaves_the_node_inactive(capfd):
    """The last input of four is refused: those before it are given back, with the worker."""
    setting = 'qos_overrides./object_pose.subscription.reliability'
    with graph({'autostart': False, setting: 'nonsense'}) as running:
        robot = running.robot
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        before = entities(running.node)
        assert not change(robot, Transition.TRANSITION_ACTIVATE)
        assert state(robot) == State.PRIMARY_STATE_INACTIVE
        assert entities(running.node) == before
        assert 'nvs worker' not in {thread.name for thread in threading.enumerate()}
        assert 'cannot activate: ' in capfd.readouterr().err


def test_autostart_can_be_switched_off():
    with graph({'autostart': False}) as running:
        assert state(running.robot) == State.PRIMARY_STATE_UNCONFIGURED
    with graph() as running:
        assert state(running.robot) == State.PRIMARY_STATE_ACTIVE


def status_until(received, condition, timeout_s=20):
    while True:
        (status,) = received.get(timeout=timeout_s).status
        values = {item.key: item.value for item in status.values}
        if condition(status, values):
            return status, values


def test_diagnostics_count_frames_and_name_the_model():
    with graph() as running:
        robot = running.robot
        received = robot.subscribe(DiagnosticArray, '/diagnostics')
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        status, values = status_until(received, lambda status, values: values.get('frames used'))
        assert status.level == DiagnosticStatus.OK
        assert status.name == '/nvs: novel views'
        assert (values['state'], values['model'], values['device']) == ('active', 'light', 'cpu')
        assert int(values['images']) >= 1
        assert float(values['age of the last frame [s]']) < 10
        for stage in ('prepare', 'observe', 'synthesize', 'frame to views'):
            assert 0 <= float(values[f'latency {stage} [s]']) < 5


SILENT = {
    'nothing published': (
        [],
        'nothing on /image yet (1 publishers)',
    ),
    'no camera_info': (
        ['image', 'mask', 'object_pose'],
        'nothing on /camera_info yet (1 publishers)',
    ),
    'malformed only': (
        ['image', 'camera_info', 'mask', 'object_pose'],
        'nothing but malformed messages on /mask yet (1 publishers): expected ',
    ),
}


@pytest.mark.parametrize('name', SILENT)
def test_silence_is_explained(name):
    topics, sentence = SILENT[name]
    with graph() as running:
        robot = running.robot
        received = robot.subscribe(DiagnosticArray, '/diagnostics')

        def explained():
            messages = robot.scene.messages(robot.stamp_ns)
            if name == 'malformed only':
                messages['mask'].encoding = 'mono'
            robot.publish({topic: messages[topic] for topic in topics})
            while not received.empty():
                status = received.get().status[0]
                if status.message.startswith(sentence):
                    return status

        status = wait_until(explained, period_s=PERIOD_S)
        assert status.level == DiagnosticStatus.WARN


@pytest.mark.parametrize('bare', ['all', 'mask'])
def test_messages_without_stamps_are_refused_and_named(bare):
    """All stamps zero, every mask belongs to any image: none is better than that of another."""
    with graph({'on_demand': False}) as running:
        robot = running.robot
        received = robot.subscribe(DiagnosticArray, '/diagnostics')
        topic = '/image' if bare == 'all' else '/mask'
        sentence = (
            f'nothing but malformed messages on {topic} yet (1 publishers): expected the stamp of '
            'when the image was taken, got 0'
        )

        def explained():
            messages = robot.scene.messages(0)
            if bare != 'all':
                robot.stamp_ns += 100_000_000
                messages = robot.scene.messages(robot.stamp_ns) | {bare: messages[bare]}
            robot.publish(messages)
            while not received.empty():
                status = received.get().status[0]
                values = {item.key: item.value for item in status.values}
                assert values.get('frames used', '0') == '0'
                if status.message.startswith(sentence):
                    return values

        values = wait_until(explained, period_s=PERIOD_S)
        assert int(values[f'malformed: {topic[1:]}']) > 0


@pytest.mark.parametrize('stuck', ['all', 'mask'])
def test_stamps_that_never_change_are_explained(stuck):
    """All stamps equal, frames are made, of masks and whatever image came last."""
    with graph({'on_demand': False}) as running:
        robot = running.robot
        received = robot.subscribe(DiagnosticArray, '/diagnostics')
        topic = '/image' if stuck == 'all' else f'/{stuck}'

        def explained():
            robot.stamp_ns += 100_000_000
            messages, old = (robot.scene.messages(ns) for ns in (robot.stamp_ns, 5 * 10**9))
            robot.publish(old if stuck == 'all' else messages | {stuck: old[stuck]})
            while not received.empty():
                status = received.get().status[0]
                if status.message.startswith(f'each message on {topic} has the stamp 5.000 s for '):
                    return status

        status = wait_until(explained, period_s=PERIOD_S)
        assert status.level == DiagnosticStatus.WARN
        assert 'has to carry the stamp of the image that it belongs to' in status.message


def test_stamps_that_never_match_are_explained():
    with graph({'sync.slop_s': 0.02}) as running:
        robot = running.robot
        received = robot.subscribe(DiagnosticArray, '/diagnostics')

        def explained():
            robot.stamp_ns += 100_000_000
            messages = robot.scene.messages(robot.stamp_ns)
            messages |= {'mask': robot.scene.messages(robot.stamp_ns + 30_000_000)['mask']}
            robot.publish(messages)
            while not received.empty():
                status = received.get().status[0]
                if 'apart' in status.message:
                    return status.message

        message = wait_until(explained, period_s=PERIOD_S)
        assert message == (
            'the stamps of /mask and /image are 0.03 s apart at best, sync.slop_s is 0.02 s: '
            'a message has to carry the stamp of the image that it belongs to'
        )


@pytest.mark.parametrize(
    ('parameters', 'remedy'),
    [
        ({'sync.buffer_s': 0.3}, 'messages are kept for 0.3 s: raise sync.buffer_s'),
        ({'sync.buffer_mb': 1}, r'the 1 MB of sync\.buffer_mb hold 0\.\d+ s: raise it'),
    ],
)
def test_masks_that_come_too_late_are_explained(parameters, remedy):
    """Stamps are equal: who widened the slop would get masks of other images."""
    with graph(parameters) as running:
        robot, late = running.robot, []
        received = robot.subscribe(DiagnosticArray, '/diagnostics')

        def explained():
            robot.stamp_ns += 100_000_000
            messages = robot.scene.messages(robot.stamp_ns)
            late.append((time.monotonic() + 1.2, messages.pop('mask')))
            robot.publish(messages)
            while late[0][0] < time.monotonic():
                robot.publish({'mask': late.pop(0)[1]})
            while not received.empty():
                message = received.get().status[0].message
                assert 'apart' not in message
                if 'later' in message:
                    return message

        message = wait_until(explained, period_s=PERIOD_S)
        sentence = r'/mask comes 1\.\d\d s later than /image of the same stamp, '
        assert re.fullmatch(sentence + remedy, message)


def warned(capfd, sentence, act=lambda: None):
    """Wait until a sentence is in the log, doing something meanwhile; return the log."""
    log = ''

    def said():
        nonlocal log
        act()
        log += capfd.readouterr().err
        return sentence in log

    wait_until(said, period_s=PERIOD_S)
    return log


def test_a_publisher_with_incompatible_qos_is_named(capfd):
    setting = 'qos_overrides./image.subscription.reliability'
    with graph({setting: 'reliable'}) as running:
        running.robot.node.create_publisher(
            Image, 'image', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        warned(capfd, f'a publisher on /image offers an incompatible reliability: set {setting}')


def test_a_subscriber_with_incompatible_qos_is_named(capfd):
    with graph() as running:
        robot = running.robot
        robot.subscribe(Image, '/nvs/view_0/image')
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        robot.subscribe(Image, '/nvs/view_3/image', latched)
        sentence = 'a subscriber of /nvs/view_3/image gets nothing'
        assert '/nvs/view_0' not in warned(capfd, sentence, robot.publish_frame)


def test_cleanup_lets_the_model_go_without_the_garbage_collector():
    models = []

    def load(settings, log):
        model = LightSynthesizer()
        models.append(weakref.ref(model))
        return model

    gc.disable()  # a model is large, and the next one is loaded before it would come round
    try:
        with graph(load=load) as running:
            views = running.robot.subscribe(NovelViewArray, '/nvs/views')
            running.robot.frames_until_message(views)
            assert running.robot.synthesize().success
            running.node.trigger_deactivate()
            running.node.trigger_cleanup()
            wait_until(lambda: models[0]() is None)
    finally:
        gc.enable()
