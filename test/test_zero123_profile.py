import dataclasses
import json
import math

import pytest

from nvs_ros.errors import UserError
from nvs_ros.zero123.layout import KINDS, STABLE_ZERO123, ZERO123, ZERO123_XL
from nvs_ros.zero123.profile import PROFILES, read_profile


def test_the_first_checkpoint_ends_mutual_self_attention_at_700_and_xl_at_600():
    assert PROFILES[ZERO123].sampler == PROFILES[STABLE_ZERO123].sampler
    assert PROFILES[ZERO123].sampler['msa_window'] == (700, 1000)
    assert 'msa_window' not in PROFILES[ZERO123_XL].sampler
    assert set(PROFILES) == set(KINDS)


def test_a_model_says_what_differs_from_its_kind():
    profile = read_profile(ZERO123, {'radius': [1.6, 2.0], 'elevation_deg': [0, 50]}, 'mine')
    assert profile.radius == (1.6, 2.0)
    assert profile.sampler == PROFILES[ZERO123].sampler
    assert profile.trained.radius == (1.6, 2.0)
    assert profile.trained.elevation_rad == pytest.approx((0, math.radians(50)))


def test_a_profile_survives_json():
    first = PROFILES[ZERO123]
    values = json.loads(json.dumps(dataclasses.asdict(first)))
    assert read_profile(ZERO123, values, 'mine') == first


def test_an_unknown_field_is_named():
    with pytest.raises(UserError, match="found \\['radios'\\]"):
        read_profile(ZERO123, {'radios': 1}, 'mine')


@pytest.mark.parametrize(
    'values',
    [
        {'radius': 5},
        {'radius': ['near', 'far']},
        {'radius': [2.0, 1.5]},
        {'elevation_deg': [0, 1, 2]},
        {'photograph_fill': 'all'},
        {'photograph_fill': 1.5},
        {'sampler': 3},
        {'sampler': {'temperature': 1}},
        {'sampler': {'eta': 7}},
    ],
)
def test_a_value_that_cannot_be_is_refused(values):
    with pytest.raises(UserError, match='mine: expected a usable profile'):
        read_profile(ZERO123, values, 'mine')
