"""Convert the messages of a frame to the sources that the synthesizer observes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from nvs_ros.geometry import Camera, CanonicalView, inverse, upright_frame
from nvs_ros.geometry.like_mask import check_like_mask
from nvs_ros.geometry.occlusion import hidden_remarks
from nvs_ros.messages.cameras import camera_from_message, frame_from_camera_message
from nvs_ros.messages.configuration import Configuration
from nvs_ros.messages.image_limits import check_size
from nvs_ros.messages.images import (
    check_image,
    depth_from_image,
    has_labels,
    rgb_from_compressed,
    rgb_from_image,
)
from nvs_ros.messages.masks import located, mask, masked_objects, other_things
from nvs_ros.messages.objects import (
    Other,
    SeenObject,
    check_objects,
    leave_out,
    seen_objects,
)
from nvs_ros.messages.synchronizer import FrameMessages
from nvs_ros.messages.transforms import Transforms
from nvs_ros.reconcile import reconcile
from nvs_ros.settings import InputSettings, LimitSettings
from nvs_ros.synthesizer import Frame

DEFAULT_LIMITS = LimitSettings()


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One object in one frame.

    In the names of transforms, "frame" is the ``frame_id`` of the image, and "upright" the object
    frame: origin in the object's centre, z up.

    Parameters
    ----------
    header : std_msgs.msg.Header
        Of the image.
    stamp_ns : int
        The stamp of ``header``, nanoseconds.
    object_id : str
        ``''`` for the only object of a pose topic or of a binary mask.
    measured : Frame
        The image as it was taken, with poses in the upright frame.
    canonical : CanonicalView
        What the network is shown, in the upright frame.
    frame_from_object : (4, 4) float64
        Pose of the object as it was given or estimated, metres.
    frame_from_upright : (4, 4) float64
        Pose of the upright frame, to which viewpoints are relative, metres.
    fixed_from_upright : (4, 4) float64, optional
        Its pose in the frame that stands still; None when frames are not remembered.
    remembered : tuple of Frame
        Earlier frames of the object, in the same object frame as ``measured``.
    """

    header: Header
    stamp_ns: int
    object_id: str
    measured: Frame
    canonical: CanonicalView
    frame_from_object: np.ndarray
    frame_from_upright: np.ndarray
    fixed_from_upright: np.ndarray | None = None
    remembered: tuple[Frame, ...] = ()

    @property
    def frames(self) -> list[Frame]:
        """The present frame, then the remembered ones."""
        return [self.measured, *self.remembered]


