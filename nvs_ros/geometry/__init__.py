"""Cameras and viewpoints, in numpy and OpenCV.

Frames: the object frame has its origin in the centre of the object's bounding box and z up; camera
frames are optical (x right, y down, z forward). Transforms are 4x4 and read ``target_from_source``.
"""

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.camera_info import camera_from_info, frame_from_camera, info_from_camera
from nvs_ros.geometry.canonical import CanonicalView, TrainedRange, canonical_view, photograph_view
from nvs_ros.geometry.rigid import (
    check_rigid,
    inverse,
    quaternion_from_rigid,
    rigid,
    rigid_from_quaternion,
)
from nvs_ros.geometry.spherical import (
    RelativePose,
    Spherical,
    canonical_pose,
    look_at,
    pose_from_spherical,
    position_from_spherical,
    relative_pose,
    spherical_from_pose,
    spherical_from_position,
    upright_frame,
)
from nvs_ros.geometry.target import (
    TargetCamera,
    Viewpoint,
    orbit,
    target_from_angles,
    target_from_pose,
)

__all__ = [
    'Camera',
    'CanonicalView',
    'RelativePose',
    'Spherical',
    'TargetCamera',
    'TrainedRange',
    'Viewpoint',
    'camera_from_info',
    'canonical_pose',
    'canonical_view',
    'check_rigid',
    'frame_from_camera',
    'info_from_camera',
    'inverse',
    'look_at',
    'orbit',
    'photograph_view',
    'pose_from_spherical',
    'position_from_spherical',
    'quaternion_from_rigid',
    'relative_pose',
    'rigid',
    'rigid_from_quaternion',
    'spherical_from_pose',
    'spherical_from_position',
    'target_from_angles',
    'target_from_pose',
    'upright_frame',
]
