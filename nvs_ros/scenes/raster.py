"""The compiled inner loops of the rasteriser: which face a sample shows, and in which colour.

They are in one file, because numba's cache notices changes only in the file of the calling
function.
"""

from __future__ import annotations

import numba
import numpy as np

NEAR = 1e-3
"""Faces with a corner nearer to the camera plane than this are not drawn."""
MOST_LOOKUPS = 8
"""Most texture lookups for a sample, along the longer side of the area that it covers."""


@numba.njit(cache=True, fastmath=True)
def find_faces(pixels, faces, inverse_depth, shown):
    """Fill ``inverse_depth`` and ``shown``, the index of the nearest face of each sample.

    ``pixels`` (n, 3) are the vertices in homogeneous sample coordinates.
    """
    height, width = inverse_depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if pixels[a, 2] < NEAR or pixels[b, 2] < NEAR or pixels[c, 2] < NEAR:
            continue
        qa, qb, qc, xa, ya, xb, yb, xc, yc, area = _projected(pixels, faces, f)
        if abs(area) < 1e-9:
            continue
        left = max(0, int(np.ceil(min(xa, xb, xc))))
        right = min(width - 1, int(np.floor(max(xa, xb, xc))))
        top = max(0, int(np.ceil(min(ya, yb, yc))))
        bottom = min(height - 1, int(np.floor(max(ya, yb, yc))))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) / area
                wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) / area
                wc = 1 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                q = wa * qa + wb * qb + wc * qc
                if q <= inverse_depth[y, x]:
                    continue
                inverse_depth[y, x] = q
                shown[y, x] = f


@numba.njit(cache=True, fastmath=True)
def _projected(pixels, faces, f):
    """1 / z of the three corners of a face, their x and y, and twice its signed area."""
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    qa, qb, qc = 1 / pixels[a, 2], 1 / pixels[b, 2], 1 / pixels[c, 2]
    xa, ya = pixels[a, 0] * qa, pixels[a, 1] * qa
    xb, yb = pixels[b, 0] * qb, pixels[b, 1] * qb
    xc, yc = pixels[c, 0] * qc, pixels[c, 1] * qc
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    return qa, qb, qc, xa, ya, xb, yb, xc, yc, area


@numba.njit(cache=True, fastmath=True)
def shade(pixels, faces, colors, normals, rotation, rays, lighting, shown, texturing, color):
    """Fill ``color`` (0..255) where a face is shown; surfaces are lit on both sides.

    Parameters
    ----------
    rotation : (3, 3)
        Of object_from_camera; ``normals`` are in the object frame.
    rays : (3, 3)
        Maps homogeneous sample coordinates to a direction in the camera frame.
    lighting : tuple
        Direction towards the light in the camera frame, ambient share, strength of the gloss and
        its exponent.
    texturing : tuple
        Texture coordinates and texture index of each face, and the fields of the mipmaps.
    """
    light, ambient, gloss, exponent = lighting
    uv, texture_index, texels, levels, counts = texturing
    for y in range(shown.shape[0]):
        for x in range(shown.shape[1]):
            f = shown[y, x]
            if f < 0:
                continue
            qa, qb, qc, xa, ya, xb, yb, xc, yc, area = _projected(pixels, faces, f)
            wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) / area
            wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) / area
            wc = 1 - wa - wb
            q = wa * qa + wb * qb + wc * qc
            ka, kb, kc = wa * qa / q, wb * qb / q, wc * qc / q
            nx, ny, nz = _normal(normals, rotation, f, ka, kb, kc)
            norm = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
            if nz > 0:
                norm = -norm
            lambert = (nx * light[0] + ny * light[1] + nz * light[2]) / norm
            shine = ambient + (1 - ambient) * max(lambert, 0.0)
            red, green, blue = colors[f, 0], colors[f, 1], colors[f, 2]
            texture = texture_index[f]
            if texture >= 0:
                u = ka * uv[f, 0, 0] + kb * uv[f, 1, 0] + kc * uv[f, 2, 0]
                v = ka * uv[f, 0, 1] + kb * uv[f, 1, 1] + kc * uv[f, 2, 1]
                # Derivatives of u and v along x and y: the quotient rule for U(x, y) / q(x, y).
                q_area = q * area
                ga, gb, gc = (
                    qa * (yb - yc) / q_area,
                    qb * (yc - ya) / q_area,
                    qc * (ya - yb) / q_area,
                )
                ha, hb, hc = (
                    qa * (xc - xb) / q_area,
                    qb * (xa - xc) / q_area,
                    qc * (xb - xa) / q_area,
                )
                ux = ga * (uv[f, 0, 0] - u) + gb * (uv[f, 1, 0] - u) + gc * (uv[f, 2, 0] - u)
                vx = ga * (uv[f, 0, 1] - v) + gb * (uv[f, 1, 1] - v) + gc * (uv[f, 2, 1] - v)
                uy = ha * (uv[f, 0, 0] - u) + hb * (uv[f, 1, 0] - u) + hc * (uv[f, 2, 0] - u)
                vy = ha * (uv[f, 0, 1] - v) + hb * (uv[f, 1, 1] - v) + hc * (uv[f, 2, 1] - v)
                r, g, b = _filtered(texels, levels[texture], counts[texture], u, v, ux, vx, uy, vy)
                red, green, blue = red * r, green * g, blue * b
            color[y, x, 0] = 255 * shine * red
            color[y, x, 1] = 255 * shine * green
            color[y, x, 2] = 255 * shine * blue
            if gloss > 0 and lambert > 0:
                highlight = (
                    255 * gloss * _highlight(rays, light, x, y, nx, ny, nz, norm) ** exponent
                )
                for channel in range(3):
                    color[y, x, channel] = min(255, color[y, x, channel] + highlight)


