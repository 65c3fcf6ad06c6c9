"""Confidence: calibrated, monotone, and what it is made of."""

import dataclasses

import numpy as np
import pytest
from completion_scene import Seen, box
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from nvs_ros.completion.confidence import (
    SIGNS,
    Calibration,
    Evidence,
    evidence_of,
    fit_calibration,
    reliability,
)
from nvs_ros.completion.cycle import CycleCheck
from nvs_ros.errors import UserError
from nvs_ros.zero123.profile import ModelProfile, read_profile

BEFORE = Evidence(0.8, 0.1, 0.9, 0.1, 0.5, 0.5, 0.2)


def views(count, seed=0):
    """Evidence of made-up views, and their true IoU: of agreement and cycle, and noise."""
    rng = np.random.default_rng(seed)
    evidence = [Evidence(*rng.random(7)) for _ in range(count)]
    score = [4 * (e.agreement - 0.5) + 3 * (e.cycle_iou - 0.5) for e in evidence]
    return evidence, np.clip(expit(score) + rng.normal(0, 0.02, count), 0, 1)


def test_a_fit_finds_what_the_truth_follows_from():
    evidence, iou = views(2000)
    calibration = fit_calibration(evidence, iou)
    assert calibration.weights['agreement'] == pytest.approx(4, rel=0.1)
    assert calibration.weights['cycle_iou'] == pytest.approx(3, rel=0.1)
    assert abs(calibration.weights['spread']) < 0.2
    others, truth = views(500, seed=1)
    confidences = [calibration.confidence(e) for e in others]
    _, error = reliability(confidences, truth)
    assert error < 0.01
    _, shifted = reliability(np.clip(np.array(confidences) - 0.2, 0, 1), truth)
    assert shifted > 0.1


@given(
    st.sampled_from(sorted(SIGNS)),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_better_evidence_never_lowers_the_confidence(name, change, seed):
    evidence, iou = views(40, seed)
    calibration = fit_calibration(evidence, 1 - iou)  # a truth that runs against it
    after = BEFORE._replace(**{name: getattr(BEFORE, name) + SIGNS[name] * change})
    assert calibration.confidence(after) >= calibration.confidence(BEFORE)
    assert 0 <= calibration.confidence(after) <= 1


def test_reliability_is_what_it_says():
    rows, error = reliability([0.1, 0.2, 0.8, 0.9], [0.3, 0.4, 0.6, 0.7], bins=2)
    assert [row.views for row in rows] == [2, 2]
    assert rows[0].confidence == pytest.approx(0.15) and rows[0].iou == pytest.approx(0.35)
    assert error == pytest.approx(0.2)


def test_a_calibration_goes_through_the_profile_of_a_model():
    calibration = fit_calibration(*views(50))
    profile = read_profile('zero123', {'confidence': calibration.profile()}, 'here')
    assert Calibration.from_profile(profile.confidence) == calibration
    assert Calibration.from_profile(ModelProfile().confidence) is None


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'agreement': -1.0}, 'no negative weight of agreement'),
        ({'spread': 1.0}, 'only negative weight of spread'),
        ({'side': float('nan')}, 'finite number as side'),
        ({'bias': 'high'}, 'finite number as bias'),
        ({'luck': 1.0}, 'luck'),
    ],
)
def test_what_is_no_calibration_is_refused(change, words):
    values = {**fit_calibration(*views(50)).profile(), **change}
    with pytest.raises(ValueError, match=words):
        Calibration.from_profile(values)


def test_a_profile_with_another_field_is_refused():
    with pytest.raises(UserError, match='trust'):
        read_profile('zero123', {'trust': {}}, 'here')


def test_evidence_of_a_view():
    seen = Seen(box(), [np.pi / 2, np.pi])
    empty = np.zeros_like(seen.estimates[0].masks[0])
    half = dataclasses.replace(
        seen.estimates[0], masks=np.stack([seen.estimates[0].masks[0], empty])
    )
    beside = evidence_of(half, CycleCheck(0.7, 0.2))
    assert beside == pytest.approx(Evidence(0.0, 0.0, 0.7, 0.2, 1.0, 0.5, 0.0), abs=1e-6)
    behind = evidence_of(seen.estimates[1], CycleCheck(0.7, 0.2))
    assert behind == pytest.approx(Evidence(1.0, 0.0, 0.7, 0.2, 0.0, 1.0, 0.0), abs=1e-6)


def test_an_estimate_knows_where_its_seeds_differ():
    seen = Seen(box(), [np.pi / 2])
    (same,) = seen.estimates
    assert not same.std.any() and same.agreement == 1 and same.spread == 0
    images, masks = same.images.copy(), same.masks.copy()
    images[1, 30:34, 30:34] = 0
    masks[1, :32] = 0
    other = dataclasses.replace(same, images=images, masks=masks)
    difference = same.images[0, 30:34, 30:34] / 255
    expected = np.sqrt(np.square(difference).mean(-1) / 2)  # of two values, one of them 0
    assert other.std[30:34, 30:34] == pytest.approx(expected, rel=1e-5)
    assert other.probability[20, 32] == 0.5 and other.probability[40, 32] == 1
    kept = (masks[1] > 127).sum() / (masks[0] > 127).sum()
    assert other.agreement == pytest.approx(kept)
