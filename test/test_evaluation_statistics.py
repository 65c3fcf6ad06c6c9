import numpy as np
import pytest
from scipy import stats

from nvs_ros.evaluation.statistics import (
    mean_and_interval,
    object_scores,
    paired,
    seed_deviation,
)


def record(method, psnr, *, target=1, seed=0, turn=90.0):
    return {
        'method': method,
        'source': 0,
        'target': target,
        'seed': seed,
        'delta_azimuth_deg': turn,
        'psnr': psnr,
    }


def results(objects):
    return [{'object': i, 'records': records} for i, records in enumerate(objects)]


def test_interval_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(0.3, 1, 20)
    mean, low, high = mean_and_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean_and_interval(np.array([2.0, np.nan])) == [2.0, None, None]
    assert mean_and_interval(np.array([np.nan])) is None


def test_more_views_of_the_same_objects_do_not_narrow_the_interval():
    few = [[record('a', value), record('b', 0.0)] for value in (1.0, 2.0, 4.0)]
    many = [
        [
            record(each['method'], each['psnr'], target=target, seed=seed)
            for each in records
            for target in (1, 2)
            for seed in (0, 1)
        ]
        for records in few
    ]
    one, other = (paired(object_scores(results(x)), 'a', 'b')['psnr'] for x in (few, many))
    assert one == pytest.approx(other)
    assert one[0] == pytest.approx(7 / 3)


def test_difference_is_taken_object_by_object():
    """Objects differ by 20 dB, the methods by 1: unpaired nothing could be told."""
    objects = [[record('a', base + 1.0), record('b', base)] for base in (5.0, 15.0, 25.0)]
    mean, low, high = paired(object_scores(results(objects)), 'a', 'b')['psnr']
    assert (mean, low, high) == pytest.approx((1, 1, 1))


def test_splits_are_by_size_of_the_azimuth_change():
    objects = [[record('a', 1.0, turn=-30.0), record('a', 3.0, turn=-100.0)], [record('a', 5.0)]]
    for split, expected in (
        ('all', [2, 5]),
        ('0_45', [1, np.nan]),
        ('over_45', [3, 5]),
        ('45_90', [np.nan, 5]),
        ('90_135', [3, np.nan]),
    ):
        values = object_scores(results(objects), split)['a']['psnr']
        np.testing.assert_array_equal(values, expected, err_msg=split)


def test_seed_deviation_is_within_a_view():
    far_apart = [
        [record('a', base + step, seed=seed) for seed, step in enumerate((0.0, 2.0))]
        for base in (0.0, 100.0)
    ]
    assert seed_deviation(results(far_apart), 'a')['psnr'] == pytest.approx(np.sqrt(2))
    assert seed_deviation(results([[record('a', 1.0)]]), 'a') is None
