"""What is made for tf2, and what is left of it at cleanup.

Under tf2_ros where there is one, else under a light one that is made of the same ROS parts.
"""

import gc
import weakref

import pytest

pytest.importorskip('rclpy')

import light_tf2
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from robot import DOMAINS, LightSynthesizer

from nvs_ros.node import transforms
from nvs_ros.node.view_node import ViewNode


@pytest.fixture(autouse=True)
def tf2(monkeypatch):
    """The real tf2_ros, or the light one in its place."""
    if transforms.tf2_ros is None:
        monkeypatch.setattr(transforms, 'tf2_ros', light_tf2)
    return transforms.tf2_ros


def parts(node):
    """Everything of the graph that a node holds."""
    kinds = ('publishers', 'subscriptions', 'services', 'clients', 'timers', 'waitables')
    return {kind: len(list(getattr(node, kind))) for kind in kinds}


@pytest.fixture
def node():
    """A view node that nobody spins."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=next(DOMAINS))
    made = ViewNode(lambda settings, log: LightSynthesizer(), context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def test_nothing_is_left_of_tf_after_cleanup(node, capfd):
    before = parts(node)
    for _ in range(3):
        node.trigger_configure()
        buffer = weakref.ref(node._transforms._buffer)
        node.trigger_cleanup()
        assert parts(node) == before
        gc.collect()
        assert buffer() is None
    # The clock jumps: nobody is told who has gone.
    for is_simulated in (True, False):
        node.set_parameters([Parameter('use_sim_time', value=is_simulated)])
    assert 'jump' not in capfd.readouterr().err


def test_nothing_is_left_of_tf_when_it_cannot_be_had(node, monkeypatch, tf2):
    def fail(node):
        raise RuntimeError('no broadcaster')

    monkeypatch.setattr(tf2, 'TransformBroadcaster', fail)
    before = parts(node)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert parts(node) == before
