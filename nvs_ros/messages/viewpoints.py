"""From what is asked for (settings, requests) to the cameras of the synthesizer."""

from __future__ import annotations

import math

from nvs_interfaces.action import SynthesizeOrbit
from nvs_interfaces.msg import Viewpoint
from nvs_ros.geometry import (
    Camera,
    TargetCamera,
    inverse,
    orbit,
    target_from_angles,
    target_from_pose,
)
from nvs_ros.messages.cameras import asked_camera, rigid_from_pose
from nvs_ros.messages.frames import SourceFrame, stamp_ns
from nvs_ros.messages.transforms import Transforms

MAX_ORBIT = 1000
"""Views of one orbit; more is taken for a mistake."""


def configured_target(
    source: SourceFrame, viewpoint: tuple[float, float, float], image_size_px: int
) -> TargetCamera:
    """The camera of a configured view.

    Parameters
    ----------
    source : SourceFrame
    viewpoint : tuple of float
        Azimuth and elevation in degrees, distance in metres, as ``ViewSettings.viewpoints``.
    image_size_px : int
        Side of the picture; 0: the network's own.

    Raises
    ------
    ValueError
        There can be no camera.
    """
    azimuth_deg, elevation_deg, distance_m = viewpoint
    camera = scaled(source.canonical.camera, image_size_px) if image_size_px else None
    return target_from_angles(
        source.canonical,
        math.radians(azimuth_deg),
        math.radians(elevation_deg),
        distance_m,
        camera,
    )


def scaled(camera: Camera, size_px: int) -> Camera:
    """A square camera with the same field of view and another number of pixels."""
    scale = size_px / camera.width
    matrix = camera.matrix.copy()
    matrix[:2] *= scale
    matrix[:2, 2] += (scale - 1) / 2  # integer coordinates are pixel centres
    return Camera(size_px, size_px, matrix)


def requested_target(
    source: SourceFrame, viewpoint: Viewpoint, transforms: Transforms, fixed_frame: str
) -> TargetCamera:
    """The camera that a request asks for.

    Parameters
    ----------
    source : SourceFrame
    viewpoint : Viewpoint
        A pose may be of another time than the source: where it stood then is where it is wanted.
    transforms : Transforms
    fixed_frame : str
        Frame that stands still, ``''`` if none is known; see
        :meth:`nvs_ros.messages.transforms.Transforms.lookup_between`.

    Raises
    ------
    ValueError
        What is wrong with it.
    """
    camera = asked_camera(viewpoint.camera_info)
    if viewpoint.kind == Viewpoint.ANGLES:
        return target_from_angles(
            source.canonical,
            viewpoint.azimuth_rad,
            viewpoint.elevation_rad,
            viewpoint.distance_m,
            camera,
        )
    if viewpoint.kind != Viewpoint.POSE:
        raise ValueError(
            f'kind: expected ANGLES ({Viewpoint.ANGLES}) or POSE ({Viewpoint.POSE}), '
            f'got {viewpoint.kind}'
        )
    pose = viewpoint.camera_pose
    pose_from_camera = rigid_from_pose(pose.pose, 'camera_pose')
    frame_from_pose = transforms.lookup_between(
        source.header.frame_id,
        source.stamp_ns,
        pose.header.frame_id,
        stamp_ns(pose.header) or source.stamp_ns,
        fixed_frame,
    )
    upright_from_camera = inverse(source.frame_from_upright) @ frame_from_pose @ pose_from_camera
    return target_from_pose(
        source.canonical, camera or source.canonical.camera, upright_from_camera
    )


def requested_orbit(
    source: SourceFrame, goal: SynthesizeOrbit.Goal, transforms: Transforms, fixed_frame: str
) -> list[TargetCamera]:
    """The cameras that a goal asks for; see :func:`requested_target`.

    Raises
    ------
    ValueError
        What is wrong with which of them.
    """
    viewpoints = goal.viewpoints
    if not viewpoints:
        if not 1 <= goal.count <= MAX_ORBIT:
            raise ValueError(
                f'expected viewpoints, or a count of 1 to {MAX_ORBIT}, got {goal.count}'
            )
        viewpoints = [
            Viewpoint(
                azimuth_rad=v.azimuth_rad,
                elevation_rad=v.elevation_rad,
                distance_m=v.distance_m,
                camera_info=goal.camera_info,
            )
            for v in orbit(goal.count, goal.elevation_rad, goal.distance_m)
        ]
    if len(viewpoints) > MAX_ORBIT:
        raise ValueError(f'expected at most {MAX_ORBIT} viewpoints, got {len(viewpoints)}')
    targets, transforms = [], transforms.together()
    for i, viewpoint in enumerate(viewpoints):
        try:
            targets.append(requested_target(source, viewpoint, transforms, fixed_frame))
        except ValueError as error:
            raise ValueError(f'viewpoint {i}: {error}') from None
    return targets
