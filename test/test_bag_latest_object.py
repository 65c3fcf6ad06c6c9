"""The shape of an object from a bag."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from test_bag_process import Synthesizer
from walk_bag import write_walk

from nvs_ros.bag.latest_object import latest_object
from nvs_ros.bag.parameters import read_configuration
from nvs_ros.cli import main
from nvs_ros.errors import UserError

DEMO = Path(__file__).parents[1] / 'demo' / 'mug.mcap'


@pytest.fixture
def bag(tmp_path, monkeypatch):
    """A camera that goes round an object; the last mask is empty."""

    def empty_the_last(index, messages):
        if index == 3:
            messages['mask'].data = bytes(len(messages['mask'].data))

    return write_walk(tmp_path / 'in.mcap', monkeypatch, 4, empty_the_last)


def test_it_is_the_last_frame_that_can_be_used(bag):
    found = latest_object(bag, read_configuration(None, {}), Synthesizer())
    assert found.stamp_ns == 3 * 10**9 and len(found.frames) == 1


def test_frames_before_it_are_remembered(bag):
    parameters = {'fixed_frame': 'world', 'memory.frames': '5'}
    found = latest_object(bag, read_configuration(None, parameters), Synthesizer())
    assert found.stamp_ns == 3 * 10**9 and len(found.frames) == 3


def test_a_bag_without_a_frame_is_named(bag):
    configuration = read_configuration(None, {'object.diameter_m': '9.0'})
    with pytest.raises(UserError, match='no frame that can be used: .*outside the object'):
        latest_object(bag, configuration, Synthesizer())


def test_complete_takes_a_bag(tmp_path, capsys):
    cloud, mesh = tmp_path / 'cloud.ply', tmp_path / 'mesh.obj'
    options = ('--views', '3', '--seeds', '2', '--cells', '24', '-o', str(cloud))
    parameters = ('-p', 'input.depth:=true')
    assert main(['complete', str(DEMO), *options, '--mesh', str(mesh), *parameters]) == 0
    assert cloud.stat().st_size > 10_000 and 'g measured' in mesh.read_text()
    assert 'pose in the bag' in mesh.read_text() and 'synthetic' in capsys.readouterr().out
    assert main(['complete', str(DEMO), '-o', str(cloud), '-p', 'no.such:=1']) == 2
    assert 'no such parameter' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((DEMO, '--mask', 'mask.png'), '--mask: expected photographs with it, got a bag'),
        ((DEMO, '--source-elevation', '9'), '--source-elevation: expected photographs'),
        (('photo.png', '-p', 'input.depth:=true'), '--param: expected a bag with it'),
        (('photo.png', '--remap', 'image:=/other'), '--remap: expected a bag with it'),
    ],
)
def test_what_is_not_of_bags_or_not_of_photographs_is_refused(capsys, arguments, words):
    assert main(['complete', *map(str, arguments)]) == 2
    assert words in capsys.readouterr().err