def stamp_ns(header: Header) -> int:
    """Stamp in nanoseconds; may be negative, which rclpy's Time refuses."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def check_message(
    message: Any, rectified: bool = False, limits: LimitSettings = DEFAULT_LIMITS
) -> None:
    """Check a message on its own, without decoding pixels.

    Parameters
    ----------
    message : Any
        Of one of the types of :func:`nvs_ros.messages.input_types.input_types`.
    rectified : bool
        The setting ``input.rectified``.
    limits : LimitSettings

    Raises
    ------
    OverLimit
        The message is larger than ``limits`` allow.
    ValueError
        The message is malformed and cannot be part of any frame.
    """
    if isinstance(message, (Image, CompressedImage)):
        check_size(message, limits)
        if isinstance(message, Image):
            check_image(message)
    elif isinstance(message, CameraInfo):
        camera_from_message(message, rectified)
    else:
        check_objects(message, limits.objects)


@dataclass(frozen=True, eq=False)
class Placement:
    """Transforms between the image's frame ("frame") and the other coordinate frames in use.

    Parameters
    ----------
    frame_from_objects : (4, 4) float64
        "objects" is the coordinate frame in which object poses are given.
    frame_from_reference : (4, 4) float64 or None
        "reference" is the one whose z axis points up; None: the z axis of each object points up.
    fixed_from_frame : (4, 4) float64 or None
        "fixed" is the one that stands still; None when frames are not remembered.
    """

    frame_from_objects: np.ndarray
    frame_from_reference: np.ndarray | None
    fixed_from_frame: np.ndarray | None = None


def placement(
    frame: FrameMessages, configuration: Configuration, transforms: Transforms
) -> Placement:
    """Look up the transforms that all objects of a frame need.

    Waits for missing transforms, for ``tf_timeout_s`` altogether.

    Raises
    ------
    UnknownTransform
        Two frames are not connected at that time.
    """
    frame_id = frame.messages['image'].header.frame_id
    objects = frame.messages.get('object_pose') or frame.messages.get('detections')
    reference, fixed = configuration.node.reference_frame, configuration.node.still_frame
    transforms = transforms.together()
    frame_from_objects = np.eye(4)
    if objects is not None:  # else mask and depth give the poses, in the frame of the image
        # Without a fixed frame, stamps that differ by at most sync.slop_s count as the same time.
        objects_ns = stamp_ns(objects.header) if fixed else frame.stamp_ns
        frame_from_objects = transforms.lookup_between(
            frame_id, frame.stamp_ns, objects.header.frame_id, objects_ns, fixed
        )
    return Placement(
        frame_from_objects,
        transforms.lookup(frame_id, reference, frame.stamp_ns) if reference else None,
        transforms.lookup(fixed, frame_id, frame.stamp_ns) if configuration.memory.frames else None,
    )


def source_frames(
    frame: FrameMessages,
    configuration: Configuration,
    placed: Placement,
    canonical: Callable[[Frame], CanonicalView],
    on_left_out: Callable[[str, Exception], None] = leave_out,
) -> list[SourceFrame]:
    """Convert a frame and make the canonical view of each object in it.

    Parameters
    ----------
    frame : FrameMessages
        With ``image``, ``camera_info`` and ``mask``; with ``object_pose`` or ``detections`` unless
        objects come from mask and depth; ``depth`` (needed in that case) and ``occluders`` are
        optional.
    configuration : Configuration
    placed : Placement
        Of the same frame.
    canonical : callable
        :meth:`nvs_ros.synthesizer.Synthesizer.canonical`.
    on_left_out : callable
        Called with the id of an object that cannot be used, and the error.

    Returns
    -------
    list of SourceFrame
        One or more; objects that cannot be used are left out.

    Raises
    ------
    ValueError
        The frame cannot be used.
    Exception
        No object can be used: the error of the first one, whatever its type.
    """
    messages, settings = frame.messages, configuration.input
    shot = _Shot.of(messages, settings.rectified)
    if settings.objects == 'mask':
        objects = masked_objects(messages['mask'], configuration)
    else:
        message = messages.get('object_pose') or messages['detections']
        objects = seen_objects(message, configuration.object, on_left_out)
    sources, problems = [], []
    for seen in objects:
        try:
            sources.append(_source_frame(frame, shot, seen, settings, placed, canonical))
        except Exception as error:  # of any kind: the other objects may still be usable
            problems.append((seen.id, error))
    if not sources:
        raise problems[0][1]
    for identity, problem in problems:
        on_left_out(identity, problem)
    return sources


@dataclass(frozen=True, eq=False)
class _Shot:
    """What all objects of a frame share."""

    image: np.ndarray
    camera: Camera
    frame_from_camera: np.ndarray
    depth_m: np.ndarray | None

    @classmethod
    def of(cls, messages: Mapping[str, Any], rectified: bool) -> _Shot:
        info, depth = messages['camera_info'], messages.get('depth')
        return cls(
            picture(messages['image']),
            camera_from_message(info, rectified),
            frame_from_camera_message(info, rectified),
            None if depth is None else depth_from_image(depth),
        )


def _source_frame(
    frame: FrameMessages,
    shot: _Shot,
    seen: SeenObject,
    settings: InputSettings,
    placed: Placement,
    canonical: Callable[[Frame], CanonicalView],
) -> SourceFrame:
    """One object of a frame.

    Raises
    ------
    Exception
        The object cannot be used.
    """
    messages, camera = frame.messages, shot.camera
    camera_from_objects = inverse(shot.frame_from_camera) @ placed.frame_from_objects
    instance = _instance(seen, messages['mask'], settings.mask_values, camera_from_objects, camera)
    unknown = other_things(messages, seen.label, settings.mask_values)
    check_like_mask(instance.shape, occluders=unknown)
    if seen.pose is None:
        place = shot.depth_m, unknown, shot.frame_from_camera, placed.frame_from_reference
        seen = located(seen, instance, camera, *place)
    frame_from_object, frame_from_upright = _object_poses(seen, placed)
    object_from_camera = inverse(frame_from_upright) @ shot.frame_from_camera
    given = Frame(
        shot.image, instance, camera, object_from_camera, seen.size_m, shot.depth_m, unknown
    )
    measured, remarks = reconcile(given) if settings.reconcile else (given, ())
    view = canonical(measured)
    said = seen.assumptions
    # What reconcile adds to it is among its remarks.
    if not said and unknown is not None and measured.unknown is unknown:
        said = hidden_remarks(instance > 0, unknown, shot.depth_m, view.unit_m)
    fixed = placed.fixed_from_frame
    return SourceFrame(
        messages['image'].header,
        frame.stamp_ns,
        seen.id,
        measured,
        replace(view, assumptions=remarks + said + view.assumptions),
        frame_from_object,
        frame_from_upright,
        None if fixed is None else fixed @ frame_from_upright,
    )


def _instance(
    seen: SeenObject,
    message: Image | CompressedImage,
    values: str,
    camera_from_objects: np.ndarray,
    camera: Camera,
) -> np.ndarray:
    """Mask (H, W) uint8 of one object, checked not to cover other objects too.

    Raises
    ------
    ValueError
        The mask has no pixel of the object, or does not tell it from another object.
    """
    instance = mask(message, seen.label, values)
    if not seen.others:
        return instance
    for other in seen.unseparated(has_labels(message, values)):
        # If object.id selects one object, the mask may be of that object alone. It is, unless the
        # centre of another detection lies on it.
        if other.is_used or _lies_on(instance, other, camera_from_objects, camera):
            raise ValueError(
                f'object {seen.id!r}: expected a mask that tells it from {other.id!r}, an image '
                'of labels (16UC1, 32SC1) that are the ids of the detections, got one for both'
            )
    return instance


def _lies_on(
    instance: np.ndarray, other: Other, camera_from_objects: np.ndarray, camera: Camera
) -> bool:
    """Whether the centre of another object is on a mask; True if its pose is not known."""
    if other.pose is None:
        return True
    centre = camera.project((camera_from_objects @ other.pose)[:3, 3])
    if not np.isfinite(centre).all():
        return False
    x, y = np.round(centre).astype(int)
    height, width = instance.shape
    return 0 <= x < width and 0 <= y < height and instance[y, x] > 0


def _object_poses(seen: SeenObject, placed: Placement) -> tuple[np.ndarray, np.ndarray]:
    """``frame_from_object`` and ``frame_from_upright`` as in :class:`SourceFrame`."""
    frame_from_object = placed.frame_from_objects @ seen.pose
    frame_from_reference = placed.frame_from_reference
    if frame_from_reference is None:
        return frame_from_object, frame_from_object
    reference_from_object = inverse(frame_from_reference) @ frame_from_object
    return frame_from_object, frame_from_reference @ upright_frame(reference_from_object)


def picture(message: Image | CompressedImage) -> np.ndarray:
    """RGB (height, width, 3) uint8 of an image message.

    Raises
    ------
    ValueError
        The message is malformed, cannot be decoded or is no colour or grey image.
    """
    if isinstance(message, CompressedImage):
        return rgb_from_compressed(message)
    return rgb_from_image(message)
