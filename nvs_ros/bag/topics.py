"""A topic in a file of a bag, of any format."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml
from rosbags.rosbag2 import storage_mcap

# The module that rosbags uses, which may be one of three packages.
zstd = storage_mcap.zstd


class Channel(NamedTuple):
    """A topic in one file, as it is recorded there."""

    key: int
    """Id of the channel in the file."""
    topic: str
    type: str
    serialization: str
    """``cdr`` (ROS 2), ``ros1``, or a format that ROS does not know."""
    definition_format: str
    """``ros2msg``, ``ros2idl``, ``ros1msg``, ...; ``''`` if there is no definition."""
    definition: bytes
    count: int  # type: ignore[assignment]  # hides tuple.count
    """Number of messages according to the file."""
    latched: bool
    """Whether late subscribers got the last message too (transient local)."""


def full_name(topic: str) -> str:
    """Absolute name of a topic: ``image``, ``/image`` and ``//image/`` are the same."""
    return '/' + '/'.join(part for part in topic.split('/') if part)


def is_latched(profiles: Any) -> bool:
    """Whether a QoS profile among these is transient local.

    Parameters
    ----------
    profiles : str or list
        ``offered_qos_profiles`` as any version of rosbag2 writes it; False if it is malformed.
    """
    try:
        found = yaml.safe_load(profiles) if isinstance(profiles, str) else profiles
        return any(profile['durability'] in (1, 'transient_local') for profile in found or ())
    except (KeyError, TypeError, yaml.YAMLError):
        return False
