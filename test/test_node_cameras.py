"""Cameras that people own: launch/camera.launch.py and config/ fit what their drivers publish."""

import ast
import queue
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy
import yaml
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from nvs_interfaces.msg import NovelViewArray
from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.geometry import Camera, Spherical
from nvs_ros.messages.cameras import message_from_camera
from nvs_ros.messages.images import image_from_array
from nvs_ros.node.executor import ThreadedExecutor
from nvs_ros.node.view_node import ViewNode
from nvs_ros.scenes.categories import make_object
from nvs_ros.settings.text import parameter_fields
from nvs_ros.testing import robot
from nvs_ros.testing.robot import FRAME, LightSynthesizer

ROOT = Path(__file__).resolve().parents[1]
LENS = Camera(160, 120, [[150, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])

# As the drivers publish: encoding of the picture, encoding of depth.
PUBLISHED = {
    'realsense': ('rgb8', '16UC1'),
    'zed': ('bgra8', '32FC1'),
    'oak': ('bgr8', '16UC1'),
}
DRIVER_QOS = QoSProfile(depth=10)
"""Reliable, which is rclpy's default as it is theirs."""


def constant(file, name):
    """A literal of a launch file; the package launch is a robot's."""
    for node in ast.parse((ROOT / 'launch' / file).read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f'{file}: expected {name}')


CAMERAS = constant('camera.launch.py', 'CAMERAS')


def topics(camera):
    """Input of the node -> topic of the driver under its default name."""
    below = {name: topic for name, topic in CAMERAS[camera].items() if name != 'driver'}
    return {name: f'{CAMERAS[camera]["driver"]}/{topic}' for name, topic in below.items()}


def test_every_camera_has_topics_parameters_and_a_page():
    assert set(CAMERAS) == set(PUBLISHED)
    page = (ROOT / 'docs/cameras.md').read_text()
    for camera, names in CAMERAS.items():
        assert set(names) == {'driver', 'image', 'camera_info', 'depth'}
        assert set(names) - {'driver'} <= set(constant('nvs.launch.py', 'TOPICS'))
        assert f'camera:={camera}' in page
        for name in ('driver', 'image', 'depth'):
            assert f'`{names[name]}`' in page, f'{camera}: {names[name]}'
        tree = yaml.safe_load((ROOT / f'config/{camera}.yaml').read_text())
        (group,) = tree['/**']['ros__parameters']
        assert {f'input.{name}' for name in tree['/**']['ros__parameters'][group]} <= set(
            parameter_fields()
        )


def picture(camera, seen, header):
    """What the driver makes of a picture and its depth."""
    encoding, depth_encoding = PUBLISHED[camera]
    image = seen.image if encoding == 'rgb8' else seen.image[..., ::-1]
    if encoding == 'bgra8':
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    depth = seen.depth_m
    if depth_encoding == '16UC1':
        depth = np.where(np.isfinite(depth), depth * 1000, 0).round().astype(np.uint16)
    return {
        'image': image_from_array(np.ascontiguousarray(image), encoding, header),
        'camera_info': message_from_camera(LENS, header),
        'depth': image_from_array(depth, depth_encoding, header),
    }


@pytest.mark.parametrize('camera', CAMERAS)
def test_the_node_makes_views_of_what_the_driver_publishes(camera):
    """With nothing but a mask added, and the size of the object right: so the unit of depth is."""
    rng = np.random.default_rng(3)
    scene = table_scene(make_object('can', rng), Spherical(0.4, 0.5, 1.8), rng, camera=LENS)
    arguments = ['--ros-args', '--params-file', str(ROOT / f'config/{camera}.yaml')]
    for name, topic in topics(camera).items():
        arguments += ['-r', f'{name}:={topic}']
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=next(robot.DOMAINS))
    node = ViewNode(lambda settings, log: LightSynthesizer(), context=context, cli_args=arguments)
    driver = Node('driver', context=context)
    kinds = {'image': Image, 'camera_info': CameraInfo, 'depth': Image}
    publishers = {
        name: driver.create_publisher(kinds[name], topic, DRIVER_QOS)
        for name, topic in topics(camera).items()
    }
    publishers['mask'] = driver.create_publisher(Image, 'mask', DRIVER_QOS)
    views = queue.Queue()
    driver.create_subscription(NovelViewArray, '/nvs/views', views.put, 10)
    executor = ThreadedExecutor(8, context=context)
    executor.add_node(node)
    executor.add_node(driver)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    stamp_s = 1

    def array():
        nonlocal stamp_s
        stamp_s += 1
        header = Header(frame_id=FRAME)
        header.stamp.sec = stamp_s
        messages = picture(camera, scene.frame, header)
        messages['mask'] = image_from_array(scene.frame.mask, 'mono8', header)
        for name, message in messages.items():
            publishers[name].publish(message)
        try:
            return views.get(timeout=0.1)
        except queue.Empty:
            return None

    try:
        node.start()
        made = robot.wait_until(array)
    finally:
        node.stop(robot.TIMEOUT_S)
        executor.shutdown()
        thread.join()
        driver.destroy_node()
        node.destroy_node()
        rclpy.shutdown(context=context)
    view = made.views[0]
    assert view.object_size_m == pytest.approx(scene.frame.object_size_m, rel=0.06)
    assert 'pose and size taken from mask and depth' in '; '.join(view.warnings)


@pytest.mark.parametrize('driver', ['', '/robot1/front/'])
@pytest.mark.parametrize('camera', CAMERAS)
def test_the_launch_file_remaps_the_topics(camera, driver, monkeypatch):
    """By the real launch, where a robot has it; nothing is started."""
    launch = pytest.importorskip('launch')
    actions = pytest.importorskip('launch_ros.actions')
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.utilities import perform_substitutions

    started = []
    monkeypatch.setattr(actions.Node, 'execute', lambda self, context: started.append(self))
    source = PythonLaunchDescriptionSource(str(ROOT / 'launch/camera.launch.py'))
    given = {'camera': camera, 'driver': driver, 'mask': '/segmentation/mask', 'device': 'cpu'}
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.LaunchDescription(
            [launch.actions.IncludeLaunchDescription(source, launch_arguments=given.items())]
        )
    )
    assert service.run() == 0
    (node,) = started
    context = service.context

    def text(parts):
        return perform_substitutions(context, list(parts))

    remappings = {text(name): text(topic) for name, topic in node._Node__remappings}
    name = driver.rstrip('/') or CAMERAS[camera]['driver']
    for topic in ('image', 'camera_info', 'depth'):
        assert remappings[topic] == f'{name}/{CAMERAS[camera][topic]}'
    assert remappings['mask'] == '/segmentation/mask'
    assert remappings['object_pose'] == 'object_pose'
    file = node._Node__parameters[0].param_file[0]
    assert Path(file.perform(context)).name == f'{camera}.yaml'
