"""How bags are spread over a Ray cluster; options of the command ``process``."""

from __future__ import annotations

import dataclasses

from nvs_ros.settings.declaration import Settings, setting


@dataclasses.dataclass(frozen=True)
class ClusterSettings(Settings):
    """Workers of a cluster, and what each gets at a time."""

    workers: int = setting(
        0, 'Workers, each a process with the model and a CPU core; 0: as many as fit.', low=0
    )
    gpus: float | None = setting(
        None,
        'GPUs of a worker, such as 0.25 for four on one; not set: 1 where the cluster has any.',
        low=0.0,
    )
    part_frames: int = setting(
        32, 'Frames of a part: a worker makes one part after the other.', low=1
    )
