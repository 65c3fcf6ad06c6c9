"""Target cameras of the synthesizer from settings and requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nvs_interfaces.action import SynthesizeOrbit
from nvs_interfaces.msg import Viewpoint
from nvs_ros.errors import OverLimit
from nvs_ros.geometry import (
    Camera,
    TargetCamera,
    inverse,
    orbit,
    target_from_angles,
    target_from_pose,
)
from nvs_ros.messages.cameras import asked_camera, rigid_from_pose
from nvs_ros.messages.frames import DEFAULT_LIMITS, SourceFrame, stamp_ns
from nvs_ros.messages.transforms import Transforms
from nvs_ros.settings import LimitSettings


def configured_target(
    source: SourceFrame, viewpoint: tuple[float, float, float], image_size_px: int
) -> TargetCamera:
    """The camera of a configured view.

    Parameters
    ----------
    source : SourceFrame
    viewpoint : tuple of float
        Azimuth and elevation in degrees and distance in metres, an item of
        ``ViewSettings.viewpoints``.
    image_size_px : int
        Side of the image; 0: the network's own.

    Raises
    ------
    ValueError
        The viewpoint is not possible, see :func:`nvs_ros.geometry.target_from_angles`.
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
    """The target camera of a request.

    Parameters
    ----------
    source : SourceFrame
    viewpoint : Viewpoint
        If its pose has another stamp than the source, the camera is placed where the pose was at
        that time.
    transforms : Transforms
    fixed_frame : str
        Frame that stands still, ``''`` if none is known; see
        :meth:`nvs_ros.messages.transforms.Transforms.lookup_between`.

    Raises
    ------
    ValueError
        The kind is unknown, the camera or its pose cannot be used, or a transform is not known.
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


def check_pixels(targets: Sequence[TargetCamera], limits: LimitSettings) -> None:
    """Refuse views with more pixels, all together, than ``limits.request_mp``.

    Raises
    ------
    OverLimit
        They have more.
    """
    asked = sum(target.camera.width * target.camera.height for target in targets)
    if asked > limits.request_mp * 10**6:
        raise OverLimit(
            f'expected at most {limits.request_mp:g} MP in all views of a request '
            f'(limits.request_mp), got {asked / 1e6:.4g} MP'
        )


def requested_orbit(
    source: SourceFrame,
    goal: SynthesizeOrbit.Goal,
    transforms: Transforms,
    fixed_frame: str,
    limits: LimitSettings = DEFAULT_LIMITS,
) -> list[TargetCamera]:
    """The target cameras of an action goal; see :func:`requested_target`.

    Raises
    ------
    OverLimit
        There are more viewpoints than ``limits.orbit_views``, or they have more pixels than
        ``limits.request_mp``.
    ValueError
        Neither viewpoints nor a valid count, or one of them cannot be used.
    """
    viewpoints = goal.viewpoints
    if (asked := len(viewpoints) or goal.count) > limits.orbit_views:
        raise OverLimit(
            f'expected at most {limits.orbit_views} views of an orbit (limits.orbit_views), '
            f'got {asked}'
        )
    if not viewpoints:
        if goal.count < 1:
            raise ValueError(f'expected viewpoints, or a count of 1 or more, got {goal.count}')
        viewpoints = [
            Viewpoint(
                azimuth_rad=v.azimuth_rad,
                elevation_rad=v.elevation_rad,
                distance_m=v.distance_m,
                camera_info=goal.camera_info,
            )
            for v in orbit(goal.count, goal.elevation_rad, goal.distance_m)
        ]
    targets, transforms = [], transforms.together()
    for i, viewpoint in enumerate(viewpoints):
        try:
            targets.append(requested_target(source, viewpoint, transforms, fixed_frame))
        except ValueError as error:
            raise ValueError(f'viewpoint {i}: {error}') from None
    check_pixels(targets, limits)
    return targets
