"""The rules of the house: who may import what, and how long a file and a function may be."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nvs_ros.testing.absent import run_without

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'nvs_ros'
MODULES = sorted(PACKAGE.rglob('*.py'))

# Ground up. A room may import from its own floor and from those below; a module beside the rooms
# that is not named here lies under all of them.
FLOORS = (
    (),
    ('geometry',),
    ('hero',),
    ('zero123',),
    ('batches', 'loading', 'observation', 'photographs', 'reconcile', 'synthesizer', 'view'),
    ('completion',),
    ('scenes',),
    ('evaluation', 'messages', 'training'),
    ('bag', 'node'),
    ('testing',),
    ('commands',),
    ('__main__', 'cli'),
)


def floor_of(room):
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), 0)


GEOMETRY_LIBRARIES = {'cv2', 'numpy', 'scipy'}
LIBRARIES = GEOMETRY_LIBRARIES | {
    'PIL',
    'diffusers',
    'huggingface_hub',
    'matplotlib',
    'numba',
    'rosbags',
    'safetensors',
    'skimage',
    'torch',
    'tqdm',
    'transformers',
    'yaml',
}
ROS_ROOMS = ('bag', 'messages', 'node', 'testing')
# Of rclpy, what needs no graph.
RCLPY_WITHOUT_A_GRAPH = {'rclpy.duration', 'rclpy.time'}
# Used where a robot has them, never required.
OPTIONAL_ROS = {'vision_msgs'}
# Used where they are installed, by these rooms alone.
OPTIONAL_IN = {
    'bag': {'ray'},
    'commands': {'ray'},
    'completion': {'trimesh'},
    'evaluation': {'coacd', 'mujoco', 'trimesh'},
    'hero': {'triton'},
    'photographs': {'onnxruntime'},
}
OPTIONAL = set().union(*OPTIONAL_IN.values())

FILE_LINES = 420
FUNCTION_LINES = 60


def room_of(path):
    """The first name below the package: a folder, or a module beside them."""
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imports_of(path):
    """Every absolute module name that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}: relative import'
            names.add(node.module)
            if node.module == 'nvs_ros':
                names.update(f'nvs_ros.{alias.name}' for alias in node.names)
    return names


def rooms_imported(path):
    return {name.split('.')[1] for name in imports_of(path) if name.startswith('nvs_ros.')}


def foreign_imports(path):
    roots = {name.partition('.')[0] for name in imports_of(path)}
    return roots - set(sys.stdlib_module_names) - {'nvs_ros'}


def declared_dependencies():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {entry.text for entry in manifest if entry.tag in ('depend', 'exec_depend')}


def relative(path):
    return str(path.relative_to(ROOT))


def test_imports_go_down_only():
    upward = [
        f'{relative(path)} imports {room}'
        for path in MODULES
        for room in rooms_imported(path)
        if floor_of(room) > floor_of(room_of(path))
    ]
    assert not upward


def test_rooms_do_not_import_each_other_in_a_circle():
    graph = {}
    for path in MODULES:
        room = room_of(path)
        graph.setdefault(room, set()).update(rooms_imported(path) - {room})
    list(TopologicalSorter(graph).static_order())


def test_libraries_are_imported_where_they_belong():
    """Geometry needs no torch, and ROS stands in messages/, node/ and bag/ alone."""
    in_ros_rooms = LIBRARIES | declared_dependencies() | OPTIONAL_ROS
    allowed = {'geometry': GEOMETRY_LIBRARIES}
    allowed |= {room: LIBRARIES | libraries for room, libraries in OPTIONAL_IN.items()}
    for room in ROS_ROOMS:
        allowed[room] = allowed.get(room, LIBRARIES) | in_ros_rooms
    misplaced = [
        f'{relative(path)} imports {library}'
        for path in MODULES
        for library in foreign_imports(path) - allowed.get(room_of(path), LIBRARIES)
    ]
    assert not misplaced


def test_messages_know_no_graph():
    used = {
        (relative(path), name)
        for path in (PACKAGE / 'messages').glob('*.py')
        for name in imports_of(path)
        if name.partition('.')[0] == 'rclpy' and name not in RCLPY_WITHOUT_A_GRAPH
    }
    assert not used


def test_the_method_can_be_published_by_itself():
    """It knows no base model and nothing else of ours but the settings."""
    for path in (PACKAGE / 'hero').glob('*.py'):
        assert rooms_imported(path) <= {'hero', 'settings'}, relative(path)


def test_evaluation_and_demo_import_no_training():
    for path in (*(PACKAGE / 'evaluation').rglob('*.py'), *(ROOT / 'demo').glob('*.py')):
        assert 'training' not in rooms_imported(path), relative(path)


def test_the_manifest_declares_what_is_imported_and_no_more():
    imported = set()
    for path in (*MODULES, *(ROOT / 'launch').glob('*.py')):
        imported |= foreign_imports(path)
    ros = {name for name in declared_dependencies() if not name.startswith('python3-')}
    assert imported - LIBRARIES - OPTIONAL_ROS - OPTIONAL == ros


@pytest.mark.parametrize(
    ('module', 'blocked'),
    [
        ('nvs_ros.geometry', {'torch', 'diffusers', 'transformers', 'rclpy', 'sensor_msgs'}),
        ('nvs_ros.synthesizer', {'rclpy', 'sensor_msgs', 'geometry_msgs', 'nvs_interfaces'}),
        ('nvs_ros.cli', {'torch', 'numpy', 'cv2', 'rclpy'}),
    ],
)
def test_a_room_works_without_what_it_does_not_need(module, blocked):
    done = run_without(blocked, f'import {module}', ROOT)
    assert done.returncode == 0, done.stderr


def functions_of(path):
    """Name and lines of code of every function; a docstring is not code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            yield node.name, node.end_lineno - first.lineno + 1


def test_files_and_functions_are_short():
    long = [
        f'{relative(path)}: {name} has {lines} lines'
        for path in MODULES
        for name, lines in functions_of(path)
        if lines > FUNCTION_LINES
    ]
    for path in MODULES:
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES:
            long.append(f'{relative(path)} has {lines} lines')
    assert not long
