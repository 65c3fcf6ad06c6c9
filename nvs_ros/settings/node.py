"""Every setting of the node, declared once: type, default, range, unit and description.

A group of settings is a frozen dataclass whose fields are declared with
:func:`~nvs_ros.settings.declaration.setting`. From the same declaration come the checks on
construction, the ROS parameter descriptors, ``config/nvs.yaml`` and the README's table.
"""

from __future__ import annotations

import dataclasses

from nvs_ros.settings.declaration import Settings, setting

DEFAULT_PRESET = 'zero-to-hero'
SEEDS = 2**63
"""Number of seeds: they are 0 to SEEDS - 1, the non-negative values of a message's int64."""


@dataclasses.dataclass(frozen=True)
class NodeSettings(Settings):
    """What the node does with the frames it gets."""

    autostart: bool = setting(True, 'Configure and activate by itself at start.')
    enabled: bool = setting(
        True,
        'Make the configured views of incoming frames; requests are served either way.',
        runtime=True,
    )
    on_demand: bool = setting(
        True, 'Make only views that somebody has subscribed to.', runtime=True
    )
    preset: str = setting(
        DEFAULT_PRESET, 'Named sampler settings; the fields of `sampler` override it.', runtime=True
    )
    seed: int = setting(
        0, 'Seed of the noise: same frame and seed, same views.', low=0, runtime=True
    )
    reference_frame: str = setting(
        '',
        "Frame whose z axis points up. Empty: the z axis of the object's own pose, or without one "
        'the plane that it stands on.',
    )
    fixed_frame: str = setting(
        '',
        'Frame that stands still, through which poses are brought to the time of the image where '
        'they have another; the camera may move. Empty: reference_frame.',
    )
    tf_timeout_s: float = setting(
        0.05,
        'How long a transform that is not there yet is waited for.',
        unit='s',
        low=0.0,
        high=10.0,
    )
    publish_tf: bool = setting(True, "Publish the virtual cameras' frames on /tf (needs tf2_ros).")

    @property
    def still_frame(self) -> str:
        """The frame taken to stand still: ``fixed_frame``, else ``reference_frame``, or ``''``."""
        return self.fixed_frame or self.reference_frame


@dataclasses.dataclass(frozen=True)
class InputSettings(Settings):
    """Which messages make up a frame."""

    image_transport: str = setting(
        'raw',
        'Kind of the image topic; compressed reads <image>/compressed.',
        choices=('raw', 'compressed'),
    )
    mask_transport: str = setting(
        'raw',
        'Kind of the mask topic; compressed reads <mask>/compressed (PNG).',
        choices=('raw', 'compressed'),
    )
    mask_values: str = setting(
        'auto',
        'What the values of a mask say: binary, above 0 is the object; labels, each value above 0 '
        'is an object; auto, labels in 16UC1, mono16, 32SC1 and PNG of 16 bits, else binary.',
        choices=('auto', 'binary', 'labels'),
    )
    objects: str = setting(
        'pose',
        'Where objects come from: topic object_pose, topic detections (vision_msgs), or mask and '
        'depth alone, see docs/depth.md.',
        choices=('pose', 'detections', 'mask'),
    )
    depth: bool = setting(
        False,
        'Read topic depth (REP-118): size and shape of the object, see docs/depth.md. Always read '
        'where objects come from the mask.',
    )
    occluders: bool = setting(
        False,
        'Read topic occluders, a mask of what is in front of the object and may hide a part of it; '
        'its transport is that of the mask.',
    )
    reconcile: bool = setting(
        True,
        'With depth: what stands before the object is found in it, a mask that is off follows it, '
        'and depth of another moment is not used, see docs/robustness.md.',
    )
    rectified: bool = setting(
        False, 'The image is rectified (image_rect): P of camera_info instead of K and D.'
    )

    @property
    def reads_depth(self) -> bool:
        """Whether frames include a depth image."""
        return self.depth or self.objects == 'mask'


