"""What commands say where a library is not installed."""

import subprocess
import sys

import pytest

BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == {library!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Absent())
from {module} import main
sys.exit(main({arguments!r}))
"""


def without(library, module, arguments):
    code = BLOCKED.format(library=library, module=module, arguments=arguments)
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ('library', 'arguments', 'said'),
    [
        ('torch', ['complete', 'photo.png'], 'needs torch: pip install'),
        ('numba', ['evaluate', '--quick'], "pip install 'nvs_ros[evaluate]'"),
        ('matplotlib', ['train', '--config', 'x', '--output', 'y'], "'nvs_ros[train]'"),
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
