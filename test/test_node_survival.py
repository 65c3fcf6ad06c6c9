"""What fails in one place ends nothing else: worker, objects, diagnostics, callbacks."""

import dataclasses
import queue
import threading

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.parameter import Parameter

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.hero.presets import preset
from nvs_ros.messages import engine
from nvs_ros.node import inputs, session
from nvs_ros.node.diagnostics import Health
from nvs_ros.testing.robot import TIMEOUT_S, LightSynthesizer, graph, wait_until


def grow(running, *azimuths_deg):
    """Set the azimuths of the views as a user does at run time."""
    parameter = Parameter('views.azimuths_deg', value=list(azimuths_deg))
    (result,) = running.node.set_parameters([parameter])
    return result


def view_topics(node):
    names = node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace())
    return sorted(topic for topic, _ in names if topic.startswith('/nvs/view_'))


def status_until(received, condition):
    """The first status of the diagnostics for which a condition holds."""
    while True:
        (status,) = received.get(timeout=TIMEOUT_S).status
        if condition(status):
            return status


@pytest.mark.parametrize('topic', ['image', 'camera_info', 'mask'])
def test_views_that_cannot_be_published_are_refused_and_all_goes_on(topic):
    setting = f'qos_overrides./nvs/view_1/{topic}.publisher.reliability'
    with graph({'views.azimuths_deg': [0.0], setting: 'nonsense'}) as running:
        robot = running.robot
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        before = len(list(running.node.publishers))
        result = grow(running, 0.0, 90.0)
        assert not result.successful
        assert '/nvs/view_1' in result.reason
        assert list(running.node.get_parameter('views.azimuths_deg').value) == [0.0]
        assert len(list(running.node.publishers)) == before
        while not views.empty():
            views.get()
        robot.frames_until_message(views)
        assert robot.synthesize().success


def test_topics_of_views_come_and_go_with_the_parameter():
    with graph({'views.azimuths_deg': [0.0]}) as running:
        one = [f'/nvs/view_0/{name}' for name in ('camera_info', 'image', 'mask', 'measured')]
        assert view_topics(running.node) == one
        assert grow(running, 0.0, 45.0).successful
        assert view_topics(running.node) == [*one, *(t.replace('_0/', '_1/') for t in one)]
        images = running.robot.subscribe(NovelViewArray, '/nvs/views')
        assert len(running.robot.frames_until_message(images).views) == 2
        assert grow(running, 0.0).successful
        assert view_topics(running.node) == one


def test_a_node_that_is_not_configured_takes_any_number_of_views():
    with graph({'autostart': False}) as running:
        assert grow(running, 0.0, 10.0, 20.0).successful
        assert view_topics(running.node) == []
        running.node.trigger_configure()
        assert len(view_topics(running.node)) == 12


def test_a_worker_that_died_is_an_error_and_requests_are_answered(monkeypatch):
    """Nothing known ends it; if something does, nobody waits for an answer that cannot come."""
    with graph() as running:
        robot = running.robot
        received = robot.subscribe(DiagnosticArray, '/diagnostics')
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        running.synthesizer.gate.clear()
        worker = running.node._session.worker

        def die():
            raise SystemExit

        orders = [threading.Thread(target=lambda: answers.put(robot.synthesize())) for _ in '123']
        answers = queue.Queue()
        for order in orders:
            order.start()
        assert running.synthesizer.sampling.wait(TIMEOUT_S)
        wait_until(lambda: len(worker._jobs) == 2)
        monkeypatch.setattr(worker, '_turn', die)
        running.synthesizer.gate.set()
        responses = [answers.get(timeout=TIMEOUT_S) for _ in orders]
        assert sorted(response.success for response in responses) == [False, False, True]
        assert any('worker has ended' in response.message for response in responses)
        assert 'worker has ended' in robot.synthesize().message
        status = status_until(received, lambda status: status.level == DiagnosticStatus.ERROR)
        assert 'worker has ended' in status.message
        running.node.trigger_deactivate()
        running.node.trigger_activate()
        monkeypatch.undo()
        assert running.node._session.worker.alive
        robot.frames_until(lambda: running.node._session.synchronizer.newest)
        assert robot.synthesize().success


