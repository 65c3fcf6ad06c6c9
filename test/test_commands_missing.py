"""What commands say where a library is not installed."""

import pytest

from nvs_ros.testing.absent import run_without


def without(library, module, arguments):
    code = f'from {module} import main\nsys.exit(main({arguments!r}))'
    return run_without({library}, code)


@pytest.mark.parametrize(
    ('library', 'arguments', 'said'),
    [
        ('torch', ['complete', 'photo.png'], 'needs torch: pip install'),
        ('numba', ['evaluate', '--quick'], "pip install 'nvs_ros[evaluate]'"),
        ('matplotlib', ['train', '--config', 'x', '--output', 'y'], "'nvs_ros[train]'"),
        ('ray', ['process', 'a.mcap', 'b.mcap', '--ray'], "pip install 'nvs_ros[ray]'"),
        ('rclpy', ['replay', 'bag.mcap'], 'needs ROS 2: source its setup.bash'),
    ],
)
def test_a_command_names_what_it_lacks_and_where_to_get_it(library, arguments, said):
    done = without(library, 'nvs_ros.cli', arguments)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1, done.stderr
    assert said in done.stderr


def test_the_node_without_ros_says_so():
    done = without('rclpy', 'nvs_ros.node.main', [])
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert 'needs ROS 2' in done.stderr