@dataclasses.dataclass(frozen=True)
class SyncSettings(Settings):
    """How the messages of one frame are matched."""

    slop_s: float = setting(
        0.01,
        'Largest difference between the stamps of one frame; below half the image period.',
        unit='s',
        low=0.0,
        high=10.0,
    )
    buffer_s: float = setting(
        5.0,
        'How long messages are kept while their partners are awaited; above the time that the '
        'mask takes.',
        unit='s',
        low=0.05,
        high=600.0,
    )
    buffer_mb: int = setting(
        500,
        'What the messages kept may take; the oldest go first. Two seconds of 1920x1080 at 30 Hz '
        'take 373.',
        unit='MB',
        low=1,
        high=1_000_000,
    )


@dataclasses.dataclass(frozen=True)
class ObjectSettings(Settings):
    """The object of interest."""

    label: int = setting(
        0,
        'Value of the object in a label image, see input.mask_values; 0: every value above 0.',
        low=0,
    )
    id: str = setting(
        '', 'Id of the detection to use, or label where objects come from the mask; empty: all.'
    )
    diameter_m: float = setting(
        0.0,
        'Longest side of its bounding box; 0: from detection, depth or mask.',
        unit='m',
        low=0.0,
        high=100.0,
    )


@dataclasses.dataclass(frozen=True)
class ModelSettings(Settings):
    """The weights and where they run."""

    source: str = setting('embedded', 'Weights: embedded, a folder, a checkpoint file, a hub id.')
    kind: str = setting(
        'auto',
        'How the model takes the pose; auto: as its files or their name say.',
        choices=('auto', 'zero123', 'zero123-xl', 'stable-zero123'),
    )
    device: str = setting('auto', 'Torch device: auto, cpu, cuda, cuda:1.')
    dtype: str = setting(
        'auto', 'Number format of the network.', choices=('auto', 'float32', 'float16', 'bfloat16')
    )
    threads: int = setting(
        0,
        'CPU threads of the network; 0: those that other programs leave, which changes views by '
        'rounding.',
        low=0,
        high=1024,
    )
    compile: bool = setting(
        False,
        'Compile blocks of the network (needs a C++ compiler), for GPUs: slower on a CPU. The '
        "start takes minutes, kept in torch's cache for the next one.",
    )
    source_memory_mb: int = setting(
        1000,
        'What may be remembered of the source branch of a frame, so that further views of it need '
        'none; a seed takes 39 embedded, 613 at full size in float16.',
        unit='MB',
        low=0,
        high=1_000_000,
    )


@dataclasses.dataclass(frozen=True)
class ViewSettings(Settings):
    """The views made of each frame. Lists of length 1 hold for all of them."""

    azimuths_deg: tuple[float, ...] = setting(
        (40.0, 80.0, 120.0, 160.0, 200.0, 240.0, 280.0, 320.0),
        'Azimuth of each view about the object, relative to the camera; positive: to its right.',
        unit='deg',
        low=-360.0,
        high=360.0,
        runtime=True,
    )
    elevations_deg: tuple[float, ...] = setting(
        (0.0,),
        'Elevation of each view, relative to the camera; positive: up.',
        unit='deg',
        low=-180.0,
        high=180.0,
        runtime=True,
    )
    distances_m: tuple[float, ...] = setting(
        (0.0,),
        'Distance of each view, added to that of the camera; positive: farther.',
        unit='m',
        low=-100.0,
        high=100.0,
        runtime=True,
    )
    image_size_px: int = setting(
        0, "Width and height of each view; 0: the model's own.", unit='px', low=0, high=4096
    )
    keep_measured: bool = setting(
        True,
        'Pixels of a view that the depth camera measured stay as they were measured, and where '
        'depth or mask show empty space there is no object.',
        runtime=True,
    )
    mark: bool = setting(
        False,
        'Striped border on published pictures, beside the object, by which people see that they '
        'are synthetic; see docs/misuse.md.',
        runtime=True,
    )
    frame_prefix: str = setting(
        '', "Virtual camera i gets frame <prefix>view_<i>_optical_frame; empty: the node's name."
    )

    def check(self) -> None:
        """Raise ValueError for lists whose lengths are neither equal nor 1."""
        lengths = {
            name: len(getattr(self, name))
            for name in ('azimuths_deg', 'elevations_deg', 'distances_m')
        }
        if min(lengths.values()) < 1 or len(set(lengths.values()) - {1}) > 1:
            raise ValueError(f'views: expected lists of one length or of length 1, got {lengths}')

    @property
    def viewpoints(self) -> list[tuple[float, float, float]]:
        """Azimuth and elevation in degrees and distance in metres of each view."""
        lists = (self.azimuths_deg, self.elevations_deg, self.distances_m)
        count = max(map(len, lists))
        return list(zip(*(v * count if len(v) == 1 else v for v in lists), strict=True))


