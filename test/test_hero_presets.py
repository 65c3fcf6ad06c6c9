"""Settings of the method and the presets."""

import dataclasses

import pytest

from nvs_ros.hero import PRESETS, preset
from nvs_ros.settings import SamplerSettings


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('alpha_c', 1.5),
        ('alpha_h', -0.1),
        ('alpha_i', float('nan')),
        ('pooling', 'max'),
        ('schedule', 'linear'),
        ('resampling_passes', 0),
        ('resampling_window', (1000, 800)),
        ('in_step_window', (900, 100)),
        ('cross_step_window', (2, 1)),
        ('msa_window', (600, 1001)),
        ('stage_boundaries', (800, 200)),
        ('early_steps', 201),
        ('middle_steps', 0),
        ('guidance_scale', 0.5),
        ('eta', 2.0),
        ('map_dtype', 'bfloat16'),
        ('filtering', 'yes'),
    ],
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError) as error:
        preset(**{field: value})
    wrong = value[1] if field == 'msa_window' else value
    assert field in str(error.value) and str(wrong) in str(error.value)


def test_presets_are_the_ladder_of_the_paper():
    def parts(settings):
        return (
            settings.schedule == 'hourglass',
            settings.resampling_passes > 1,
            settings.filtering,
            settings.mutual_self_attention,
        )

    assert {name: parts(settings) for name, settings in PRESETS.items()} == {
        'zero123': (False, False, False, False),
        'hourglass': (True, False, False, False),
        'resample': (True, True, False, False),
        'amf': (True, True, True, False),
        'msa': (True, False, False, True),
        'zero-to-hero': (True, True, True, True),
        'learned': (True, False, True, False),
        'fast': (True, False, False, False),
    }
    assert preset() == preset('zero-to-hero') == SamplerSettings()


def test_presets_cannot_be_changed_but_overridden():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset().alpha_c = 0.5
    with pytest.raises(TypeError):
        PRESETS['mine'] = SamplerSettings()
    assert preset('amf', alpha_c=0.5).alpha_c == 0.5 and preset('amf').alpha_c == 0.2
    with pytest.raises(ValueError, match='hero-to-zero'):
        preset('hero-to-zero')
    with pytest.raises(ValueError, match='alpha_x'):
        preset(alpha_x=1)


def test_a_model_tunes_what_a_preset_leaves_open():
    tuned = {'resampling_passes': 3, 'guidance_scale': 2.0}
    assert preset('hourglass', tuned) == preset('hourglass', guidance_scale=2.0)
    assert preset('resample', tuned) == preset('resample', resampling_passes=3, guidance_scale=2.0)
    assert preset('resample', tuned, resampling_passes=4).resampling_passes == 4
