"""Zero-to-Hero as a plug-in for diffusers: a scheduler, attention processors and a sampler.

Sobol, Xu, Litany, *Zero-to-Hero: Enhancing Zero-Shot Novel View Synthesis via Attention Map
Filtering*, NeurIPS 2024.
"""

from nvs_ros.hero.filtering import AttentionMapFilter, attention_map_filtering
from nvs_ros.hero.presets import PRESETS, preset
from nvs_ros.hero.sampler import sample
from nvs_ros.hero.scheduler import HourglassDDIMScheduler

__all__ = [
    'PRESETS',
    'AttentionMapFilter',
    'HourglassDDIMScheduler',
    'attention_map_filtering',
    'preset',
    'sample',
]
