"""Transforms that were recorded in a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration

from nvs_ros.bag.reader import Bag, recorded_topics
from nvs_ros.errors import UserError
from nvs_ros.node import transforms
from nvs_ros.node.inputs import type_name

TOPICS = ('/tf', '/tf_static')
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
        self.problems: list[str] = []
        """What could not be read of them, in words."""
        if not self.available:
            return
        self._buffer = transforms.tf2_ros.Buffer(cache_time=Duration(seconds=CACHE_S))
        for transform, is_static in recorded_transforms(path, self.problems.append):
            if is_static:
                self._buffer.set_transform_static(transform, 'bag')
            else:
                self._buffer.set_transform(transform, 'bag')


def recorded_transforms(
    path: Path, tell: Callable[[str], None]
) -> Iterator[tuple[TransformStamped, bool]]:
    """The transforms of a bag, and whether each is static.

    Frames may need none of them, so that they cannot be read is told and spoils nothing.

    Parameters
    ----------
    path : Path
    tell : callable
        Takes what is wrong with them, in words.
    """
    for topic in sorted(recorded_topics(path) & set(TOPICS)):
        try:
            with Bag(path, [topic]) as bag:
                if not hasattr(bag.topics[topic].kind, 'transforms'):
                    name = type_name(bag.topics[topic].kind)
                    tell(f'expected tf2_msgs/msg/TFMessage on {topic}, got {name}')
                    continue
                for _, _, message in bag.messages():
                    for transform in message.transforms:
                        yield transform, topic == '/tf_static'
                if lost := bag.shortfall():
                    tell(lost)
        except UserError as error:
            tell(str(error))
