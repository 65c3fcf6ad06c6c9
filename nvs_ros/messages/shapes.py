"""Messages of a completed shape: cloud, mesh and next best view."""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from geometry_msgs.msg import Point, PoseStamped
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from nvs_ros.completion.cloud import Cloud
from nvs_ros.completion.pipeline import AssessedView, Completion
from nvs_ros.completion.surface import Surface
from nvs_ros.messages.cameras import pose_from_rigid
from nvs_ros.messages.frames import SourceFrame

POINT = (
    ('x', '<f4', PointField.FLOAT32),
    ('y', '<f4', PointField.FLOAT32),
    ('z', '<f4', PointField.FLOAT32),
    ('rgb', '<u4', PointField.FLOAT32),  # PCL's: the bits of a float32 are 0x00RRGGBB
    ('synthetic', '<u4', PointField.UINT32),
    ('confidence', '<f4', PointField.FLOAT32),
    ('view', '<i4', PointField.INT32),
)
NORMAL = tuple((f'normal_{axis}', '<f4', PointField.FLOAT32) for axis in 'xyz')
"""As POINT: name, stored type and declared type of each field, in memory order."""

IMAGINED_ALPHA = 0.5
"""Opacity of surface that was not measured."""
SYNTHETIC = 'synthetic: imagined where it is half transparent'
"""Text of a mesh, whose message has no other place for it."""


def cloud_message(cloud: Cloud, header: Header, normals: bool = False) -> PointCloud2:
    """Message of a cloud: one row of points, little-endian, all numbers finite.

    Parameters
    ----------
    cloud : Cloud
        In the frame of the header.
    header : std_msgs.msg.Header
        Of the source image.
    normals : bool
        Add ``normal_x``, ``normal_y`` and ``normal_z``.
    """
    fields = POINT + NORMAL if normals else POINT
    points = np.zeros(len(cloud.points), [(name, stored) for name, stored, _ in fields])
    red, green, blue = cloud.colors.T.astype(np.uint32)
    points['rgb'] = red << 16 | green << 8 | blue
    points['synthetic'] = cloud.synthetic
    points['confidence'] = cloud.confidence
    points['view'] = cloud.views
    for i, axis in enumerate('xyz'):
        points[axis] = cloud.points[:, i]
        if normals:
            points[f'normal_{axis}'] = cloud.normals[:, i]
    places: Mapping[str, Any] = points.dtype.fields or {}
    data = array.array('B')
    data.frombytes(points.view(np.uint8).data)
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=[
            PointField(name=name, offset=places[name][1], datatype=kind, count=1)
            for name, _, kind in fields
        ],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=data,
        is_dense=True,
    )


def mesh_message(surface: Surface, header: Header, object_id: str = '') -> Marker:
    """Message of a surface: triangles in metres; imagined surface is half transparent.

    Parameters
    ----------
    surface : Surface
        In the frame of the header.
    header : std_msgs.msg.Header
        Of the source image.
    object_id : str
        Namespace of the marker.
    """
    points = [Point(x=x, y=y, z=z) for x, y, z in surface.vertices.tolist()]
    alpha = np.where(surface.measured, 1.0, IMAGINED_ALPHA)
    rows = np.column_stack([surface.colors / 255, alpha]).tolist()
    colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in rows]
    corners = surface.faces.ravel().tolist()
    message = Marker(header=header, ns=object_id, type=Marker.TRIANGLE_LIST, action=Marker.ADD)
    message.pose.orientation.w = message.scale.x = message.scale.y = message.scale.z = 1.0
    message.text = SYNTHETIC
    message.points = [points[i] for i in corners]
    message.colors = [colors[i] for i in corners]
    return message


def next_view_message(source: SourceFrame, view: AssessedView) -> PoseStamped:
    """Pose from which a real image would add most, in the frame of the source image."""
    object_from_camera = view.estimate.target.object_from_camera
    pose = pose_from_rigid(source.frame_from_upright @ object_from_camera)
    return PoseStamped(header=source.header, pose=pose)


class ShapeMessages(NamedTuple):
    """The messages that are published for the shape of an object; the mesh is optional."""

    completed_cloud: PointCloud2
    next_best_view: PoseStamped
    completed_mesh: Marker | None


def shape_messages(
    completion: Completion,
    source: SourceFrame,
    views: Sequence[AssessedView],
    *,
    normals: bool = False,
    mesh: bool = True,
) -> ShapeMessages:
    """Messages of a shape, in the frame of the source image.

    Parameters
    ----------
    completion : Completion
    source : SourceFrame
    views : sequence of AssessedView
        The views that the completion was made from.
    normals : bool
        See :func:`cloud_message`.
    mesh : bool
        Whether to make the message of the mesh, which takes long.
    """
    pose = source.frame_from_upright
    surface = completion.surface.moved(pose) if mesh else None
    return ShapeMessages(
        cloud_message(completion.cloud.moved(pose), source.header, normals),
        next_view_message(source, views[completion.next_best_view]),
        None if surface is None else mesh_message(surface, source.header, source.object_id),
    )
