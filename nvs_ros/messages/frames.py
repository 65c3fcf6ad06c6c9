"""From the messages of a frame to what the synthesizer observes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from nvs_ros.geometry import Camera, CanonicalView, inverse, upright_frame
from nvs_ros.geometry.occlusion import hidden_outline, hidden_remark
from nvs_ros.messages.cameras import camera_from_message, frame_from_camera_message
from nvs_ros.messages.configuration import Configuration
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
from nvs_ros.synthesizer import Frame


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One object in one frame.

    Parameters
    ----------
    header : std_msgs.msg.Header
        Of the image; its ``frame_id`` is "frame" below.
    stamp_ns : int
        The stamp of ``header``.
    object_id : str
        ``''`` when there is only one object.
    measured : Frame
        The picture as it was taken; its object frame is "upright" below.
    canonical : CanonicalView
        What the network is shown, in the same object frame.
    frame_from_object : (4, 4) float64
        Pose of the object as it was measured, metres.
    frame_from_upright : (4, 4) float64
        The same centre with z up: the frame in which viewpoints are counted.
    fixed_from_upright : (4, 4) float64, optional
        That in the frame that stands still, where it is asked for.
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
        """The present frame, and those that are remembered."""
        return [self.measured, *self.remembered]


def stamp_ns(header: Header) -> int:
    """Stamp in nanoseconds; negative ones too, which rclpy's Time refuses."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def check_message(message: Any, rectified: bool = False) -> None:
    """Check what can be seen without looking at pixels or at other messages.

    Raises
    ------
    ValueError
        The message cannot be part of any frame.
    """
    if isinstance(message, Image):
        check_image(message)
    elif isinstance(message, CompressedImage):
        if not message.data:
            raise ValueError('expected compressed data, got none')
    elif isinstance(message, CameraInfo):
        camera_from_message(message, rectified)
    else:
        check_objects(message)


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the frames are that a frame's poses are given in.

    Parameters
    ----------
    frame_from_objects : (4, 4) float64
        The frame of the object poses, in that of the image.
    frame_from_reference : (4, 4) float64 or None
        The one whose z axis points up; None: that of each object does.
    fixed_from_frame : (4, 4) float64 or None
        That of the image in the one that stands still, where frames are remembered.
    """

    frame_from_objects: np.ndarray
    frame_from_reference: np.ndarray | None
    fixed_from_frame: np.ndarray | None = None


def placement(
    frame: FrameMessages, configuration: Configuration, transforms: Transforms
) -> Placement:
    """Look up the transforms that all objects of a frame need; waits for them, as long as for one.

    Raises
    ------
    UnknownTransform
        A frame is not connected.
    """
    frame_id = frame.messages['image'].header.frame_id
    objects = frame.messages.get('object_pose') or frame.messages.get('detections')
    reference, fixed = configuration.node.reference_frame, configuration.node.still_frame
    transforms = transforms.together()
    frame_from_objects = np.eye(4)
    if objects is not None:  # else mask and depth say where they are, in the frame of the image
        # Where no frame is known to stand still, sync.slop_s says what is taken for one time.
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
    """Convert a frame and turn each object of it into the canonical view.

    Parameters
    ----------
    frame : FrameMessages
        With ``image``, ``camera_info`` and ``mask``; ``object_pose``, ``detections`` or ``depth``
        alone; and perhaps ``depth`` beside the former, and ``occluders``.
    configuration : Configuration
    placed : Placement
        Of the same frame.
    canonical : callable
        :meth:`nvs_ros.synthesizer.Synthesizer.canonical`.
    on_left_out : callable
        Takes the id of an object that cannot be used, and the error.

    Returns
    -------
    list of SourceFrame
        One or more; objects that cannot be used are left out.

    Raises
    ------
    ValueError
        What is wrong with the frame, or with its objects if none is usable.
    """
    messages = frame.messages
    header, info = messages['image'].header, messages['camera_info']
    rectified = configuration.input.rectified
    image = picture(messages['image'])
    camera = camera_from_message(info, rectified)
    frame_from_camera = frame_from_camera_message(info, rectified)
    depth = messages.get('depth')
    depth_m = None if depth is None else depth_from_image(depth)
    values, fixed = configuration.input.mask_values, placed.fixed_from_frame
    if configuration.input.objects == 'mask':
        objects = masked_objects(messages['mask'], configuration)
    else:
        message = messages.get('object_pose') or messages['detections']
        objects = seen_objects(message, configuration.object, on_left_out)
    sources, problems = [], []
    for seen in objects:
        try:
            camera_from_objects = inverse(frame_from_camera) @ placed.frame_from_objects
            instance = _instance(seen, messages['mask'], values, camera_from_objects, camera)
            unknown = other_things(messages, seen.label, values)
            if seen.pose is None:
                given = camera, depth_m, unknown, frame_from_camera, placed.frame_from_reference
                seen = located(seen, instance, *given)
            frame_from_object, frame_from_upright = _object_poses(seen, placed)
            measured = Frame(
                image,
                instance,
                camera,
                inverse(frame_from_upright) @ frame_from_camera,
                seen.size_m,
                depth_m,
                unknown,
            )
            view = canonical(measured)
            said = seen.assumptions or hidden_remarks(measured, view.unit_m)
            sources.append(
                SourceFrame(
                    header,
                    frame.stamp_ns,
                    seen.id,
                    measured,
                    replace(view, assumptions=said + view.assumptions),
                    frame_from_object,
                    frame_from_upright,
                    None if fixed is None else fixed @ frame_from_upright,
                )
            )
        except Exception as error:  # whatever it is: the other objects are not to blame
            problems.append((seen.id, error))
    if not sources:
        raise problems[0][1]
    for identity, error in problems:
        on_left_out(identity, error)
    return sources


def hidden_remarks(measured: Frame, size_m: float) -> tuple[str, ...]:
    """What there is to say of things that hide a part of an object.

    Raises
    ------
    ValueError
        Their picture is of another size.
    """
    if measured.unknown is None:
        return ()
    if measured.unknown.shape != measured.mask.shape:
        raise ValueError(
            f'occluders: expected {measured.mask.shape} like the mask, got {measured.unknown.shape}'
        )
    share = hidden_outline(measured.mask > 0, measured.unknown, measured.depth_m, size_m).mean()
    return (hidden_remark(share),) if share else ()


def _instance(
    seen: SeenObject,
    message: Image | CompressedImage,
    values: str,
    camera_from_objects: np.ndarray,
    camera: Camera,
) -> np.ndarray:
    """Mask of an object and of no other.

    Raises
    ------
    ValueError
        There is none, or it would be that of other objects too.
    """
    instance = mask(message, seen.label, values)
    if not seen.others:
        return instance
    for other in seen.unseparated(has_labels(message, values)):
        # The one object that object.id asks for may have a mask of its own beside detections of
        # others: it has if those do not lie on it.
        if other.is_used or _lies_on(instance, other, camera_from_objects, camera):
            raise ValueError(
                f'object {seen.id!r}: expected a mask that tells it from {other.id!r}, an image '
                'of labels (16UC1, 32SC1) that are the ids of the detections, got one for both'
            )
    return instance


def _lies_on(
    instance: np.ndarray, other: Other, camera_from_objects: np.ndarray, camera: Camera
) -> bool:
    """Whether the centre of another object is on a mask; also where nobody knows its centre."""
    if other.pose is None:
        return True
    centre = camera.project((camera_from_objects @ other.pose)[:3, 3])
    if not np.isfinite(centre).all():
        return False
    x, y = np.round(centre).astype(int)
    height, width = instance.shape
    return 0 <= x < width and 0 <= y < height and instance[y, x] > 0


def _object_poses(seen: SeenObject, placed: Placement) -> tuple[np.ndarray, np.ndarray]:
    """``frame_from_object`` and ``frame_from_upright``; see :class:`SourceFrame`."""
    frame_from_object = placed.frame_from_objects @ seen.pose
    frame_from_reference = placed.frame_from_reference
    if frame_from_reference is None:
        return frame_from_object, frame_from_object
    reference_from_object = inverse(frame_from_reference) @ frame_from_object
    return frame_from_object, frame_from_reference @ upright_frame(reference_from_object)


def picture(message: Image | CompressedImage) -> np.ndarray:
    """RGB (height, width, 3) uint8."""
    if isinstance(message, CompressedImage):
        return rgb_from_compressed(message)
    return rgb_from_image(message)
