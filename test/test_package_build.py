"""What is pinned, installed and built: manifests, package data, environment, Makefile."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

in_environment = pytest.mark.skipif(
    not Path(sys.prefix, '.installed').is_file(), reason='not the environment that make builds'
)


def canonical(name):
    return re.sub('[-_.]+', '-', name).lower()


def requirement_lines(file):
    lines = (line.partition('#')[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith('-r')]


def pins(file='constraints.txt'):
    pairs = (line.split('==') for line in requirement_lines(file))
    return {canonical(name): version for name, version in pairs}


def test_a_build_carries_every_module_and_all_weights(tmp_path):
    command = [sys.executable, 'setup.py', '--quiet', 'build_py', '--build-lib', str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wanted = [*(ROOT / 'nvs_ros').rglob('*.py'), *(ROOT / 'nvs_ros/zero123/embedded').rglob('*.*')]
    missing = [
        str(path.relative_to(ROOT))
        for path in wanted
        if path.is_file() and not (tmp_path / path.relative_to(ROOT)).is_file()
    ]
    assert not missing


def test_every_requirement_is_pinned():
    files = ('requirements.txt', 'requirements-environment.txt')
    lines = [line for file in files for line in requirement_lines(file)]
    required = {canonical(re.split('[<>=;]', line)[0]) for line in lines}
    assert required <= set(pins())


@in_environment
def test_the_environment_is_what_the_constraints_say():
    installed = {name: metadata.version(name).partition('+')[0] for name in pins()}
    assert installed == pins()


@in_environment
def test_ros_is_that_of_the_environment():
    """Run in the environment of each distribution; one of them sees the packages of the other."""
    file = 'requirements-jazzy.txt' if Path(sys.prefix).name == '.venv-jazzy' else 'constraints.txt'
    pinned = {name: version for name, version in pins(file).items() if name.startswith('ros-')}
    assert pinned == {name: metadata.version(name) for name in pinned}
    for name in ('rclpy', 'sensor_msgs.msg', 'nvs_interfaces.msg'):
        assert Path(importlib.import_module(name).__file__).is_relative_to(sys.prefix), name


@in_environment
def test_no_cmake_file_names_the_machine_that_built_the_wheels():
    files = list(Path(sys.prefix, 'share').rglob('*.cmake'))
    assert files
    assert not [path for path in files if '/opt/python/' in path.read_text()]


@in_environment
@pytest.mark.parametrize('name', ['nvs_node', 'nvs_ros'])
def test_ros2_run_finds_the_programs(name):
    program = Path(sys.prefix, 'lib', 'nvs_ros', name)
    assert program.stat().st_mode & 0o111
    (entry,) = metadata.entry_points(group='console_scripts', name=name)
    assert callable(entry.load())


@pytest.fixture
def built(tmp_path):
    """A project with nothing but what the Makefile looks at, as it is after `make build`."""
    names = ['Makefile', 'package.xml', 'setup.py', 'setup.cfg', *map(str, ROOT.glob('*.txt'))]
    for name in names:
        shutil.copy(ROOT / name, tmp_path)
    for folder in ('nvs_interfaces', 'resource', 'scripts', 'launch', 'config'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for path in tmp_path.rglob('*'):
        os.utime(path, (1000, 1000))
    for stamp in (
        '.venv/.installed',
        '.venv-jazzy/.installed',
        'build/.built',
        '.venv-jazzy/.built',
    ):
        (tmp_path / stamp).parent.mkdir(exist_ok=True)
        (tmp_path / stamp).touch()
        os.utime(tmp_path / stamp, (2000, 2000))
    return tmp_path


def planned(project, target):
    """The commands that make would run."""
    command = ['make', '--dry-run', '--no-print-directory', '-C', str(project), target]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize('target', ['demo', 'test'])
def test_a_second_run_installs_and_builds_nothing(built, target):
    commands = planned(built, target)
    assert '-m pip' not in commands
    assert 'colcon' not in commands
    assert commands.strip()


def test_a_changed_message_is_built_again_without_installing(built):
    (built / 'nvs_interfaces/package.xml').touch()
    commands = planned(built, 'test')
    assert 'colcon' in commands
    assert '-m pip' not in commands


def test_a_changed_pin_is_installed(built):
    (built / 'constraints.txt').touch()
    commands = planned(built, 'demo')
    assert commands.index('-m pip') < commands.index('colcon') < commands.index('demo/run.py')


def test_clean_leaves_what_was_there_before(built):
    made = {'.venv', '.venv-jazzy', 'build'}
    before = {path for path in built.rglob('*') if not made & set(path.parts)}
    subprocess.run(['make', '--silent', '-C', str(built), 'clean'], check=True)
    assert set(built.rglob('*')) == before
