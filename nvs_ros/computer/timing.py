"""Figures of a benchmark: rates, latencies, jitter, and on what they were taken."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PERCENTILES = (50, 90, 99)


def stream_figures(
    sent_s: Sequence[float], received_s: Sequence[float | None]
) -> dict[str, float | int]:
    """Describe a stream of frames with the quantities of isaac_ros_benchmark.

    Parameters
    ----------
    sent_s : sequence of float
        When each frame went out, seconds of a steady clock.
    received_s : sequence of float or None
        When its views had come; None where they never did.

    Returns
    -------
    dict
        ``frames_sent``, ``frames_received``, ``missed_frames``, ``mean_rate_hz`` and
        ``jitter_*_ms`` (change between one interval of arrivals and the next) of what was received,
        and ``latency_*_ms``. What takes more frames than there were is left out.
    """
    if len(sent_s) != len(received_s):
        raise ValueError(f'expected {len(sent_s)} times of arrival, got {len(received_s)}')
    pairs = [
        (sent, came) for sent, came in zip(sent_s, received_s, strict=True) if came is not None
    ]
    figures = {
        'frames_sent': len(sent_s),
        'frames_received': len(pairs),
        'missed_frames': len(sent_s) - len(pairs),
    }
    arrivals = np.sort([came for _, came in pairs])
    intervals = np.diff(arrivals)
    if len(intervals):
        figures['mean_rate_hz'] = float(1 / intervals.mean())
    jitter = np.abs(np.diff(intervals)) * 1e3
    if len(jitter):
        figures |= {
            'jitter_mean_ms': float(jitter.mean()),
            'jitter_max_ms': float(jitter.max()),
            'jitter_std_ms': float(jitter.std()),
        }
    return figures | duration_figures([came - sent for sent, came in pairs], 'latency')


def duration_figures(seconds: Sequence[float], name: str) -> dict[str, float]:
    """Mean, least, greatest and percentiles of durations: ``<name>_mean_ms`` and so on."""
    if not len(seconds):
        return {}
    milliseconds = np.asarray(seconds) * 1e3
    figures = {f'{name}_p{p}_ms': float(np.percentile(milliseconds, p)) for p in PERCENTILES}
    return figures | {
        f'{name}_mean_ms': float(milliseconds.mean()),
        f'{name}_min_ms': float(milliseconds.min()),
        f'{name}_max_ms': float(milliseconds.max()),
    }


def config_hash(configuration: Mapping[str, Any]) -> str:
    """Twelve hex digits that change with any value of a configuration."""
    text = json.dumps(configuration, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def machine(device: str = 'cpu') -> dict[str, Any]:
    """What figures were taken on: device, threads and versions."""
    import torch

    found = {
        'device': device,
        'processor': processor(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    if torch.device(device).type == 'cuda':
        found['gpu'] = torch.cuda.get_device_name(device)
        found['cuda'] = torch.version.cuda
    return found
