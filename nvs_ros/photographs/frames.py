"""Photographs with known cameras: nerfstudio's ``transforms.json``.

Its world is right-handed with z up, its camera axes are OpenGL's (x right, y up, z back), and an
integer pixel coordinate is the corner of a pixel, not its centre.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nvs_ros.errors import UserError
from nvs_ros.geometry import Camera
from nvs_ros.geometry.rigid import check_rigid
from nvs_ros.observation import Frame

DISTORTION = {
    'PINHOLE': ('plumb_bob', ()),
    'SIMPLE_PINHOLE': ('plumb_bob', ()),
    'OPENCV': ('plumb_bob', ('k1', 'k2', 'p1', 'p2', 'k3')),
    'OPENCV_FISHEYE': ('equidistant', ('k1', 'k2', 'k3', 'k4')),
}
"""``camera_model`` -> our model and the names of its coefficients."""
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
DEPTH_UNIT_M = 0.001
"""Of 16-bit depth pictures, where ``depth_unit_scale_factor`` does not say another."""
LEAST_ANGLE_DEG = 2.0
"""Cameras that see the object in directions less apart do not tell how far away it is."""

ReadPicture = Callable[[Path, Path | None], tuple[np.ndarray, np.ndarray]]
"""Picture and mask of a photograph and, where there is one, of its mask's file."""


def read_frames(
    file: Path,
    photographs: Sequence[Path],
    read: ReadPicture,
    *,
    centre_m: Sequence[float] | None = None,
    size_m: float | None = None,
) -> tuple[list[Frame], tuple[str, ...]]:
    """Frames of one object.

    Parameters
    ----------
    file : Path
        JSON with ``frames``: ``file_path``, ``transform_matrix`` (4x4, world from camera), perhaps
        ``mask_path`` and ``depth_file_path`` (16 bits, or ``.npy`` in metres; along the optical
        axis); and intrinsics ``fl_x fl_y cx cy w h``, ``camera_model`` and its coefficients for all
        frames or for each.
    photographs : sequence of Path
        Which of its frames, in this order; all when empty.
    read : callable
        See :data:`ReadPicture`.
    centre_m : sequence of 3 float, optional
        Centre of the object in the world. When omitted, where the cameras' rays through the middle
        of its masks come closest to each other; of one frame the world's origin.
    size_m : float, optional
        Longest side of the object's bounding box.

    Returns
    -------
    frames : list of Frame
        In an object frame parallel to the world.
    assumptions : tuple of str

    Raises
    ------
    UserError
        The file or what it names cannot be used.
    """
    content = _load(file)
    entries = _chosen(content, file, photographs)
    frames = []
    for entry in entries:
        try:
            frames.append(_frame({**content, **entry}, file.parent, read, size_m))
        except ValueError as error:
            raise UserError(f'{file}: {entry["file_path"]}: {error}') from error
    assumptions: tuple[str, ...] = ()
    if centre_m is None:
        centre_m, assumptions = _centre(frames, file)
    return [_moved(frame, np.asarray(centre_m, np.float64)) for frame in frames], assumptions


def files_of(file: Path) -> list[Path]:
    """Pictures, masks and depth that a ``transforms.json`` names."""
    names = ('file_path', 'mask_path', 'depth_file_path')
    entries = _load(file)['_frames']
    return [file.parent / entry[name] for entry in entries for name in names if entry.get(name)]


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{file}: expected JSON as nerfstudio writes it: {error}') from error
    frames = content.get('frames') if isinstance(content, dict) else None
    if not (isinstance(frames, list) and frames and all(isinstance(f, dict) for f in frames)):
        raise UserError(f'{file}: expected a list of frames, got {str(frames)[:60]}')
    for frame in frames:
        if not isinstance(frame.get('file_path'), str):
            raise UserError(f'{file}: expected a file_path for each frame, got {str(frame)[:60]}')
    del content['frames']
    return {**content, '_frames': frames}


def _chosen(
    content: dict[str, Any], file: Path, photographs: Sequence[Path]
) -> list[dict[str, Any]]:
    """The entries of photographs, or all of them."""
    entries = content.pop('_frames')
    if not photographs:
        return entries
    chosen = []
    for photograph in photographs:
        path = photograph.resolve()
        same = [e for e in entries if (file.parent / e['file_path']).resolve() == path]
        same = same or [e for e in entries if Path(e['file_path']).name == photograph.name]
        if len(same) != 1:
            names = ', '.join(sorted(e['file_path'] for e in entries)[:5])
            raise UserError(
                f'{photograph}: expected one frame of that file in {file}, got {len(same)}; '
                f'it has {names}'
            )
        chosen += same
    return chosen


