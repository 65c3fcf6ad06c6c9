"""Start the node: ``ros2 launch nvs_ros nvs.launch.py image:=/camera/image_raw ...``."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

TOPICS = {
    'image': "The camera's picture; input.image_transport in params_file takes compressed ones.",
    'camera_info': 'Its calibration.',
    'mask': 'Mask of the object, or label image.',
    'object_pose': "Pose of the object's centre; not read when input.objects is mask.",
    'depth': 'Depth picture, read when input.depth is set in params_file or input.objects is mask.',
    'occluders': 'Mask of what is before the object, read when input.occluders is set.',
    'detections': 'Detections, read when input.objects is detections in params_file.',
}
OVERRIDES = {
    'autostart': (
        'Configure and activate by itself: true or false; empty: as in params_file.',
        'autostart',
    ),
    'model': (
        'Weights: embedded, a folder, a checkpoint file or a hub id; empty: as in params_file.',
        'model.source',
    ),
    'device': ('Torch device: auto, cpu, cuda, ...; empty: as in params_file.', 'model.device'),
}
"""Launch argument -> what it is, the parameter that it sets."""


def start(context: LaunchContext) -> list[Node]:
    """The node, with those parameters overridden that were given as arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    parameters = {OVERRIDES[name][1]: value for name, value in given.items() if value}
    if 'autostart' in parameters:
        parameters['autostart'] = parameters['autostart'].lower() in ('true', '1')
    use_sim_time = LaunchConfiguration('use_sim_time').perform(context).lower() in ('true', '1')
    node = Node(
        package='nvs_ros',
        executable='nvs_node',
        name='nvs',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            LaunchConfiguration('params_file'),
            {'use_sim_time': use_sim_time, **parameters},
        ],
        remappings=[(topic, LaunchConfiguration(topic)) for topic in TOPICS],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        output='screen',
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """Arguments, and the node."""
    share = FindPackageShare('nvs_ros')
    arguments = [
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([share, 'config', 'nvs.yaml']),
            description='Parameters; edit a copy of the default.',
        ),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value='false',
            choices=['true', 'false'],
            description='Take the time from /clock.',
        ),
        DeclareLaunchArgument(
            'log_level',
            default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severe messages to show.',
        ),
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value='', description=description)
        for name, (description, _) in OVERRIDES.items()
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value=name, description=f'Topic. {description}')
        for name, description in TOPICS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])
