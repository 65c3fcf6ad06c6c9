"""Transforms of a bag, known all at once: at the time of each frame, and no other.

Under tf2_ros where there is one, else under a light one.
"""

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from nvs_ros.bag import transforms as recorded
from nvs_ros.geometry import rigid
from nvs_ros.messages import transforms
from nvs_ros.messages.transforms import UnknownTransform
from nvs_ros.testing import light_tf2

S = 10**9
EPOCH_NS = 1_800_000_000 * S


def at(x):
    return rigid(np.eye(3), [x, 0.0, 0.0])


def moving(stamp_ns, x, child='camera', parent='base'):
    return light_tf2.message(parent, child, stamp_ns, at(x)), False


def static(x, child='camera', parent='base', stamp_ns=0):
    return light_tf2.message(parent, child, stamp_ns, at(x)), True


@pytest.fixture
def bag(monkeypatch):
    """Makes the transforms of a bag that holds these messages, in this order."""
    if transforms.tf2_ros is None:
        monkeypatch.setattr(transforms, 'tf2_ros', light_tf2)

    def make(*messages):
        monkeypatch.setattr(recorded, 'recorded_transforms', lambda *_: iter(messages))
        return recorded.BagTransforms(Path('bag.mcap'))

    return make


def x(found, stamp_ns, child='camera', parent='base'):
    return found.lookup(parent, child, stamp_ns)[0, 3]


def test_a_frame_is_looked_up_at_its_own_time_however_long_the_bag(bag):
    """Two hours, the clock set back in between, each time to be found to the end."""
    ns = [EPOCH_NS + i * 60 * S for i in range(120)]
    found = bag(*(moving(stamp_ns, i) for i, stamp_ns in enumerate(ns)), moving(5 * S, -1.0))
    for i in (0, 1, 60, 119):
        assert x(found, ns[i]) == pytest.approx(i)
    assert x(found, ns[7] + 30 * S) == pytest.approx(7.5)
    assert x(found, 5 * S) == pytest.approx(-1.0)


@pytest.mark.parametrize('shift_s', [-1, 11])
def test_beyond_what_was_recorded_nothing_is_known(bag, shift_s):
    found = bag(moving(EPOCH_NS, 0.0), moving(EPOCH_NS + 10 * S, 1.0))
    with pytest.raises(UnknownTransform, match='extrapolation'):
        x(found, EPOCH_NS + shift_s * S)


@pytest.mark.parametrize('where', [0, 1, 2, 3])
def test_where_a_frame_moves_its_static_transform_does_not_count(bag, where):
    """Whichever of them was recorded first; and it is said."""
    messages = [moving(EPOCH_NS + i * S, i) for i in range(3)]
    messages.insert(where, static(9.0))
    found = bag(*messages)
    assert [x(found, EPOCH_NS + i * S) for i in range(3)] == pytest.approx([0, 1, 2])
    (note,) = found.notes
    assert '/tf_static' in note
    assert 'camera' in note
    with pytest.raises(UnknownTransform):
        x(found, EPOCH_NS + 3 * S)


def test_a_static_transform_holds_at_all_times(bag):
    found = bag(moving(EPOCH_NS, 1.0), static(0.5, 'eye', 'camera', EPOCH_NS + 5 * S))
    assert x(found, EPOCH_NS, 'eye') == pytest.approx(1.5)
    assert found.notes == []


def test_static_transforms_that_contradict_each_other_are_told(bag):
    same = bag(static(1.0, stamp_ns=1), static(1.0, stamp_ns=2))
    assert same.notes == []
    found = bag(static(1.0), static(1.0, child='arm'), static(2.0))
    assert x(found, EPOCH_NS) == pytest.approx(2.0)
    (note,) = found.notes
    assert note.endswith('for camera')


def test_a_frame_without_a_stamp_is_not_given_the_end_of_the_bag(bag):
    found = bag(moving(EPOCH_NS, 1.0), moving(EPOCH_NS + S, 2.0), static(0.5, 'eye', 'hand'))
    with pytest.raises(UnknownTransform, match='the stamp is 0'):
        x(found, 0)
    assert x(found, 0, 'eye', 'hand') == pytest.approx(0.5)


def test_malformed_transforms_are_counted_and_spoil_nothing(bag):
    bad = [moving(EPOCH_NS, value)[0] for value in (math.nan, 7.0, 7.0, 7.0)]
    bad[1].transform.rotation.w = 0.0
    bad[2].child_frame_id = ''
    bad[3].child_frame_id = '/base'
    found = bag(static(1.0), *((message, False) for message in bad))
    assert x(found, EPOCH_NS) == pytest.approx(1.0)
    assert found.notes == ['4 malformed transforms left out']


@pytest.mark.skipif(transforms.tf2_ros is None, reason='no tf2_msgs')
def test_they_are_read_from_the_bag(tmp_path):
    from tf2_msgs.msg import TFMessage

    from nvs_ros.bag.writer import BagWriter

    messages = [moving(EPOCH_NS, 1.0), static(9.0), moving(EPOCH_NS + S, 2.0)]
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for i, (message, is_static) in enumerate(messages):
            topic = '/tf_static' if is_static else '/tf'
            writer.write(topic, EPOCH_NS + i, TFMessage(transforms=[message]))
    found = recorded.BagTransforms(tmp_path / 'in.mcap')
    assert x(found, EPOCH_NS) == pytest.approx(1.0)
    assert len(found.notes) == 1