@pytest.mark.parametrize('stage', ['unmatched', 'wanted', 'wants_shape', 'publish'])
def test_a_fault_in_the_outputs_costs_one_frame(monkeypatch, stage, capfd):
    with graph({'views.azimuths_deg': [0.0]}) as running:
        robot = running.robot
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        failed = threading.Event()

        def fail(*arguments, **options):
            monkeypatch.undo()
            failed.set()
            raise RuntimeError('of the middleware')

        monkeypatch.setattr(running.node._outputs, stage, fail)
        robot.frames_until(failed.is_set)
        while not views.empty():
            views.get()
        robot.frames_until_message(views)
        counts = running.node._session.synchronizer
        running.node.stop(TIMEOUT_S)
        statistics = counts.statistics
        dropped = statistics.dropped.total()
        assert statistics.images == statistics.used + dropped + counts.waiting()
        assert statistics.dropped['failed'] == 1
        assert 'of the middleware' in capfd.readouterr().err


@pytest.mark.parametrize('error', [ValueError('odd'), RuntimeError('CUDA out of memory')])
def test_an_object_that_fails_leaves_the_others_of_its_frame(monkeypatch, capfd, error):
    real = engine.source_frames

    def three(*arguments, **options):
        (source,) = real(*arguments, **options)
        return [dataclasses.replace(source, object_id=name) for name in 'abc']

    monkeypatch.setattr(engine, 'source_frames', three)

    class Failing(LightSynthesizer):
        def observe(self, source, measurement=None):
            self.observed = getattr(self, 'observed', 0) + 1
            if self.observed % 3 == 1:
                raise error
            return super().observe(source, measurement)

    synthesizer = Failing()
    with graph({'views.azimuths_deg': [0.0]}, load=lambda *_: synthesizer) as running:
        views = running.robot.subscribe(NovelViewArray, '/nvs/views')
        first = running.robot.frames_until_message(views)
        second = views.get(timeout=TIMEOUT_S)
        assert [first.object_id, second.object_id] == ['b', 'c']
        assert first.header.stamp == second.header.stamp
        told = running.robot.subscribe(DiagnosticArray, '/diagnostics')
        status = status_until(
            told, lambda status: 'objects left out' in {item.key for item in status.values}
        )
        values = {item.key: item.value for item in status.values}
        assert int(values['frames used']) >= 1
        assert int(values['objects left out']) >= 1
    assert str(error) in capfd.readouterr().err


def test_a_frame_that_comes_while_the_node_is_activated_is_served(monkeypatch):
    """The camera runs already: its frame is complete before the node is done with itself."""
    with graph({'autostart': False, 'views.azimuths_deg': [0.0]}) as running:
        robot = running.robot
        views = robot.subscribe(NovelViewArray, '/nvs/views')

        class Slow(inputs.Inputs):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                publishers = robot.publishers.values()
                wait_until(lambda: all(p.get_subscription_count() for p in publishers))
                robot.publish_frame()
                wait_until(lambda: self.synchronizer.newest)
                assert 'not active' in robot.synthesize().message  # there and back: time passes

        monkeypatch.setattr(session, 'Inputs', Slow)
        running.node.trigger_configure()
        wait_until(lambda: running.node._outputs.wanted())
        running.node.trigger_activate()
        views.get(timeout=TIMEOUT_S)
        assert robot.synthesize().success


def test_a_message_that_breaks_its_check_is_malformed(monkeypatch):
    with graph({'views.azimuths_deg': [0.0]}) as running:
        robot = running.robot
        views = robot.subscribe(NovelViewArray, '/nvs/views')
        robot.frames_until_message(views)
        real = inputs.check_message
        broken = threading.Event()

        def check(*arguments):
            if not broken.is_set():
                broken.set()
                raise ZeroDivisionError('of a strange message')
            return real(*arguments)

        monkeypatch.setattr(inputs, 'check_message', check)
        robot.frames_until(broken.is_set)
        while not views.empty():
            views.get()
        robot.frames_until_message(views)
        assert running.thread.is_alive()
        assert running.node._session.synchronizer.statistics.malformed.total() == 1