@numba.njit(cache=True, fastmath=True)
def _normal(normals, rotation, f, ka, kb, kc):
    """The normal of a sample in the camera frame, not of unit length."""
    # Rounded for each corner as if all normals had been rotated and stored as float32 beforehand.
    nx, ny, nz = 0.0, 0.0, 0.0
    for corner in range(3):
        k = ka if corner == 0 else kb if corner == 1 else kc
        x, y, z = normals[f, corner, 0], normals[f, corner, 1], normals[f, corner, 2]
        nx += k * np.float32(x * rotation[0, 0] + y * rotation[1, 0] + z * rotation[2, 0])
        ny += k * np.float32(x * rotation[0, 1] + y * rotation[1, 1] + z * rotation[2, 1])
        nz += k * np.float32(x * rotation[0, 2] + y * rotation[1, 2] + z * rotation[2, 2])
    return nx, ny, nz


@numba.njit(cache=True, fastmath=True)
def _highlight(rays, light, x, y, nx, ny, nz, norm):
    """Cosine between the normal and the half-way vector of light and eye, at least 0."""
    ex = -(rays[0, 0] * x + rays[0, 1] * y + rays[0, 2])
    ey = -(rays[1, 0] * x + rays[1, 1] * y + rays[1, 2])
    ez = -(rays[2, 0] * x + rays[2, 1] * y + rays[2, 2])
    length = np.sqrt(ex * ex + ey * ey + ez * ez)
    hx, hy, hz = light[0] + ex / length, light[1] + ey / length, light[2] + ez / length
    half = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-12
    return max(0.0, (nx * hx + ny * hy + nz * hz) / (norm * half))


@numba.njit(cache=True, fastmath=True)
def _filtered(texels, levels, count, u, v, ux, vx, uy, vy):
    """Mean RGB of a texture, 0..1, over the area that a sample covers (anisotropic filtering).

    Several lookups along the longer side of the covered parallelogram, at the mipmap level whose
    pixels are as large as its shorter side, so that oblique surfaces are neither jagged nor
    blurred.
    """
    height, width = levels[0, 1], levels[0, 2]
    along_x = np.sqrt((ux * width) ** 2 + (vx * height) ** 2)
    along_y = np.sqrt((uy * width) ** 2 + (vy * height) ** 2)
    long, short = max(along_x, along_y), min(along_x, along_y)
    step_u, step_v = (ux, vx) if along_x > along_y else (uy, vy)
    lookups = int(min(MOST_LOOKUPS, max(1.0, np.ceil(long / max(short, 1.0)))))
    level = min(np.log2(max(short, long / lookups, 1.0)), count - 1.0)
    fine = int(level)
    coarse = min(fine + 1, count - 1)
    blend = level - fine
    red, green, blue = 0.0, 0.0, 0.0
    for i in range(lookups):
        share = (i + 0.5) / lookups - 0.5
        s, t = u + share * step_u, v + share * step_v
        r, g, b = _bilinear(texels, levels[fine], s, t)
        if blend > 0:
            rc, gc, bc = _bilinear(texels, levels[coarse], s, t)
            r, g, b = r + blend * (rc - r), g + blend * (gc - g), b + blend * (bc - b)
        red, green, blue = red + r, green + g, blue + b
    scale = 1 / (255.0 * lookups)
    return red * scale, green * scale, blue * scale


@numba.njit(cache=True, fastmath=True)
def _bilinear(texels, level, u, v):
    """Bilinear lookup in a repeating texture, RGB 0..255; v points up, rows go down."""
    start, height, width = level[0], level[1], level[2]
    x, y = (u - np.floor(u)) * width - 0.5, (np.ceil(v) - v) * height - 0.5
    column, row = int(np.floor(x)), int(np.floor(y))
    p, q = x - column, y - row
    left, right = column % width, (column + 1) % width
    top, bottom = start + (row % height) * width, start + ((row + 1) % height) * width
    wa, wb, wc, wd = (1 - p) * (1 - q), p * (1 - q), (1 - p) * q, p * q
    a, b, c, d = top + left, top + right, bottom + left, bottom + right
    return (
        wa * texels[a, 0] + wb * texels[b, 0] + wc * texels[c, 0] + wd * texels[d, 0],
        wa * texels[a, 1] + wb * texels[b, 1] + wc * texels[c, 1] + wd * texels[d, 1],
        wa * texels[a, 2] + wb * texels[b, 2] + wc * texels[c, 2] + wd * texels[d, 2],
    )
