"""Messages of views, and the contact sheet for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from nvs_interfaces.msg import NovelView, NovelViewArray
from nvs_ros.completion.pipeline import AssessedView
from nvs_ros.contact_sheet import contact_sheet, told_apart
from nvs_ros.geometry import Spherical, relative_pose, spherical_from_pose
from nvs_ros.mark import marked
from nvs_ros.messages.cameras import message_from_camera, pose_from_rigid
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.messages.images import array_from_image, image_from_array
from nvs_ros.settings import ViewSettings
from nvs_ros.synthesizer import View

CELL = 192
"""Side of an image on the contact sheet, pixels."""


def novel_view(
    view: View,
    source: SourceFrame,
    frame_id: str,
    preset: str,
    assessed: AssessedView | None = None,
    *,
    mark: bool = ViewSettings.mark,
) -> NovelView:
    """Message of a view.

    Parameters
    ----------
    view : View
    source : SourceFrame
        The frame that the view was made from.
    frame_id : str
        Optical frame of the virtual camera.
    preset : str
        Name of the sampler settings.
    assessed : AssessedView, optional
        Its confidence; NaN in the message when omitted.
    mark : bool
        Draw the visible mark on the picture; ``mask`` and ``measured`` are as without it.
    """
    image, remarks = marked(view.image, view.mask) if mark else (view.image, ())
    header = Header(stamp=source.header.stamp, frame_id=frame_id)
    origin: Spherical = source.canonical.spherical
    moved = relative_pose(origin, spherical_from_pose(view.object_from_camera))
    return NovelView(
        header=header,
        source_header=source.header,
        object_id=source.object_id,
        image=image_from_array(image, 'rgb8', header),
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
        confidence=assessed.confidence if assessed else math.nan,
        synthetic=True,
        warnings=[
            *source.canonical.assumptions,
            *view.warnings,
            *(assessed.warnings if assessed else ()),
            *remarks,
        ],
    )


def views_message(views: Sequence[NovelView], source: SourceFrame) -> NovelViewArray:
    """Message of all views of a frame."""
    return NovelViewArray(header=source.header, object_id=source.object_id, views=list(views))


def measured_share(view: NovelView) -> float:
    """Measured share of the object's pixels in a view, 0 ... 1."""
    return float(array_from_image(view.measured).sum() / max(array_from_image(view.mask).sum(), 1))


def told_apart_picture(view: NovelView, size: int) -> tuple[np.ndarray, str]:
    """A view with its imagined part grey and striped, and a caption with the imagined share."""
    image, mask, measured = map(array_from_image, (view.image, view.mask, view.measured))
    caption = f'striped: {1 - measured_share(view):.0%} imagined'
    return told_apart(image, mask, measured, size), caption


def sheet_message(views: Sequence[NovelView], source: SourceFrame) -> Image:
    """Contact sheet for people: the measured image first, then the synthesised views.

    If any view has measured pixels, a second row marks the imagined part of each view.
    """
    pictures: list[np.ndarray | None] = [source.canonical.image]
    apart: list[np.ndarray | None] = [None]
    captions, shares = ['measured'], ['']
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