def test_a_malformed_message_before_its_subscription_is_noted(monkeypatch):
    """A message may be there before the constructor of its subscription returns."""
    with graph({'autostart': False}) as running:
        node = running.node
        node.trigger_configure()
        create = node.create_subscription

        def create_and_receive(kind, topic, callback, *arguments, **options):
            subscription = create(kind, topic, callback, *arguments, **options)
            if topic == 'image':
                message = running.robot.scene.messages(1)['image']
                message.encoding = 'nonsense'
                callback(message)
            return subscription

        monkeypatch.setattr(node, 'create_subscription', create_and_receive)
        assert node.trigger_activate().name == 'SUCCESS'
        assert node._session.synchronizer.statistics.malformed == {'image': 1}


@pytest.mark.parametrize('part', ['_requests', '_outputs', '_transforms', '_session'])
def test_a_part_that_cannot_be_let_go_does_not_keep_the_others(monkeypatch, capfd, part):
    with graph() as running:
        node = running.node
        parts = {name: getattr(node, name) for name in ('_requests', '_outputs', '_transforms')}
        closed = []
        for name, other in {**parts, '_session': node._session}.items():
            close = other.close

            def closing(*arguments, name=name, close=close):
                closed.append(name)
                close(*arguments)
                if name == part:
                    raise OSError('of the middleware')

            monkeypatch.setattr(other, 'close', closing)
        assert node.trigger_shutdown().name == 'SUCCESS'
        assert sorted(closed) == ['_outputs', '_requests', '_session', '_transforms']
        assert 'of the middleware' in capfd.readouterr().err
        assert 'nvs worker' not in {thread.name for thread in threading.enumerate()}


def test_settings_that_the_model_does_not_bear_are_refused():
    """They would do for the paper's defaults, but the model brings boundaries of its own."""

    class Tuned(LightSynthesizer):
        def preset(self, name, **overrides):
            return preset(name, {'stage_boundaries': (200, 950)}, **overrides)

    with graph(load=lambda *_: Tuned()) as running:
        (result,) = running.node.set_parameters([Parameter('sampler.early_steps', value=100)])
        assert not result.successful
        assert 'early_steps: expected at most the 50 timesteps' in result.reason
    with graph({'sampler.early_steps': 100}, load=lambda *_: Tuned()) as running:
        assert running.node._state == 'unconfigured'


def test_diagnostics_come_without_a_clock():
    """Simulated time that nobody publishes stands still, and so would a timer on it."""
    with graph({'use_sim_time': True}) as running:
        received = running.robot.subscribe(DiagnosticArray, '/diagnostics')
        status = status_until(received, lambda status: 'nothing on /image' in status.message)
        assert status.level == DiagnosticStatus.WARN


def test_diagnostics_while_the_worker_adds_to_them(health):
    running, received = health

    class Seconds(float):
        def __format__(self, spec):
            running.record(f'stage {next(numbers)}', 0.0)  # as another thread may at any moment
            return super().__format__(spec)

    numbers = iter(range(1000))
    running.record('first', Seconds(1.0))
    running.record('second', Seconds(2.0))
    status = status_until(received, lambda status: len(status.values) > 3)
    assert status.level == DiagnosticStatus.OK


def test_a_state_that_cannot_be_told_is_an_error_and_the_next_one_is_told(health):
    running, received = health
    running.fault = RuntimeError('CUDA error: unspecified launch failure')
    status = status_until(received, lambda status: status.level == DiagnosticStatus.ERROR)
    assert 'unspecified launch failure' in status.message
    running.fault = None
    status_until(received, lambda status: status.level == DiagnosticStatus.OK)


@pytest.fixture
def health():
    """Diagnostics of a node that does nothing else."""

    class Told(Health):
        fault = None

        def tell(self):
            if self.fault is not None:
                raise self.fault
            return DiagnosticStatus.OK, 'fine', {}

    with graph({'autostart': False}) as running:
        node = Node('told', context=running.context)
        health = Told(node, lambda: health.tell())
        robot = running.robot
        received = queue.Queue()

        def take(array):
            if array.status[0].hardware_id == 'told':
                received.put(array)

        robot.node.create_subscription(DiagnosticArray, '/diagnostics', take, 10)
        running.executor.add_node(node)
        yield health, received
        running.executor.remove_node(node)
        node.destroy_node()
