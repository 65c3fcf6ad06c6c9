"""What the node publishes: its publishers, and which of them anybody listens to."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Mapping
from typing import NamedTuple

from geometry_msgs.msg import PoseStamped
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import Marker

from nvs_interfaces.msg import NovelView, NovelViewArray
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.messages.shapes import ShapeMessages
from nvs_ros.messages.view_maker import view_name
from nvs_ros.messages.views import sheet_message, views_message
from nvs_ros.node.qos import NO_EVENTS, OVERRIDABLE


class ViewPublishers(NamedTuple):
    """Topics of one configured view."""

    image: LifecyclePublisher
    camera_info: LifecyclePublisher
    mask: LifecyclePublisher
    measured: LifecyclePublisher


class Outputs:
    """The node's publishers: reliable, depth 1, each overridable by parameter.

    Parameters
    ----------
    node : rclpy.lifecycle.LifecycleNode

    Attributes
    ----------
    lock : threading.RLock
        Held while publishers come and go; whoever walks over the node's publishers takes it.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self.lock = threading.RLock()
        self._closed = False
        self._single: list[ViewPublishers] = []
        self._unmatched: set[str] = set()
        self._views = self._publisher(NovelViewArray, '~/views')
        self._sheet = self._publisher(Image, '~/contact_sheet')
        self._cloud = self._publisher(PointCloud2, '~/completed_cloud')
        self._next_view = self._publisher(PoseStamped, '~/next_best_view')
        self._mesh = self._publisher(Marker, '~/completed_mesh')
        self._shared = (self._views, self._sheet, self._cloud, self._next_view, self._mesh)

    def close(self) -> None:
        """Destroy the publishers."""
        with self.lock:
            self.resize(0)
            self._closed = True
            for publisher in self._shared:
                self._node.destroy_lifecycle_publisher(publisher)

    def resize(self, count: int) -> None:
        """Make there be topics for this many configured views; see :meth:`grow`."""
        with self.lock:
            self.grow(count)
            self._shrink(count)

    def grow(self, count: int) -> None:
        """Make there be topics for this many configured views at least.

        Raises
        ------
        ValueError
            A publisher cannot be made; there are as many as before then.
        """
        with self.lock:
            before = len(self._single)
            try:
                while len(self._single) < count and not self._closed:
                    self._single.append(self._view_publishers(f'~/{view_name(len(self._single))}'))
            except ValueError:
                self._shrink(before)
                raise

    def _shrink(self, count: int) -> None:
        while len(self._single) > count:
            for publisher in self._single.pop():
                self._node.destroy_lifecycle_publisher(publisher)

    def _view_publishers(self, prefix: str) -> ViewPublishers:
        made: list[LifecyclePublisher] = []
        for name in ViewPublishers._fields:
            kind, topic = CameraInfo if name == 'camera_info' else Image, f'{prefix}/{name}'
            try:
                made.append(self._publisher(kind, topic))
            except Exception as error:  # rclpy's are of many types, and do not name the topic
                for publisher in made:
                    self._node.destroy_lifecycle_publisher(publisher)
                topic = self._node.resolve_topic_name(topic)
                raise ValueError(
                    f'{topic} cannot be published: {error} (see qos_overrides.{topic}.publisher)'
                ) from error
            if self._views.is_activated:
                made[-1].on_activate(None)
        return ViewPublishers(*made)

    def wanted(self, everything: bool = False) -> list[int]:
        """Indices of the configured views that somebody has subscribed to, or of all of them."""
        if everything or any(p.get_subscription_count() for p in (self._views, self._sheet)):
            return list(range(len(self._single)))
        with self.lock:
            return [
                i
                for i, publishers in enumerate(self._single)
                if any(p.get_subscription_count() for p in publishers)
            ]

    def publish(self, source: SourceFrame, views: Mapping[str, NovelView], single: bool) -> None:
        """Publish the views of an object.

        Parameters
        ----------
        source : SourceFrame
        views : mapping
            Name of the configured view -> its message.
        single : bool
            Whether they go to the topics of single views, too.
        """
        for i, publishers in enumerate(list(self._single) if single else ()):
            # Fewer views may be configured meanwhile: then nobody misses the others.
            if (view := views.get(view_name(i))) is not None:
                with contextlib.suppress(InvalidHandle):
                    for part, publisher in zip(ViewPublishers._fields, publishers, strict=True):
                        publisher.publish(getattr(view, part))
        made = list(views.values())
        self._views.publish(views_message(made, source))
        if self._sheet.get_subscription_count():
            self._sheet.publish(sheet_message(made, source))

    def wants_shape(self) -> bool:
        """Whether somebody has subscribed to what needs the whole shape."""
        shape = (self._cloud, self._next_view, self._mesh)
        return any(p.get_subscription_count() for p in shape)

    def wants_mesh(self) -> bool:
        """Whether somebody has subscribed to the mesh, whose message takes long to make."""
        return self._mesh.get_subscription_count() > 0

    def publish_shape(self, messages: ShapeMessages) -> None:
        """Publish the shape of an object, and the view that would add most to it."""
        self._cloud.publish(messages.completed_cloud)
        self._next_view.publish(messages.next_best_view)
        if messages.completed_mesh is not None:
            self._mesh.publish(messages.completed_mesh)

    def unmatched(self) -> list[str]:
        """Topics with a subscriber that gets nothing, at this call and at the one before.

        It asks for another QoS or type; discovery alone would have been over by now.
        """
        with self.lock:
            publishers = (*self._shared, *itertools.chain.from_iterable(self._single))
            found = {
                publisher.topic_name
                for publisher in publishers
                if self._node.count_subscribers(publisher.topic_name)
                > publisher.get_subscription_count()
            }
        lasting, self._unmatched = found & self._unmatched, found
        return sorted(lasting)

    def _publisher(self, kind: type, topic: str) -> LifecyclePublisher:
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            QoSProfile(depth=1),
            event_callbacks=NO_EVENTS,
            qos_overriding_options=OVERRIDABLE,
        )
