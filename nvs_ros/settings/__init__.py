"""Settings: each declared once, in groups."""

from nvs_ros.settings.cluster import ClusterSettings
from nvs_ros.settings.declaration import Settings, setting
from nvs_ros.settings.node import (
    DEFAULT_PRESET,
    SEEDS,
    CompletionSettings,
    InputSettings,
    LimitSettings,
    MemorySettings,
    ModelSettings,
    NodeSettings,
    ObjectSettings,
    RequestSettings,
    SyncSettings,
    ViewSettings,
)
from nvs_ros.settings.sampler import SamplerSettings

__all__ = [
    'ClusterSettings',
    'CompletionSettings',
    'DEFAULT_PRESET',
    'InputSettings',
    'LimitSettings',
    'MemorySettings',
    'ModelSettings',
    'NodeSettings',
    'ObjectSettings',
    'RequestSettings',
    'SEEDS',
    'SamplerSettings',
    'Settings',
    'SyncSettings',
    'ViewSettings',
    'setting',
]
