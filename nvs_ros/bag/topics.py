"""What the files of all kinds of bag say of a topic."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml
from rosbags.rosbag2 import storage_mcap

# That of rosbags, which takes it from one of three packages.
zstd = storage_mcap.zstd


class Channel(NamedTuple):
    """A topic in one file, as it is recorded there."""

    key: int
    """Identifies it in the file."""
    topic: str
    type: str
    serialization: str
    """``cdr`` of ROS 2, ``ros1``, or what ROS does not know."""
    definition_format: str
    """``ros2msg``, ``ros2idl``, ``ros1msg``, ...; ``''`` when there is no definition."""
    definition: bytes
    count: int
    """Messages that the file says it holds."""
    latched: bool
    """Late subscribers got the last message too."""


def full_name(topic: str) -> str:
    """Absolute name of a topic: ``image``, ``/image`` and ``//image/`` are one."""
    return '/' + '/'.join(part for part in topic.split('/') if part)


def is_latched(profiles: Any) -> bool:
    """Whether a QoS profile among these is transient local.

    Parameters
    ----------
    profiles : str or list
        ``offered_qos_profiles`` as some version of rosbag2 writes it. What is odd is none.
    """
    try:
        found = yaml.safe_load(profiles) if isinstance(profiles, str) else profiles
        return any(profile['durability'] in (1, 'transient_local') for profile in found or ())
    except (KeyError, TypeError, yaml.YAMLError):
        return False
