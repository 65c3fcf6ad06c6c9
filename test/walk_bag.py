"""A bag of a camera that goes round an object, which stands still in the frame called world."""

from nvs_ros.bag import transforms as recorded
from nvs_ros.bag.writer import BagWriter
from nvs_ros.geometry import Spherical, pose_from_spherical
from nvs_ros.messages import transforms
from nvs_ros.testing import light_tf2, robot


def write_walk(file, monkeypatch, count, change=lambda index, messages: None):
    """Write so many frames, one a second; their transforms are those of the bag from then on."""
    if transforms.tf2_ros is None:
        monkeypatch.setattr(transforms, 'tf2_ros', light_tf2)
    scene, moves = robot.Scene(), []
    with BagWriter(file) as writer:
        for i in range(count):
            ns = (i + 1) * 10**9
            scene.object_from_camera = pose_from_spherical(Spherical(1.2 * i, 0.4, 0.2))
            moves.append((light_tf2.message('world', robot.FRAME, ns, scene.object_from_camera), 0))
            messages = scene.messages(ns)
            change(i, messages)
            for name, message in messages.items():
                writer.write(f'/{name}', ns, message)
    monkeypatch.setattr(recorded, 'recorded_transforms', lambda *_: iter(moves))
    return file
