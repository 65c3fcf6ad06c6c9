from dataclasses import replace

import numpy as np
import pytest

from nvs_ros.scenes.categories import CATEGORIES, make_object
from nvs_ros.scenes.mesh import ball, block, lathe
from nvs_ros.scenes.object_sheet import write_samples
from nvs_ros.scenes.patterns import KINDS, SIDE, make_pattern
from nvs_ros.scenes.textures import box_uv, round_uv, textured

GREY = np.full(3, 0.5)


@pytest.mark.parametrize('kind', dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_patterns_differ_and_repeat_with_their_seed(kind):
    def drawn(seed):
        return kind(np.random.default_rng(seed))

    pictures = [drawn(seed) for seed in range(6)]
    assert all(p.shape == (SIDE, SIDE, 3) and np.isfinite(p).all() for p in pictures)
    assert sum(p.std((0, 1)).max() > 0.02 for p in pictures) >= 4
    assert np.array_equal(pictures[0], drawn(0)) and not np.array_equal(pictures[0], pictures[1])
    assert make_pattern(np.random.default_rng(0)).dtype == np.uint8


@pytest.mark.parametrize('category', sorted(CATEGORIES))
def test_textures_leave_the_shape_and_repeat_with_their_seed(category):
    plain = make_object(category, np.random.default_rng(1))
    picture = np.zeros((8, 8, 3), np.uint8)
    first, second = (textured(plain, np.random.default_rng(2), [picture]) for _ in range(2))
    assert np.array_equal(first.vertices, plain.vertices)
    assert np.array_equal(first.faces, plain.faces)
    shown = first.texture_index >= 0
    assert shown.any() and np.isfinite(first.uv).all()
    assert np.array_equal(first.colors[~shown], plain.colors[~shown])
    assert set(np.unique(first.texture_index[shown])) == set(range(len(first.textures)))
    assert np.array_equal(first.uv, second.uv) and np.array_equal(first.colors, second.colors)
    for one, other in zip(first.textures, second.textures, strict=True):
        assert np.array_equal(one, other)


def test_an_old_texture_makes_way_for_a_new_one():
    plain = block((1.0, 1.0, 1.0), GREY).normalised()
    old = replace(
        plain,
        uv=np.zeros((12, 3, 2), np.float32),
        texture_index=np.zeros(12, np.int32),
        textures=(np.full((2, 2, 3), 77, np.uint8),),
    )
    new = textured(old, np.random.default_rng(0))
    assert len(new.textures) == 1 and new.textures[0].shape == (SIDE, SIDE, 3)
    assert (new.texture_index == 0).all()


def corner_arguments(mesh):
    points = mesh.vertices[mesh.faces]
    across = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    return points, across / (np.linalg.norm(across, axis=-1, keepdims=True) + 1e-30)


def handedness(uv):
    a, b, c = np.moveaxis(uv, 1, 0)
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


def test_print_on_a_box_is_upright_and_not_mirrored_from_any_side():
    points, across = corner_arguments(block((1.0, 2.0, 3.0), GREY).normalised())
    uv = box_uv(points, across)
    assert (handedness(uv) > 0).all()  # corners run counter-clockwise seen from outside
    upright = np.abs(across[:, 2]) < 0.5
    assert uv[upright][..., 1] == pytest.approx(points[upright][..., 2])


def test_print_round_a_can_has_no_torn_face():
    profile = np.array([[0.3, -0.5], [0.3, 0.5]])
    points, across = corner_arguments(lathe(profile, GREY[None], segments=40))
    uv = round_uv(points, across)
    assert np.ptp(uv[..., 0], axis=1).max() < 1.5 / 40
    assert (handedness(uv) > 0).all()


def test_a_sheet_of_samples_is_written(tmp_path):
    write_samples(tmp_path / 'sheet.png', [ball((0.5, 0.5, 0.5), GREY)], size=16)
    assert (tmp_path / 'sheet.png').read_bytes().startswith(b'\x89PNG')
