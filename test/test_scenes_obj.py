import io

import numpy as np
import pytest
from PIL import Image

from nvs_ros.scenes.mesh import ball
from nvs_ros.scenes.mesh_files import open_mesh, save_mesh
from nvs_ros.scenes.obj import read_obj
from nvs_ros.scenes.polygons import clip_ears, smooth_normals, triangulate
from nvs_ros.scenes.simplify import select_faces, thinned

CUBE = """
mtllib ../cube materials.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
v 1 0 1
v 1 1 1
v 0 1 1
vt 0 0
vt 2 0
vt 2 1
vt 0 1
usemtl printed
f 1/1 2/2 3/3 4/4
usemtl red paint
f -4 -3 -2
f -4//  -2// -1//
usemtl glass
f 1 2 6 5
usemtl nowhere
f 2 3 7 6
usemtl printed
f 3 4 8 7
"""
MATERIALS = """
newmtl printed
Kd 0 0 0
map_Kd  textures\\Print One.PNG
newmtl red paint
Kd 1 0.25 0
newmtl glass
Kd 0 0 1
d 0.2
"""


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format='PNG')
    return stream.getvalue()


def archive(**other):
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[0] = 200
    files = {
        'models/cube/cube.obj': CUBE.encode(),
        'models/cube materials.mtl': MATERIALS.encode(),
        'models/textures/Print One.PNG': png(picture),
    }
    return (files | other).get


def test_faces_have_the_look_that_their_material_says():
    mesh, opacity, alpha = read_obj('models/cube/cube.obj', archive())
    assert len(mesh.faces) == 10 and mesh.vertices.shape == (8, 3)
    # Triangles first, then the quadrangles in their order.
    assert np.array_equal(mesh.faces[:2], [[4, 5, 6], [4, 6, 7]])
    assert np.array_equal(mesh.texture_index, [-1, -1, 0, 0, -1, -1, -1, -1, -1, -1])
    assert mesh.textures[0].shape == (4, 8, 3) and mesh.textures[0][0, 0, 0] == 200
    assert np.array_equal(mesh.uv[2], [[0, 0], [2, 0], [2, 1]])
    assert mesh.colors[0] == pytest.approx([1, 0.25, 0])
    assert (mesh.colors[2:4] == 1).all()  # a texture as it is
    assert mesh.colors[8] == pytest.approx(np.full(3, 50 / 255))  # its mean, without coordinates
    assert mesh.colors[6] == pytest.approx(np.full(3, 0.63))  # a material that is not there
    assert opacity == pytest.approx([1, 1, 1, 1, 0.2, 0.2, 1, 1, 1, 1])
    assert (alpha == 1).all()


def test_what_is_missing_leaves_a_plain_mesh():
    files = archive()
    mesh, opacity, _ = read_obj(
        'models/cube/cube.obj', lambda path: files(path) if path.endswith('.obj') else None
    )
    assert mesh.texture_index is None and (opacity == 1).all()
    broken = archive(**{'models/textures/Print One.PNG': b'no picture'})
    mesh, _, _ = read_obj('models/cube/cube.obj', broken)
    assert mesh.texture_index is None and mesh.colors[2] == pytest.approx([0, 0, 0])
    with pytest.raises(ValueError, match='no file models/cube.obj'):
        read_obj('models/cube.obj', files)
    with pytest.raises(ValueError, match='no faces'):
        read_obj('empty.obj', {'empty.obj': b'v 0 0 0\n'}.get)


def test_the_alpha_of_a_texture_is_told_where_faces_lie_on_it():
    picture = np.full((4, 8, 4), 255, np.uint8)
    picture[:, 4:, 3] = 0
    text = CUBE.replace('vt 2', 'vt 0.4')
    files = archive(
        **{'models/textures/Print One.PNG': png(picture), 'models/cube/cube.obj': text.encode()}
    )
    assert (read_obj('models/cube/cube.obj', files).alpha == 1).all()
    files = archive(**{'models/textures/Print One.PNG': png(picture)})
    assert read_obj('models/cube/cube.obj', files).alpha[2:4] == pytest.approx([0.5, 0.5], abs=0.3)


