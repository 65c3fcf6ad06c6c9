"""Matching of messages to frames, the slot for the newest, and the counts."""

import time

import pytest

from nvs_ros.messages.synchronizer import Intake

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
def intake(frames, clock):
    return Intake(INPUTS, 0.01, 4, lambda: frames.append(1), clock, 100)


def add_frame(intake, stamp_ns, content='x'):
    for name in INPUTS:
        intake.add(name, stamp_ns, f'{name} {content}')


def balance(intake):
    counts = intake.statistics
    return counts.used + counts.dropped.total() + intake.waiting()


def test_a_frame_is_complete_whatever_the_order(intake, frames):
    orders = (INPUTS, INPUTS[::-1], ('mask', 'image', 'camera_info'))
    for second, order in enumerate(orders):
        for name in order:
            assert intake.take() is None
            intake.add(name, second * 10**9, name)
        frame = intake.take()
        assert frame.messages == {name: name for name in INPUTS}
        assert (frame.stamp_ns, frame.arrival_s) == (second * 10**9, 5.0)
    assert len(frames) == 3


def test_partners_must_be_within_the_slop(intake):
    intake.add('image', 0, 'image')
    intake.add('mask', 10 * MILLISECOND, 'mask')
    intake.add('camera_info', 10 * MILLISECOND + 1, 'late')
    assert intake.take() is None
    assert intake.smallest_gap_s('camera_info') == pytest.approx(0.010000001)
    intake.add('camera_info', -10 * MILLISECOND, 'info')
    assert intake.take().messages['camera_info'] == 'info'


def test_the_closest_partner_is_taken(intake):
    intake.add('camera_info', 0, 'info')
    for offset in (-6, 2, 5):
        intake.add('mask', offset * MILLISECOND, offset)
    intake.add('image', 0, 'image')
    assert intake.take().messages['mask'] == 2


def test_the_newest_frame_wins_and_the_other_is_counted(intake):
    add_frame(intake, 100, 'old')
    add_frame(intake, 200 * MILLISECOND, 'new')
    assert intake.take().messages['image'] == 'image new'
    assert intake.take() is None
    assert intake.statistics.dropped == {'superseded by a newer frame': 1}
    intake.count_used()
    assert balance(intake) == intake.statistics.images == 2


def test_order_of_arrival_counts_not_the_stamp(intake):
    add_frame(intake, 10**18, 'from the future')
    add_frame(intake, 5, 'now')
    assert intake.take().messages['image'] == 'image now'
    assert intake.newest.stamp_ns == 5


def test_a_late_mask_still_finds_its_image(intake):
    for i in range(3):
        intake.add('image', i * 33 * MILLISECOND, i)
        intake.add('camera_info', i * 33 * MILLISECOND, i)
    intake.add('mask', 33 * MILLISECOND, 'mask')
    assert intake.take().messages['image'] == 1
    assert intake.statistics.dropped == {'no mask of its stamp': 1}


def test_what_waits_too_long_is_let_go_and_the_missing_input_named(intake):
    for i in range(50):
        intake._clock.now_s = float(i)
        intake.add('image', i * 10**9, 'image')
        intake.add('mask', i * 10**9, 'mask')
    assert intake.waiting() == 5  # of the last four seconds
    assert intake.statistics.dropped == {'no camera_info of its stamp': 45}
    assert balance(intake) == intake.statistics.images == 50


def test_memory_is_bounded_in_bytes(intake):
    for i in range(50):
        intake._clock.now_s = 5 + i / 100
        intake.add('image', i * 10**9, 'image', size=20)
        intake.add('mask', i * 10**9, 'mask', size=5)
    assert intake.waiting() == 4  # 4 * (20 + 5) = 100
    assert balance(intake) == intake.statistics.images == 50
    intake.add('camera_info', 45 * 10**9, 'info')
    assert intake.lateness_s('camera_info') == intake.crowded_s('camera_info')
    assert intake.crowded_s('camera_info') == pytest.approx(0.04)
    intake.add('image', 0, 'larger than all the room', size=101)
    intake.add('camera_info', 0, 'info')
    intake.add('mask', 0, 'mask', size=5)
    assert intake.take().messages['image'] == 'larger than all the room'


def slow_segmentation(intake, delay_s, seconds=20, hz=30, offset_ns=0):
    """A mask a second, so much later than its image; the stamps of image and mask of each frame."""
    late, pairs = [], []
    for i in range(seconds * hz):
        stamp_ns = i * 10**9 // hz
        intake._clock.now_s = stamp_ns * 1e-9
        for name in ('camera_info', 'image'):
            intake.add(name, stamp_ns, stamp_ns, size=1)
        if i % hz == 0:
            late.append(stamp_ns)
        while late and stamp_ns - late[0] >= delay_s * 1e9:
            mask_ns = late.pop(0) + offset_ns
            intake.add('mask', mask_ns, mask_ns, size=1)
            if frame := intake.take():
                pairs.append((frame.messages['image'], frame.messages['mask']))
    return pairs


