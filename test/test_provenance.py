"""No way out of the project loses that a view is synthetic, whatever it is told beside."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from PIL import Image
from test_bag_process import FRAMES, read, run
from test_completion_export import made  # noqa: F401  # a fixture

from nvs_ros.completion.export import MESHES, read_cloud, save_cloud, save_mesh
from nvs_ros.image_files import save_view
from nvs_ros.mark import NO_ROOM, marked
from nvs_ros.messages.images import array_from_image
from nvs_ros.testing.robot import Orbit, graph

ROOT = Path(__file__).parents[1]
LIE = {'synthetic': 'false', 'synthetic_share': 0, 'points': 0}
"""Provenance that says the opposite."""


def says_synthetic(views):
    assert views.views
    return all(view.synthetic for view in views.views)


def of_a_single_view(message):
    """A plain sensor message has no field for it: its frame is that of a camera that is none."""
    return message.header.frame_id.endswith('view_0_optical_frame')


WAYS = {
    '/nvs/views': says_synthetic,
    '/nvs/view_0/image': of_a_single_view,
    '/nvs/view_0/mask': of_a_single_view,
    '/nvs/view_0/measured': of_a_single_view,
    '/nvs/view_0/camera_info': of_a_single_view,
    '/nvs/completed_cloud': lambda cloud: 'synthetic' in [field.name for field in cloud.fields],
    '/nvs/completed_mesh': lambda mesh: mesh.text.startswith('synthetic'),
    '/nvs/next_best_view': lambda pose: True,  # a place to go to, nothing that was seen
}
"""Topic -> whether a message says that it is synthetic. A new topic needs a row."""
NOT_IN_BAGS = {
    '/nvs/contact_sheet',  # for people: a caption under each view
    '/diagnostics',
    '/nvs/transition_event',
    '/parameter_events',
    '/rosout',
    '/tf',  # the frames of cameras that are none
}


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Topic -> messages of a bag from `process --shapes` with the visible mark."""
    folder = tmp_path_factory.mktemp('recorded')
    shapes = folder / 'shapes'
    shapes.mkdir()
    parameters = {'views.azimuths_deg': '[90.0]', 'input.depth': 'true', 'views.mark': 'true'}
    run(folder / 'out.mcap', every=FRAMES, parameters=parameters, shapes=shapes)
    messages = {}
    for topic, _, message in read(folder / 'out.mcap'):
        messages.setdefault(topic, []).append(message)
    return messages, sorted(shapes.iterdir())


def test_every_topic_says_so(recorded):
    messages, files = recorded
    assert messages.keys() == WAYS.keys()
    for topic, found in messages.items():
        assert all(map(WAYS[topic], found)), topic
    cloud, mesh = sorted(files, key=lambda file: file.suffix, reverse=True)
    assert b'comment nvs_ros:synthetic' in cloud.read_bytes()
    assert '# nvs_ros:synthetic true' in mesh.read_text()


def test_the_node_has_no_other_ways_out():
    """Its topics are those of a bag and a few more; its answers say so as well."""
    with graph({'views.azimuths_deg': [30.0], 'completion.min_confidence': 0.0}) as running:
        robot, node = running.robot, running.node
        robot.frames_until(lambda: node._session.synchronizer.newest)
        own = node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace())
        topics = {name for name, _ in own if '/_action/' not in name}
        assert topics - NOT_IN_BAGS == WAYS.keys()
        assert robot.synthesize().view.synthetic
        orbit = Orbit(robot, count=1)
        assert says_synthetic(orbit.result().result.views)
        assert all(view.synthetic for part in orbit.feedback for view in part.views)


@pytest.mark.parametrize('name', ['x.png', 'x.jpg'])
def test_a_saved_picture_says_so(name, tmp_path):
    save_view(np.zeros((8, 8, 3), np.uint8), tmp_path / name, LIE)
    with Image.open(tmp_path / name) as opened:
        told = getattr(opened, 'text', None) or json.loads(opened.getexif()[270])
    assert told['nvs_ros:synthetic'] == 'true'


