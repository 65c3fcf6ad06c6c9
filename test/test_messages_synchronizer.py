"""Matching of messages to frames, the slot for the newest, and the counts."""

import time

import pytest

from nvs_ros.messages.synchronizer import Synchronizer

INPUTS = ('image', 'camera_info', 'mask')
MILLISECOND = 1_000_000


class Clock:
    """A clock that is set by hand."""

    now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def frames():
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def synchronizer(frames, clock):
    return Synchronizer(INPUTS, 0.01, 4, lambda: frames.append(1), clock, 100)


def add_frame(synchronizer, stamp_ns, content='x'):
    for name in INPUTS:
        synchronizer.add(name, stamp_ns, f'{name} {content}')


def balance(synchronizer):
    counts = synchronizer.statistics
    return counts.used + counts.dropped.total() + synchronizer.waiting()


def test_a_frame_is_complete_whatever_the_order(synchronizer, frames):
    orders = (INPUTS, INPUTS[::-1], ('mask', 'image', 'camera_info'))
    for second, order in enumerate(orders):
        for name in order:
            assert synchronizer.take() is None
            synchronizer.add(name, second * 10**9, name)
        frame = synchronizer.take()
        assert frame.messages == {name: name for name in INPUTS}
        assert (frame.stamp_ns, frame.arrival_s) == (second * 10**9, 5.0)
    assert len(frames) == 3


def test_partners_must_be_within_the_slop(synchronizer):
    synchronizer.add('image', 0, 'image')
    synchronizer.add('mask', 10 * MILLISECOND, 'mask')
    synchronizer.add('camera_info', 10 * MILLISECOND + 1, 'late')
    assert synchronizer.take() is None
    assert synchronizer.smallest_gap_s('camera_info') == pytest.approx(0.010000001)
    synchronizer.add('camera_info', -10 * MILLISECOND, 'info')
    assert synchronizer.take().messages['camera_info'] == 'info'


def test_the_closest_partner_is_taken(synchronizer):
    synchronizer.add('camera_info', 0, 'info')
    for offset in (-6, 2, 5):
        synchronizer.add('mask', offset * MILLISECOND, offset)
    synchronizer.add('image', 0, 'image')
    assert synchronizer.take().messages['mask'] == 2


def test_the_newest_frame_wins_and_the_other_is_counted(synchronizer):
    add_frame(synchronizer, 100, 'old')
    add_frame(synchronizer, 200 * MILLISECOND, 'new')
    assert synchronizer.take().messages['image'] == 'image new'
    assert synchronizer.take() is None
    assert synchronizer.statistics.dropped == {'superseded by a newer frame': 1}
    synchronizer.count_used()
    assert balance(synchronizer) == synchronizer.statistics.images == 2


def test_order_of_arrival_counts_not_the_stamp(synchronizer):
    add_frame(synchronizer, 10**18, 'from the future')
    add_frame(synchronizer, 5, 'now')
    assert synchronizer.take().messages['image'] == 'image now'
    assert synchronizer.newest.stamp_ns == 5


def test_a_late_mask_still_finds_its_image(synchronizer):
    for i in range(3):
        synchronizer.add('image', i * 33 * MILLISECOND, i)
        synchronizer.add('camera_info', i * 33 * MILLISECOND, i)
    synchronizer.add('mask', 33 * MILLISECOND, 'mask')
    assert synchronizer.take().messages['image'] == 1
    assert synchronizer.statistics.dropped == {'no mask of its stamp': 1}


def test_what_waits_too_long_is_let_go_and_the_missing_input_named(synchronizer):
    for i in range(50):
        synchronizer._clock.now_s = float(i)
        synchronizer.add('image', i * 10**9, 'image')
        synchronizer.add('mask', i * 10**9, 'mask')
    assert synchronizer.waiting() == 5  # of the last four seconds
    assert synchronizer.statistics.dropped == {'no camera_info of its stamp': 45}
    assert balance(synchronizer) == synchronizer.statistics.images == 50


def test_memory_is_bounded_in_bytes(synchronizer):
    for i in range(50):
        synchronizer._clock.now_s = 5 + i / 100
        synchronizer.add('image', i * 10**9, 'image', size=20)
        synchronizer.add('mask', i * 10**9, 'mask', size=5)
    assert synchronizer.waiting() == 4  # 4 * (20 + 5) = 100
    assert balance(synchronizer) == synchronizer.statistics.images == 50
    synchronizer.add('camera_info', 45 * 10**9, 'info')
    assert synchronizer.lateness_s('camera_info') == synchronizer.crowded_s('camera_info')
    assert synchronizer.crowded_s('camera_info') == pytest.approx(0.04)
    synchronizer.add('image', 0, 'larger than all the room', size=101)
    synchronizer.add('camera_info', 0, 'info')
    synchronizer.add('mask', 0, 'mask', size=5)
    assert synchronizer.take().messages['image'] == 'larger than all the room'


def slow_segmentation(synchronizer, delay_s, seconds=20, hz=30, offset_ns=0):
    """A mask a second, so much later than its image; the stamps of image and mask of each frame."""
    late, pairs = [], []
    for i in range(seconds * hz):
        stamp_ns = i * 10**9 // hz
        synchronizer._clock.now_s = stamp_ns * 1e-9
        for name in ('camera_info', 'image'):
            synchronizer.add(name, stamp_ns, stamp_ns, size=1)
        if i % hz == 0:
            late.append(stamp_ns)
        while late and stamp_ns - late[0] >= delay_s * 1e9:
            mask_ns = late.pop(0) + offset_ns
            synchronizer.add('mask', mask_ns, mask_ns, size=1)
            if frame := synchronizer.take():
                pairs.append((frame.messages['image'], frame.messages['mask']))
    return pairs