@pytest.mark.parametrize('delay_s', [0, 1, 2, 3.9])
def test_a_slow_segmentation_finds_its_images(delay_s):
    intake = Intake(INPUTS, 0.01, 4, lambda: None, Clock())
    pairs = slow_segmentation(intake, delay_s)
    assert pairs == [(n * 10**9, n * 10**9) for n in range(len(pairs))]
    assert len(pairs) == 20 - int(delay_s)
    assert intake.lateness_s('mask') is None


def test_a_mask_that_comes_too_late_is_told_from_one_of_another_stamp():
    late = Intake(INPUTS, 0.01, 4, lambda: None, Clock())
    assert not slow_segmentation(late, 6)
    assert late.lateness_s('mask') == pytest.approx(6)
    assert late.smallest_gap_s('mask') == 0
    assert late.crowded_s('mask') is None
    foreign = Intake(INPUTS, 0.01, 4, lambda: None, Clock())
    assert not slow_segmentation(foreign, 1, offset_ns=16 * MILLISECOND)
    assert foreign.lateness_s('mask') is None
    assert foreign.smallest_gap_s('mask') == pytest.approx(0.016)


@pytest.mark.parametrize('late', ['mask', 'image'])
def test_what_was_late_once_does_not_explain_what_goes_wrong_later(late):
    intake = Intake(('image', 'mask'), 0.01, 1, lambda: None, Clock())
    (other,) = {'image', 'mask'} - {late}
    intake.add(other, 0, other)
    intake._clock.now_s += 3
    intake.add(other, 3 * 10**9, other)
    intake.add(late, 0, late)
    assert (intake.lateness_s(late), intake.smallest_gap_s('mask')) == (3, 0)
    for i in range(10, 30):
        intake._clock.now_s += 1
        intake.add('image', i * 10**9, 'image')
        intake.add('mask', i * 10**9 + 50 * MILLISECOND, 'mask')
    assert intake.lateness_s(late) is None
    assert intake.smallest_gap_s('mask') == pytest.approx(0.05)


def test_want_of_room_is_named_only_for_what_went_for_it():
    intake = Intake(('image', 'mask'), 0.01, 4, lambda: None, Clock(), 100)
    for i in range(3):
        intake.add('image', i * 10**9, 'image', size=60)
        intake._clock.now_s += 0.5
    intake.add('mask', 0, 'mask', size=1)
    assert (intake.lateness_s('mask'), intake.crowded_s('mask')) == (1.5, 0.5)
    intake._clock.now_s += 5
    intake.add('image', 9 * 10**9, 'image', size=10)
    intake.add('mask', 2 * 10**9, 'mask', size=1)
    assert (intake.lateness_s('mask'), intake.crowded_s('mask')) == (5.5, None)


def test_an_image_that_comes_too_late_is_named(intake):
    intake.add('camera_info', 0, 'info')
    intake.add('mask', 0, 'mask')
    intake._clock.now_s += 7
    intake.add('mask', 7 * 10**9, 'mask')
    intake.add('image', 0, 'image')
    assert intake.lateness_s('image') == pytest.approx(7)


def test_a_wide_slop_gives_a_mask_to_the_closest_image_and_to_no_other():
    """It is above the image period, which is not advised."""
    intake = Intake(INPUTS, 0.9, 4, lambda: None, Clock())
    pairs = slow_segmentation(intake, 2)
    assert pairs == [(n * 10**9, n * 10**9) for n in range(18)]


def test_partners_that_come_before_their_image_stay_as_long_as_it(intake):
    intake.add('camera_info', 0, 'info')
    intake._clock.now_s += 0.5
    intake.add('image', 0, 'image')
    intake._clock.now_s += 3.9
    intake.add('mask', 0, 'mask')
    assert intake.take() is not None


def test_many_small_messages_cost_little():
    """A pose at 1 kHz beside images whose mask never comes: of the order of 10 us each."""
    intake = Intake(('image', 'pose', 'mask'), 0.01, 10, lambda: None, Clock())
    started_s = time.process_time()
    for i in range(10_000):
        intake._clock.now_s = i * 1e-3
        intake.add('pose', i * MILLISECOND, 'pose')
        if i % 33 == 0:
            intake.add('image', i * MILLISECOND, 'image', size=1)
    assert intake.smallest_gap_s('pose') == 0
    assert time.process_time() - started_s < 3


def test_how_long_a_stamp_has_not_changed(intake, clock):
    assert intake.unchanged_s('image') is None
    for second in range(4):
        clock.now_s = second
        intake.add('image', 7, 'image')
        intake.add('mask', second, 'mask')
    assert intake.unchanged_s('image') == (7, 3.0)
    assert intake.unchanged_s('mask') == (3, 0.0)
    intake.add('image', 8, 'image')
    assert intake.unchanged_s('image') == (8, 0.0)


def test_malformed_images_are_counted(intake):
    intake.add_malformed('image')
    intake.add_malformed('mask')
    counts = intake.statistics
    assert counts.malformed == {'image': 1, 'mask': 1}
    assert balance(intake) == counts.images == 1