@pytest.mark.parametrize('ending', MESHES)
def test_a_saved_mesh_says_so(ending, made, tmp_path):  # noqa: F811
    if ending == '.glb':
        pytest.importorskip('trimesh')
    save_mesh(made[1], tmp_path / f'x{ending}', LIE)
    content = (tmp_path / f'x{ending}').read_bytes()
    said = {
        '.ply': b'nvs_ros:synthetic true',
        '.obj': b'nvs_ros:synthetic true',
        '.glb': b'"synthetic":"true"',
        '.stl': b'synthetic=true',
    }
    assert said[ending] in content.replace(b'": "', b'":"')
    assert b'false' not in content[:400]


def test_a_saved_cloud_says_so(made, tmp_path):  # noqa: F811
    save_cloud(made[0], tmp_path / 'x.ply', LIE)
    assert b'nvs_ros:synthetic false' not in (tmp_path / 'x.ply').read_bytes()
    assert np.array_equal(read_cloud(tmp_path / 'x.ply').synthetic, made[0].synthetic)


def test_files_are_written_in_these_places_alone():
    """Pictures by `save_view`, shapes by `completion/export.py`: anything else has to be added
    here, with a reason why it says so too or need not."""
    allowed = {
        'nvs_ros/image_files.py',
        'nvs_ros/completion/export.py',
        'nvs_ros/scenes/image_sheet.py',  # with the mark in its metadata
        'nvs_ros/evaluation/plots.py',  # curves
        'nvs_ros/evaluation/shape_report.py',  # curves
        'nvs_ros/evaluation/weather/plots.py',  # curves, and a sheet of disturbed sources
        'nvs_ros/training/learned_filter.py',  # weights of a filter
    }
    found = set()
    for path in (ROOT / 'nvs_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, 'func', None), 'attr', '')
            owner = getattr(getattr(getattr(node, 'func', None), 'value', None), 'id', '')
            is_picture = name in ('imwrite', 'imsave', 'savefig', 'export', 'write_image')
            if is_picture or (name == 'save' and owner not in ('np', 'torch', 'state')):
                found.add(str(path.relative_to(ROOT)))
    assert found == allowed


def test_the_mark_hides_nothing_and_changes_nothing_else(recorded):
    messages, _ = recorded
    (views,) = messages['/nvs/views']
    (view,) = views.views
    plain = np.full((view.image.height, view.image.width, 3), 255, np.uint8)
    image, mask = array_from_image(view.image), array_from_image(view.mask)
    assert (image[0, 0] != 255).any() or (image[0, 4] != 255).any()
    assert np.array_equal(array_from_image(messages['/nvs/view_0/image'][0]), image)
    drawn, remarks = marked(plain, mask)
    assert not remarks and (drawn[mask > 0] == 255).all()
    assert 0.02 < (drawn != plain).any(-1).mean() < 0.12
    assert not array_from_image(view.measured)[(image != 255).any(-1) & (mask == 0)].any()


def test_an_object_that_fills_the_picture_is_left_whole_and_that_is_said():
    full = np.full((64, 64), 255, np.uint8)
    image = np.full((64, 64, 3), 90, np.uint8)
    drawn, remarks = marked(image, full)
    assert np.array_equal(drawn, image) and remarks == (NO_ROOM,)


def test_the_command_marks_what_it_saves(tmp_path):
    """Its picture differs from that without the mark beside the object alone."""
    picture = np.full((96, 96, 4), (200, 40, 40, 0), np.uint8)
    picture[30:70, 35:60, 3] = 255
    Image.fromarray(picture).save(tmp_path / 'photo.png')
    code = (
        'from nvs_ros.cli import main; from nvs_ros.hero import presets; import dataclasses\n'
        'from nvs_ros.synthesizer import Synthesizer\n'
        "quick = presets.preset('zero123', num_inference_steps=2)\n"
        'Synthesizer.preset = lambda self, name=None: quick\n'
        "for more in ([], ['--mark']):\n"
        "    assert main(['synthesize', 'photo.png', '-o', f'view{len(more)}.png', *more]) == 0"
    )
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True, env=None)
    plain, drawn = (Image.open(tmp_path / f'view{i}.png') for i in range(2))
    assert drawn.text['nvs_ros:synthetic'] == 'true'
    changed = (np.asarray(plain) != np.asarray(drawn)).any(-1)
    assert 0.02 < changed.mean() < 0.2 and not changed[16:-16, 16:-16].any()
