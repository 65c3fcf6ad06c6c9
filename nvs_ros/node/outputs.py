"""What the node publishes: messages of views, and the publishers that carry them."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from nvs_interfaces.msg import NovelView, NovelViewArray
from nvs_ros.completion.pipeline import TrustedView
from nvs_ros.geometry import Spherical, relative_pose, spherical_from_pose
from nvs_ros.node.cameras import message_from_camera, pose_from_rigid
from nvs_ros.node.conversions import array_from_image, image_from_array
from nvs_ros.node.frames import SourceFrame
from nvs_ros.node.qos import NO_EVENTS, OVERRIDABLE
from nvs_ros.pictures import contact_sheet, told_apart
from nvs_ros.synthesizer import View

if TYPE_CHECKING:
    from nvs_ros.node.completed import ShapeMessages

CELL = 192
"""Side of a picture on the contact sheet, pixels."""


def novel_view(
    view: View,
    source: SourceFrame,
    frame_id: str,
    preset: str,
    trusted: TrustedView | None = None,
) -> NovelView:
    """Message of a view.

    Parameters
    ----------
    view : View
    source : SourceFrame
        What it was made from.
    frame_id : str
        Optical frame of the virtual camera.
    preset : str
        Name of the sampler settings.
    trusted : TrustedView, optional
        How far to trust it.
    """
    header = Header(stamp=source.header.stamp, frame_id=frame_id)
    origin: Spherical = source.canonical.spherical
    moved = relative_pose(origin, spherical_from_pose(view.object_from_camera))
    return NovelView(
        header=header,
        source_header=source.header,
        object_id=source.object_id,
        image=image_from_array(view.image, 'rgb8', header),
        mask=image_from_array(view.mask, 'mono8', header),
        measured=image_from_array(view.measured, 'mono8', header),
        camera_info=message_from_camera(view.camera, header),
        camera_pose=pose_from_rigid(source.frame_from_upright @ view.object_from_camera),
        object_pose=pose_from_rigid(source.frame_from_object),
        object_size_m=float(source.canonical.unit_m),
        azimuth_rad=float(moved.delta_azimuth_rad),
        elevation_rad=float(-moved.delta_polar_rad),
        distance_m=float(moved.delta_radius),
        frames=len(source.frames),
        seed=view.seed,
        preset=preset,
        model_id=view.model_id,
        confidence=trusted.confidence if trusted else math.nan,
        synthetic=True,
        warnings=[
            *source.canonical.assumptions,
            *view.warnings,
            *(trusted.warnings if trusted else ()),
        ],
    )


def views_message(views: Sequence[NovelView], source: SourceFrame) -> NovelViewArray:
    """Message of all views of a frame."""
    return NovelViewArray(header=source.header, object_id=source.object_id, views=list(views))


def measured_share(view: NovelView) -> float:
    """Share of the object in a view that was measured, 0 ... 1."""
    return float(array_from_image(view.measured).sum() / max(array_from_image(view.mask).sum(), 1))


def told_apart_picture(view: NovelView, size: int) -> tuple[np.ndarray, str]:
    """A view with what is imagined grey and striped, and a caption that says how much that is."""
    layers = (array_from_image(image) for image in (view.image, view.mask, view.measured))
    return told_apart(*layers, size), f'striped: {1 - measured_share(view):.0%} imagined'


def sheet_message(views: Sequence[NovelView], source: SourceFrame) -> Image:
    """Contact sheet for people: what was measured first, then what was imagined.

    Where anything of a view was measured, a second row below tells that from the rest.
    """
    pictures, captions = [source.canonical.image], ['measured']
    apart, shares = [None], ['']
    for view in views:
        pictures.append(array_from_image(view.image))
        angles_deg = (round(math.degrees(a)) for a in (view.azimuth_rad, view.elevation_rad))
        captions.append('synthetic {:+} {:+} deg'.format(*angles_deg))
        picture, share = told_apart_picture(view, CELL)
        apart.append(picture)
        shares.append(share)
    kinds = [(pictures, captions)]
    if any(measured_share(view) > 0 for view in views):
        kinds.append((apart, shares))
    columns = math.ceil(math.sqrt(len(pictures) * len(kinds)))
    starts = range(0, len(pictures), columns)
    sheet = contact_sheet(
        [shown[i : i + columns] for i in starts for shown, _ in kinds],
        [words[i : i + columns] for i in starts for _, words in kinds],
        CELL,
    )
    return image_from_array(sheet, 'rgb8', source.header)


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
                    self._single.append(self._view_publishers(f'~/view_{len(self._single)}'))
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

    def publish(
        self, source: SourceFrame, indices: Sequence[int], views: Sequence[NovelView]
    ) -> None:
        """Publish the views of an object.

        ``indices`` are their places among the configured views, empty for an object whose views
        have no topics of their own.
        """
        single = list(self._single)
        for i, view in zip(indices, views, strict=False):
            if i < len(single):
                # Fewer views may be configured meanwhile: then nobody misses this one.
                with contextlib.suppress(InvalidHandle):
                    for name, publisher in zip(ViewPublishers._fields, single[i], strict=True):
                        publisher.publish(getattr(view, name))
        self._views.publish(views_message(views, source))
        if self._sheet.get_subscription_count():
            self._sheet.publish(sheet_message(views, source))

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
