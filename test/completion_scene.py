"""Objects whose shape is known, and estimates that show them as they are."""

import numpy as np

from nvs_ros.completion.uncertainty import Estimate
from nvs_ros.geometry import (
    Camera,
    CanonicalView,
    Spherical,
    pose_from_spherical,
    target_from_angles,
)
from nvs_ros.scenes.mesh import ball, block, lathe
from nvs_ros.scenes.render import render
from nvs_ros.synthesizer import Frame

SIZE_M = 0.2
RED, BLUE = np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.1, 0.9])
ABOVE = Spherical(0.0, 0.3, 0.36)
RING = np.radians(np.arange(45, 360, 45))


def sphere():
    """A red ball of 0.2 m."""
    return ball((SIZE_M / 2,) * 3, RED, rings=24)


def box():
    """A box of 0.2 m x 0.12 m x 0.16 m; red, blue towards -x."""
    colors = np.array([RED, BLUE, RED, RED, RED, RED])
    return block((0.2, 0.12, 0.16), colors).transformed(np.eye(3), (0, 0, -0.08))


def cup():
    """Without a handle: 0.2 m wide, 0.1 m high, walls of 2 cm and a floor of 1 cm."""
    profile = [[0, -0.05], [0.1, -0.05], [0.1, 0.05], [0.08, 0.05], [0.08, -0.04], [0, -0.04]]
    return lathe(np.array(profile), np.tile(RED, (5, 1)))


class Seen:
    """A mesh before a camera, with estimates that are the truth.

    Parameters
    ----------
    mesh : Mesh
    azimuths_rad : sequence of float
        Of the estimates, from the source.
    source : Spherical
        Camera of the source.
    """

    def __init__(self, mesh, azimuths_rad=RING, source=ABOVE, size=64):
        self.mesh, self.size = mesh, size
        camera, pose = Camera.canonical(size), pose_from_spherical(source)
        picture = render(mesh, pose, camera.matrix, size, size)
        self.frame = Frame(picture.image, picture.mask, camera, pose, SIZE_M, picture.depth_m)
        radius = source.radius / SIZE_M
        self.source = CanonicalView(picture.image, picture.mask, camera, pose, SIZE_M, radius)
        self.estimates = [self.estimate(azimuth) for azimuth in azimuths_rad]

    def estimate(self, azimuth_rad, change=lambda image, mask: (image, mask)):
        """What is truly seen from an azimuth, or what a function makes of it."""
        target = target_from_angles(self.source, azimuth_rad, 0.0)
        matrix = target.camera.matrix
        picture = render(self.mesh, target.object_from_camera, matrix, self.size, self.size)
        image, mask = change(picture.image, picture.mask)
        return Estimate(target, np.stack([image] * 2), np.stack([mask] * 2), (0, 1), 'truth')