def _frame(
    entry: Mapping[str, Any], folder: Path, read: ReadPicture, size_m: float | None
) -> Frame:
    mask_file = folder / entry['mask_path'] if entry.get('mask_path') else None
    image, mask = read(folder / entry['file_path'], mask_file)
    camera = _camera(entry, image.shape[1], image.shape[0])
    depth_m = None
    if entry.get('depth_file_path'):
        unit_m = _number(entry, 'depth_unit_scale_factor', DEPTH_UNIT_M)
        depth_m = _depth(folder / entry['depth_file_path'], unit_m)
        if depth_m.shape != mask.shape:
            raise ValueError(f'depth: expected {mask.shape} like the picture, got {depth_m.shape}')
    pose = check_rigid(entry.get('transform_matrix', np.zeros(0)), 'transform_matrix')
    return Frame(image, mask, camera, pose @ OPENCV_FROM_OPENGL, size_m, depth_m)


def _camera(entry: Mapping[str, Any], width: int, height: int) -> Camera:
    for name, side in (('w', width), ('h', height)):
        if name in entry and entry[name] != side:
            raise ValueError(f'{name}: expected {side} as the picture has, got {entry[name]}')
    if 'fl_x' in entry:
        focal_x = _number(entry, 'fl_x')
    else:
        angle = _number(entry, 'camera_angle_x')
        focal_x = width / 2 / np.tan(angle / 2)
    focal_y = _number(entry, 'fl_y', focal_x)
    middle_x = _number(entry, 'cx', width / 2) - 0.5
    middle_y = _number(entry, 'cy', height / 2) - 0.5
    kind = entry.get('camera_model', 'OPENCV')
    if kind not in DISTORTION:
        raise ValueError(f'camera_model: expected one of {", ".join(DISTORTION)}, got {kind!r}')
    model, names = DISTORTION[kind]
    distortion = [_number(entry, name, 0.0) for name in names]
    matrix = [[focal_x, 0, middle_x], [0, focal_y, middle_y], [0, 0, 1]]
    return Camera(width, height, matrix, distortion if any(distortion) else (), model)


def _number(entry: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = entry.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError(f'{name}: expected a finite number, got {value!r}')
    return float(value)


def _depth(file: Path, unit_m: float) -> np.ndarray:
    """Depth (H, W) float32 in metres; 0 is unknown."""
    try:
        if file.suffix.lower() == '.npy':
            found = np.load(file, allow_pickle=False).squeeze().astype(np.float32)
        else:
            with Image.open(file) as picture:
                found = np.asarray(picture).astype(np.float32) * np.float32(unit_m)
    except (OSError, ValueError) as error:
        raise ValueError(f'depth {file} cannot be read: {error}') from error
    if found.ndim != 2:
        raise ValueError(f'depth {file}: expected one channel, got {found.shape}')
    return found


def _centre(frames: Sequence[Frame], file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Where the rays through the middle of the masks come closest to each other."""
    if len(frames) == 1:
        return np.zeros(3), ('the centre of the object is taken as the origin of the world',)
    directions, origins = [], []
    for frame in frames:
        rows, columns = np.nonzero(np.asarray(frame.mask) > 127)
        if not len(rows):
            raise UserError(f'{file}: a mask shows no object')
        corners = [[columns.min(), rows.min()], [columns.max(), rows.max()]]
        ray = frame.camera.unproject(np.mean(corners, 0, keepdims=True))[0]
        directions.append(frame.object_from_camera[:3, :3] @ ray / np.linalg.norm(ray))
        origins.append(frame.object_from_camera[:3, 3])
    directions, origins = np.array(directions), np.array(origins)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    if np.linalg.eigvalsh(across.mean(0))[0] < np.sin(np.radians(LEAST_ANGLE_DEG) / 2) ** 2:
        raise UserError(
            f'{file}: expected photographs from sides at least {LEAST_ANGLE_DEG:g} degrees apart, '
            'or the centre of the object with --centre'
        )
    centre = np.linalg.solve(across.sum(0), (across @ origins[:, :, None]).sum(0)[:, 0])
    text = ', '.join(f'{x:.3f}' for x in centre)
    return centre, (f'the centre of the object is taken from the masks: {text} m in the world',)


def _moved(frame: Frame, centre: np.ndarray) -> Frame:
    pose = frame.object_from_camera.copy()
    pose[:3, 3] -= centre
    return Frame(frame.image, frame.mask, frame.camera, pose, frame.object_size_m, frame.depth_m)