# An arrow, whose fan from any corner but the notch's covers ground outside.
ARROW = np.array([[0, 0], [2, 1], [0, 2], [0.8, 1]])
COMB = np.array([[0, 0], [5, 0], [5, 3], [4, 1], [3, 3], [2, 1], [1, 3]])


@pytest.mark.parametrize('outline', [ARROW, ARROW[::-1], np.roll(ARROW, 1, 0), COMB, COMB[::-1]])
@pytest.mark.parametrize('axis', [0, 1, 2])
def test_concave_polygons_are_cut_inside(outline, axis):
    points = np.insert(outline, axis, 0.3, axis=1)
    x, y = outline.T
    area = 0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    corners = np.arange(len(points))[None, :, None]
    triangles, _ = triangulate(points, {len(points): corners}, {len(points): [[0]]})
    assert len(triangles) == len(points) - 2
    a, b, c = np.moveaxis(outline[triangles[..., 0]], 1, 0)
    pieces = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (np.sign(pieces) == np.sign(area)).all()
    assert pieces.sum() == pytest.approx(area)


def test_an_outline_that_crosses_itself_comes_to_an_end():
    bow = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [2, 2, 0]], float)
    assert clip_ears(bow).shape == (3, 3)


def test_normals_are_smooth_within_a_group_and_not_over_a_crease():
    sphere = ball((1, 1, 1), np.ones(3), rings=16)
    # Its columns have points of their own along the seam and at the poles.
    points, faces = np.unique(sphere.vertices.round(9), axis=0, return_inverse=True)
    faces = faces.reshape(-1)[sphere.faces]
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    normals = smooth_normals(points, faces, np.ones(len(faces), int))
    assert (normals * points[faces]).sum(-1).min() > 0.99
    flat = smooth_normals(points, faces, np.zeros(len(faces), int))
    assert (flat == flat[:, :1]).all()
    roof = np.array([[0, 0, 0], [0, 1, 0], [1, 0, -2], [-1, 0, -2]], float)
    normals = smooth_normals(roof, np.array([[0, 2, 1], [0, 1, 3]]), np.ones(2, int))
    assert (normals == normals[:, :1]).all()


def test_stored_meshes_come_back(tmp_path):
    for files in (archive(), {'models/cube/cube.obj': CUBE.encode()}.get):
        mesh = read_obj('models/cube/cube.obj', files).mesh
        save_mesh(mesh, tmp_path / 'mesh.npz')
        again = open_mesh(tmp_path / 'mesh.npz')
        assert np.array_equal(again.vertices, mesh.vertices)
        assert np.array_equal(again.faces, mesh.faces)
        assert np.abs(again.colors - mesh.colors).max() <= 0.5 / 255 + 1e-6
        assert np.abs(again.normals - mesh.normals).max() < 1e-3
        assert len(again.textures) == len(mesh.textures)
        for one, other in zip(again.textures, mesh.textures, strict=True):
            assert np.array_equal(one, other)
        if mesh.textures:
            assert np.array_equal(again.uv, mesh.uv)
            assert np.array_equal(again.texture_index, mesh.texture_index)


def test_selected_faces_keep_what_is_theirs():
    mesh = read_obj('models/cube/cube.obj', archive()).mesh
    printed = select_faces(mesh, mesh.texture_index == 0)
    assert np.array_equal(printed.vertices[printed.faces], mesh.vertices[mesh.faces[2:4]])
    assert np.array_equal(printed.uv, mesh.uv[2:4]) and len(printed.textures) == 1
    plain = select_faces(mesh, mesh.texture_index < 0)
    assert plain.textures == () and plain.texture_index is None


def test_a_mesh_is_thinned_where_that_is_not_seen():
    radii = np.array([0.5, 0.1, 0.1])
    fine = ball(radii, np.ones(3), rings=120)
    thin = thinned(fine, 40_000)
    assert 5_000 < len(thin.faces) <= 40_000 < len(fine.faces)
    # As far from the surface as a cell is wide.
    inside, outside = ((thin.vertices / (radii + sign / 128)) for sign in (-1, 1))
    assert (np.linalg.norm(inside, axis=1) >= 1).all()
    assert (np.linalg.norm(outside, axis=1) <= 1).all()
    assert thinned(fine, 100) is None
    assert thinned(thin, 40_000) is thin