@pytest.mark.parametrize('delay_s', [0, 1, 2, 3.9])
def test_a_slow_segmentation_finds_its_images(delay_s):
    synchronizer = Synchronizer(INPUTS, 0.01, 4, lambda: None, Clock())
    pairs = slow_segmentation(synchronizer, delay_s)
    assert pairs == [(n * 10**9, n * 10**9) for n in range(len(pairs))]
    assert len(pairs) == 20 - int(delay_s)
    assert synchronizer.lateness_s('mask') is None


def test_a_mask_that_comes_too_late_is_told_from_one_of_another_stamp():
    late = Synchronizer(INPUTS, 0.01, 4, lambda: None, Clock())
    assert not slow_segmentation(late, 6)
    assert late.lateness_s('mask') == pytest.approx(6)
    assert late.smallest_gap_s('mask') == 0
    assert late.crowded_s('mask') is None
    foreign = Synchronizer(INPUTS, 0.01, 4, lambda: None, Clock())
    assert not slow_segmentation(foreign, 1, offset_ns=16 * MILLISECOND)
    assert foreign.lateness_s('mask') is None
    assert foreign.smallest_gap_s('mask') == pytest.approx(0.016)


@pytest.mark.parametrize('late', ['mask', 'image'])
def test_what_was_late_once_does_not_explain_what_goes_wrong_later(late):
    synchronizer = Synchronizer(('image', 'mask'), 0.01, 1, lambda: None, Clock())
    (other,) = {'image', 'mask'} - {late}
    synchronizer.add(other, 0, other)
    synchronizer._clock.now_s += 3
    synchronizer.add(other, 3 * 10**9, other)
    synchronizer.add(late, 0, late)
    assert (synchronizer.lateness_s(late), synchronizer.smallest_gap_s('mask')) == (3, 0)
    for i in range(10, 30):
        synchronizer._clock.now_s += 1
        synchronizer.add('image', i * 10**9, 'image')
        synchronizer.add('mask', i * 10**9 + 50 * MILLISECOND, 'mask')
    assert synchronizer.lateness_s(late) is None
    assert synchronizer.smallest_gap_s('mask') == pytest.approx(0.05)


def test_want_of_room_is_named_only_for_what_went_for_it():
    synchronizer = Synchronizer(('image', 'mask'), 0.01, 4, lambda: None, Clock(), 100)
    for i in range(3):
        synchronizer.add('image', i * 10**9, 'image', size=60)
        synchronizer._clock.now_s += 0.5
    synchronizer.add('mask', 0, 'mask', size=1)
    assert (synchronizer.lateness_s('mask'), synchronizer.crowded_s('mask')) == (1.5, 0.5)
    synchronizer._clock.now_s += 5
    synchronizer.add('image', 9 * 10**9, 'image', size=10)
    synchronizer.add('mask', 2 * 10**9, 'mask', size=1)
    assert (synchronizer.lateness_s('mask'), synchronizer.crowded_s('mask')) == (5.5, None)


def test_an_image_that_comes_too_late_is_named(synchronizer):
    synchronizer.add('camera_info', 0, 'info')
    synchronizer.add('mask', 0, 'mask')
    synchronizer._clock.now_s += 7
    synchronizer.add('mask', 7 * 10**9, 'mask')
    synchronizer.add('image', 0, 'image')
    assert synchronizer.lateness_s('image') == pytest.approx(7)


def test_a_wide_slop_gives_a_mask_to_the_closest_image_and_to_no_other():
    """It is above the image period, which is not advised."""
    synchronizer = Synchronizer(INPUTS, 0.9, 4, lambda: None, Clock())
    pairs = slow_segmentation(synchronizer, 2)
    assert pairs == [(n * 10**9, n * 10**9) for n in range(18)]


def test_partners_that_come_before_their_image_stay_as_long_as_it(synchronizer):
    synchronizer.add('camera_info', 0, 'info')
    synchronizer._clock.now_s += 0.5
    synchronizer.add('image', 0, 'image')
    synchronizer._clock.now_s += 3.9
    synchronizer.add('mask', 0, 'mask')
    assert synchronizer.take() is not None


def test_many_small_messages_cost_little():
    """A pose at 1 kHz beside images whose mask never comes: of the order of 10 us each."""
    synchronizer = Synchronizer(('image', 'pose', 'mask'), 0.01, 10, lambda: None, Clock())
    started_s = time.process_time()
    for i in range(10_000):
        synchronizer._clock.now_s = i * 1e-3
        synchronizer.add('pose', i * MILLISECOND, 'pose')
        if i % 33 == 0:
            synchronizer.add('image', i * MILLISECOND, 'image', size=1)
    assert synchronizer.smallest_gap_s('pose') == 0
    assert time.process_time() - started_s < 3


def test_how_long_a_stamp_has_not_changed(synchronizer, clock):
    assert synchronizer.unchanged_s('image') is None
    for second in range(4):
        clock.now_s = second
        synchronizer.add('image', 7, 'image')
        synchronizer.add('mask', second, 'mask')
    assert synchronizer.unchanged_s('image') == (7, 3.0)
    assert synchronizer.unchanged_s('mask') == (3, 0.0)
    synchronizer.add('image', 8, 'image')
    assert synchronizer.unchanged_s('image') == (8, 0.0)


def test_malformed_images_are_counted(synchronizer):
    synchronizer.add_malformed('image')
    synchronizer.add_malformed('mask')
    counts = synchronizer.statistics
    assert counts.malformed == {'image': 1, 'mask': 1}
    assert balance(synchronizer) == counts.images == 1
