"""A z-buffer rasteriser for small meshes: half a millisecond for a 64-pixel image on one CPU
core.

By default the light moves with the camera, so that shading does not reveal the absolute azimuth: a
view conditioned on a *relative* pose must be predictable from the source view.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.raster import find_faces, shade

LIGHT_IN_CAMERA = np.array([-0.35, -0.55, -0.76])
"""Direction towards the light, camera optical frame (x right, y down, z forward)."""
AMBIENT = 0.45
"""Share of the light that comes from everywhere."""
EXPONENT = 30.0
"""Sharpness of highlights."""


@dataclass(frozen=True)
class Rendering:
    """An image with its mask and depth.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB over the background colour.
    mask : (H, W) uint8
        Coverage of the pixel by the object, 0..255.
    depth_m : (H, W) float32
        z of the nearest surface in the camera optical frame, in the unit of the mesh; NaN where
        there is none.
    """

    image: np.ndarray
    mask: np.ndarray
    depth_m: np.ndarray


def render(
    mesh: Mesh,
    object_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    width: int,
    height: int,
    *,
    supersample: int = 2,
    background: tuple[int, int, int] = (255, 255, 255),
    light: np.ndarray | tuple[float, float, float] = LIGHT_IN_CAMERA,
    ambient: float = AMBIENT,
    gloss: float = 0.0,
    exponent: float = EXPONENT,
) -> Rendering:
    """Draw a mesh with a pinhole camera.

    Parameters
    ----------
    mesh : Mesh
        Vertices in the object frame.
    object_from_camera : (4, 4) float
        Pose of the camera (optical frame) in the object frame, same unit as the mesh.
    intrinsics : (3, 3) float
        Pinhole matrix; integer pixel coordinates are pixel centres.
    width, height : int
        Size of the image in pixels.
    supersample : int
        Samples per pixel and axis.
    background : tuple of int
        RGB behind the object.
    light : (3,) float
        Unit vector towards the light, camera optical frame.
    ambient : float
        Share of the light that comes from everywhere, 0..1.
    gloss : float
        Strength of white highlights (Blinn-Phong), 0..1.
    exponent : float
        Sharpness of the highlights: 5 like rubber, 30 like plastic, 200 like glazed china.

    Returns
    -------
    Rendering
    """
    rotation, translation = object_from_camera[:3, :3], object_from_camera[:3, 3]
    points = (mesh.vertices - translation) @ rotation
    scale = np.diag([supersample, supersample, 1.0])
    scale[:2, 2] = (supersample - 1) / 2
    pixels = points @ (scale @ intrinsics).T
    shape = (height * supersample, width * supersample)
    inverse_depth = np.zeros(shape, np.float32)
    shown = np.full(shape, -1, np.int32)
    pixels = np.ascontiguousarray(pixels, np.float64)
    find_faces(pixels, mesh.faces, inverse_depth, shown)
    color = np.zeros((*shape, 3), np.float32)
    lighting = (np.asarray(light, np.float32), np.float32(ambient), float(gloss), float(exponent))
    shade(
        pixels,
        mesh.faces,
        np.ascontiguousarray(mesh.colors, np.float32),
        np.ascontiguousarray(mesh.normals, np.float32),
        np.ascontiguousarray(rotation, np.float64),
        np.linalg.inv(scale @ intrinsics),
        lighting,
        shown,
        _texturing(mesh),
        color,
    )
    covered = (inverse_depth > 0).astype(np.float32)
    coverage = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
    mean = cv2.resize(color, (width, height), interpolation=cv2.INTER_AREA)
    image = mean + (1 - coverage)[..., None] * np.asarray(background, np.float32)
    nearest = inverse_depth.reshape(height, supersample, width, supersample).max((1, 3))
    with np.errstate(divide='ignore'):
        depth = np.where(nearest > 0, 1 / nearest, np.nan).astype(np.float32)
    return Rendering(
        np.clip(image + 0.5, 0, 255).astype(np.uint8),
        (coverage * 255 + 0.5).astype(np.uint8),
        depth,
    )


def _texturing(mesh: Mesh) -> tuple[np.ndarray, ...]:
    """Texture coordinates and texture index of each face, and the arrays of the mipmaps."""
    if mesh.texture_index is None:
        none = np.full(len(mesh.faces), -1, np.int32)
        return np.zeros((0, 3, 2), np.float32), none, *mesh.mipmaps
    uv = np.ascontiguousarray(mesh.uv, np.float32)
    return uv, np.ascontiguousarray(mesh.texture_index, np.int32), *mesh.mipmaps
