"""The publishers of the node, and which of them have subscribers."""

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
    """Publishers of one configured view."""

    image: LifecyclePublisher
    camera_info: LifecyclePublisher
    mask: LifecyclePublisher
    measured: LifecyclePublisher


class Outputs:
    """The node's publishers: reliable, depth 1; the QoS of each can be overridden by parameters.

    Parameters
    ----------
    node : rclpy.lifecycle.LifecycleNode

    Attributes
    ----------
    lock : threading.RLock
        Held while publishers are created or destroyed; take it to iterate over them, as lifecycle
        transitions of the node do.
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
        """Create or destroy publishers so that there are some for exactly ``count`` views.

        Raises
        ------
        ValueError
            As for :meth:`grow`.
        """
        with self.lock:
            self.grow(count)
            self._shrink(count)

    def grow(self, count: int) -> None:
        """Create publishers so that there are some for at least ``count`` views.

        Raises
        ------
        ValueError
            A publisher cannot be created; the number of views is then as before.
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
            except Exception as error:  # of many types in rclpy, and without the topic's name
                for publisher in made:
                    self._node.destroy_lifecycle_publisher(publisher)
                topic = self._node.resolve_topic_name(topic)
                raise ValueError(
                    f'{topic} cannot be published: {error} (see qos_overrides.{topic}.publisher)'
                ) from error
            if self._views.is_activated:
                made[-1].on_activate(None)  # type: ignore[arg-type]  # rclpy does not look at it
        return ViewPublishers(*made)

    def wanted(self, everything: bool = False) -> list[str]:
        """Names of the configured views that have subscribers.

        Those of all views if ``everything``, or if all views or the contact sheet are subscribed.
        """
        if everything or any(p.get_subscription_count() for p in (self._views, self._sheet)):
            return [view_name(i) for i in range(len(self._single))]
        with self.lock:
            return [
                view_name(i)
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
            Whether to publish them on the topics of single views as well.
        """
        for i, publishers in enumerate(list(self._single) if single else ()):
            # The number of views may have been changed meanwhile: skip those that are gone.
            if (view := views.get(view_name(i))) is not None:
                with contextlib.suppress(InvalidHandle):
                    for part, publisher in zip(ViewPublishers._fields, publishers, strict=True):
                        publisher.publish(getattr(view, part))
        made = list(views.values())
        self._views.publish(views_message(made, source))
        if self._sheet.get_subscription_count():
            self._sheet.publish(sheet_message(made, source))

    def wants_shape(self) -> bool:
        """Whether cloud, mesh or next best view have a subscriber."""
        shape = (self._cloud, self._next_view, self._mesh)
        return any(p.get_subscription_count() for p in shape)

    def wants_mesh(self) -> bool:
        """Whether the mesh, whose message takes long to make, has a subscriber."""
        return self._mesh.get_subscription_count() > 0

    def publish_shape(self, messages: ShapeMessages) -> None:
        """Publish cloud, next best view and, if it was made, mesh of an object."""
        self._cloud.publish(messages.completed_cloud)
        self._next_view.publish(messages.next_best_view)
        if messages.completed_mesh is not None:
            self._mesh.publish(messages.completed_mesh)

    def unmatched(self) -> list[str]:
        """Topics with an unmatched subscriber in this call and in the one before.

        Such a subscriber has an incompatible QoS or type; a match that was only not yet discovered
        would be found by the second call.
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
