"""Zero-to-Hero as a plug-in for diffusers: a scheduler, attention processors and a sampler.

Sobol, Xu, Litany, *Zero-to-Hero: Enhancing Zero-Shot Novel View Synthesis via Attention Map
Filtering*, NeurIPS 2024.
"""

from nvs_ros.hero.filtering import AttentionMapFilter, attention_map_filtering
from nvs_ros.hero.presets import BEYOND_NVS, PRESETS, preset
from nvs_ros.hero.sampler import make_scheduler, sample
from nvs_ros.hero.scheduler import HourglassDDIMScheduler

__all__ = [
    'BEYOND_NVS',
    'PRESETS',
    'AttentionMapFilter',
    'HourglassDDIMScheduler',
    'attention_map_filtering',
    'make_scheduler',
    'preset',
    'sample',
]
