"""The shape of an object from a bag."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy')

import light_tf2
import robot
from test_bag_process import Synthesizer

from nvs_ros.bag import transforms as recorded
from nvs_ros.bag.latest import latest_object
from nvs_ros.bag.parameters import read_configuration
from nvs_ros.bag.writer import BagWriter
from nvs_ros.cli import main
from nvs_ros.errors import UserError
from nvs_ros.geometry import Spherical, pose_from_spherical
from nvs_ros.node import transforms

DEMO = Path(__file__).parents[1] / 'demo' / 'mug.mcap'


@pytest.fixture
def bag(tmp_path, monkeypatch):
    """The camera goes round an object that stands still in the frame called world."""
    if transforms.tf2_ros is None:
        monkeypatch.setattr(transforms, 'tf2_ros', light_tf2)
    scene, moves = robot.Scene(), []
    with BagWriter(tmp_path / 'in.mcap') as writer:
        for i in range(4):
            ns = (i + 1) * 10**9
            scene.object_from_camera = pose_from_spherical(Spherical(1.2 * i, 0.4, 0.2))
            moves.append((light_tf2.message('world', robot.FRAME, ns, scene.object_from_camera), 0))
            messages = scene.messages(ns)
            if i == 3:
                messages['mask'].data = bytes(len(messages['mask'].data))
            for name, message in messages.items():
                writer.write(f'/{name}', ns, message)
    monkeypatch.setattr(recorded, 'recorded_transforms', lambda *_: iter(moves))
    return tmp_path / 'in.mcap'


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
