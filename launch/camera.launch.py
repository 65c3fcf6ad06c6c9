"""The node behind a camera that people own: ``ros2 launch nvs_ros camera.launch.py camera:=zed``.

The camera's driver is started by itself, see docs/cameras.md. All arguments of nvs.launch.py hold,
``mask:=...`` among them.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

CAMERAS = {
    'realsense': {
        'driver': '/camera/camera',
        'image': 'color/image_raw',
        'camera_info': 'color/camera_info',
        'depth': 'aligned_depth_to_color/image_raw',
    },
    'zed': {
        'driver': '/zed/zed_node',
        'image': 'rgb/color/rect/image',
        'camera_info': 'rgb/color/rect/camera_info',
        'depth': 'depth/depth_registered',
    },
    'oak': {
        'driver': '/oak',
        'image': 'rgb/image_raw',
        'camera_info': 'rgb/camera_info',
        'depth': 'stereo/image_raw',
    },
}
"""Camera -> the name that its driver has by default, and the topics below that name."""


def include(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """nvs.launch.py with the topics and the parameters of the camera."""
    camera = LaunchConfiguration('camera').perform(context)
    topics = dict(CAMERAS[camera])
    default = topics.pop('driver')
    driver = LaunchConfiguration('driver').perform(context) or default
    share = FindPackageShare('nvs_ros')
    file = LaunchConfiguration('params_file').perform(context)
    arguments = {name: f'{driver.rstrip("/")}/{topic}' for name, topic in topics.items()}
    arguments['params_file'] = file or PathJoinSubstitution([share, 'config', f'{camera}.yaml'])
    source = PythonLaunchDescriptionSource(PathJoinSubstitution([share, 'launch', 'nvs.launch.py']))
    return [IncludeLaunchDescription(source, launch_arguments=arguments.items())]


def generate_launch_description() -> LaunchDescription:
    """Which camera it is, and the node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('camera', choices=list(CAMERAS), description='The camera.'),
            DeclareLaunchArgument(
                'driver',
                default_value='',
                description="Name of the driver's node with its namespace; empty: its default.",
            ),
            DeclareLaunchArgument(
                'params_file',
                default_value='',
                description='Parameters; empty: config/<camera>.yaml. Edit a copy of it.',
            ),
            OpaqueFunction(function=include),
        ]
    )
