from dataclasses import replace

import numpy as np
import pytest

from nvs_ros.scenes.mesh import ball, block

GREY = np.full(3, 0.5)


def corner_points(mesh):
    """Corners of the faces, (m, 3, 3)."""
    return mesh.vertices[mesh.faces]


def test_normals_stay_across_their_faces_when_a_mesh_is_sheared():
    linear = np.array([[1.0, 0.4, 0], [0, 2.0, -0.3], [0.2, 0, 0.5]])
    mesh = block((1.0, 2.0, 3.0), GREY, top=(0.5, 0.7)).transformed(linear, (1, 2, 3))
    corners = corner_points(mesh)
    for edge in (corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]):
        across = np.einsum('fcd,fd->fc', mesh.normals, edge)
        assert np.abs(across).max() < 1e-5


def test_a_block_has_its_sides_and_colours_where_they_are_said():
    colors = np.eye(6, 3)
    colors[3:] = 1 - np.eye(3)
    mesh = block((1.0, 2.0, 3.0), colors, top=(0.5, 1.0))
    assert mesh.vertices.min(0) == pytest.approx([-0.5, -1, 0])
    assert mesh.vertices.max(0) == pytest.approx([0.5, 1, 3])
    middle = corner_points(mesh).mean(1)
    for face, (axis, sign) in enumerate((a, s) for a in range(3) for s in (1, -1)):
        mine = (mesh.colors == colors[face].astype(np.float32)).all(1)
        others = middle[~mine, axis] * sign
        assert mine.sum() == 2 and (middle[mine, axis] * sign >= others.max()).all()
        assert (mesh.normals[mine][..., axis] * sign > 0).all()  # outwards


def test_points_of_a_ball_lie_on_the_ellipsoid_and_its_normals_point_outwards():
    radii = np.array([0.5, 1.0, 2.0])
    mesh = ball(radii, GREY, rings=16)
    assert np.linalg.norm(mesh.vertices / radii, axis=1) == pytest.approx(np.ones(17 * 33))
    gradient = corner_points(mesh).mean(1) / radii**2
    normal = mesh.normals.mean(1)
    cosine = (gradient * normal).sum(1)
    cosine /= np.linalg.norm(gradient, axis=1) * np.linalg.norm(normal, axis=1)
    assert cosine.min() > 0.97


def test_a_quarter_turn_takes_x_to_y():
    mesh = block((1.0, 2.0, 3.0), GREY)
    turned = mesh.turned(np.pi / 2)
    assert turned.vertices[:, 1] == pytest.approx(mesh.vertices[:, 0])
    assert turned.vertices[:, 0] == pytest.approx(-mesh.vertices[:, 1])


def textured_block(texture):
    mesh = block((1.0, 2.0, 3.0), GREY)
    return replace(
        mesh,
        uv=np.random.default_rng(texture.sum()).random((len(mesh.faces), 3, 2), np.float32),
        texture_index=np.arange(len(mesh.faces), dtype=np.int32) % 2 - 1,
        textures=(texture,),
    )


def test_textures_stay_on_their_faces_when_meshes_are_put_together():
    first = textured_block(np.full((2, 2, 3), 10, np.uint8))
    second = textured_block(np.full((4, 4, 3), 20, np.uint8))
    whole = (first + ball((1, 1, 1), GREY) + second).turned(1.0).normalised()
    count, last = len(first.faces), len(second.faces)
    assert whole.textures == (first.textures[0], second.textures[0])
    assert np.array_equal(whole.uv[:count], first.uv)
    assert np.array_equal(whole.uv[-last:], second.uv)
    assert np.array_equal(whole.texture_index[:count], first.texture_index)
    assert np.array_equal(whole.texture_index[-last:], np.tile([-1, 1], last // 2))
    assert (whole.texture_index[count:-last] == -1).all()


def test_textures_that_do_not_fit_are_refused():
    mesh = textured_block(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match='uv: expected shape'):
        replace(mesh, uv=mesh.uv[:-1])
    with pytest.raises(ValueError, match='got 1'):
        replace(mesh, texture_index=mesh.texture_index + 1)
    with pytest.raises(ValueError, match='expected .h, w, 3. uint8, got .2, 2, 3. float64'):
        _ = replace(mesh, textures=(np.zeros((2, 2, 3)),)).mipmaps
