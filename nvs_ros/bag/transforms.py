"""Transforms that were recorded in a bag."""

from __future__ import annotations

from pathlib import Path

from rclpy.duration import Duration

from nvs_ros.bag.reader import Bag, recorded_topics
from nvs_ros.node import transforms

CACHE_S = 1e9
"""Nothing in a bag is too old."""


class BagTransforms(transforms.Transforms):
    """Looks up what ``/tf`` and ``/tf_static`` of a bag say; publishes nothing.

    Parameters
    ----------
    path : Path
        The bag.
    """

    def __init__(self, path: Path) -> None:
        self._listener = self._broadcaster = None
        self._timeout = Duration()
        if not self.available:
            return
        self._buffer = transforms.tf2_ros.Buffer(cache_time=Duration(seconds=CACHE_S))
        if topics := recorded_topics(path) & {'/tf', '/tf_static'}:
            with Bag(path, topics) as bag:
                for topic, _, message in bag.messages():
                    is_static = topic == '/tf_static'
                    keep = (
                        self._buffer.set_transform_static
                        if is_static
                        else self._buffer.set_transform
                    )
                    for transform in message.transforms:
                        keep(transform, 'bag')
