"""Matching of messages to frames, the slot for the newest, and the counts."""

import pytest

from nvs_ros.node.intake import Intake

INPUTS = ('image', 'camera_info', 'mask')
MILLISECOND = 1_000_000


class Clock:
    """A clock that stands still."""

    def __call__(self) -> float:
        return 5.0


@pytest.fixture
def frames():
    return []


@pytest.fixture
def intake(frames):
    return Intake(INPUTS, 0.01, 4, lambda: frames.append(1), Clock())


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


def test_memory_is_bounded_and_the_missing_input_named(intake):
    for i in range(50):
        intake.add('image', i * 10**9, 'image')
        intake.add('mask', i * 10**9, 'mask')
    assert intake.waiting() == 4
    assert intake.statistics.dropped == {'no camera_info of its stamp': 46}
    assert balance(intake) == intake.statistics.images == 50


def test_malformed_images_are_counted(intake):
    intake.add_malformed('image')
    intake.add_malformed('mask')
    counts = intake.statistics
    assert counts.malformed == {'image': 1, 'mask': 1}
    assert balance(intake) == counts.images == 1