@dataclasses.dataclass(frozen=True)
class MemorySettings(Settings):
    """Earlier frames of an object that stands still while the camera moves about it."""

    frames: int = setting(
        0,
        'Frames of each object that are remembered beside the present one, those that overlap '
        'least; 0: none. Needs fixed_frame or reference_frame.',
        low=0,
        high=32,
        runtime=True,
    )
    least_angle_deg: float = setting(
        20.0,
        'The camera has moved about the object at least so far between two of them.',
        unit='deg',
        low=1.0,
        high=180.0,
        runtime=True,
    )
    objects: int = setting(
        32,
        'Objects that are remembered; those not seen for the longest time are forgotten first.',
        low=1,
        high=1000,
        runtime=True,
    )
    still_m: float = setting(
        0.01,
        'An object that is found further from where it was has moved: its frames are forgotten.',
        unit='m',
        low=0.0,
        high=10.0,
        runtime=True,
    )
    still_deg: float = setting(
        5.0,
        'The same for its orientation; 180 where that is not known, as of a round object.',
        unit='deg',
        low=0.0,
        high=180.0,
        runtime=True,
    )


@dataclasses.dataclass(frozen=True)
class RequestSettings(Settings):
    """Requests by service and action."""

    queue: int = setting(4, 'Requests that may wait; more are refused.', low=1, high=100)
    batch: int = setting(
        4,
        'Views of an orbit made at once; 1 shows each as soon as possible.',
        low=1,
        high=64,
        runtime=True,
    )


@dataclasses.dataclass(frozen=True)
class LimitSettings(Settings):
    """What a message or request may make the node allocate; what is over a limit is refused."""

    image_mp: float = setting(
        64.0,
        'Pixels of a picture, mask or depth image, before it is decoded.',
        unit='MP',
        low=0.01,
        high=170.0,
    )
    message_mb: int = setting(
        400, 'Data of one image message, padding included.', unit='MB', low=1, high=100_000
    )
    objects: int = setting(100, 'Detections in a message, or labels in a mask.', low=1, high=10_000)
    orbit_views: int = setting(1000, 'Views of an orbit.', low=1, high=1_000_000)
    request_mp: float = setting(
        300.0,
        'Pixels of all views that a request asks for, together.',
        unit='MP',
        low=0.01,
        high=100_000.0,
    )


@dataclasses.dataclass(frozen=True)
class CompletionSettings(Settings):
    """The completed shape, and the confidence of views."""

    preset: str = setting(
        'fast',
        'Named sampler settings of its own views; the calibration of the confidence is for these.',
        runtime=True,
    )
    seeds: int = setting(
        3, 'Times that each view is made, to see how far they agree.', low=2, high=64, runtime=True
    )
    cells: int = setting(
        64, 'Cells of the hull along its longer sides.', low=16, high=160, runtime=True
    )
    normals: bool = setting(False, 'Give each point of the cloud its normal.', runtime=True)
    min_confidence: float = setting(
        0.0,
        'Views under it are not published, nor used for the shape; 0: all are.',
        low=0.0,
        high=1.0,
        runtime=True,
    )
