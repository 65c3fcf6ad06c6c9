"""The wheel: what a machine without ROS gets from pip, built from a copy of the project."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import cv2
import numpy as np
import pytest

from nvs_ros.cli import COMMANDS

# Before, a wheel needs the package of that name.
pytest.importorskip('setuptools', minversion='70.1', reason='setuptools builds no wheels')

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = {
    'cv2': 'opencv-python-headless',
    'PIL': 'pillow',
    'skimage': 'scikit-image',
    'yaml': 'pyyaml',
}
"""Module -> its distribution, where the names differ."""


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
    """A source archive, and the wheel built from what is in it."""
    folder = tmp_path_factory.mktemp('archives')
    project = folder / 'project'
    ignored = shutil.ignore_patterns('__pycache__', '*.pyc')
    for name in ('nvs_ros', 'resource', 'launch', 'config'):
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    for path in (*ROOT.glob('*.txt'), *ROOT.glob('setup.*')):
        shutil.copy(path, project)
    for name in ('MANIFEST.in', 'pyproject.toml', 'package.xml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, project)
    build('sdist', project, folder)
    (archive,) = folder.glob('*.tar.gz')
    with tarfile.open(archive) as file:
        file.extractall(folder / 'unpacked', filter='data')
    (source,) = (folder / 'unpacked').iterdir()
    build('wheel', source, folder)
    (wheel,) = folder.glob('*.whl')
    return archive, wheel


def build(kind, project, folder):
    """As pip does it, with the setuptools that is here."""
    code = f'from setuptools.build_meta import build_{kind} as build; build({str(folder)!r})'
    done = subprocess.run([sys.executable, '-c', code], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope='module')
def installed(archives, tmp_path_factory):
    """The packages of the wheel in a folder of their own."""
    folder = tmp_path_factory.mktemp('installed')
    with zipfile.ZipFile(archives[1]) as file:
        file.extractall(folder)
    return folder


@pytest.fixture(scope='module')
def metadata(installed):
    (path,) = installed.glob('*.dist-info/METADATA')
    return message_from_bytes(path.read_bytes())


def required(metadata, extra):
    """Names of the distributions that an extra brings; ``None``: those without one."""
    found = set()
    for line in metadata.get_all('Requires-Dist'):
        of = re.search(r'extra == ["\'](\w+)', line)
        if (of and of.group(1)) == extra:
            found.add(re.split('[ <>=;]', line)[0])
    return found


def imported(path):
    """The first part of every module that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition('.')[0])
    return found


def run_elsewhere(installed, tmp_path, *arguments):
    """``python -m nvs_ros`` of the wheel, from a folder that has nothing of the project."""
    environment = {**os.environ, 'PYTHONPATH': str(installed)}
    command = [sys.executable, '-P'] if sys.version_info >= (3, 11) else [sys.executable]
    return subprocess.run(
        [*command, '-m', 'nvs_ros', *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_wheel_is_for_any_machine_and_ships_all_that_git_has(archives, installed):
    assert archives[1].name.endswith('-py3-none-any.whl')
    wanted = [
        path.relative_to(ROOT)
        for path in (ROOT / 'nvs_ros').rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    ]
    assert not [str(path) for path in wanted if not (installed / path).is_file()]
    (data,) = installed.glob('*.data/data/share/nvs_ros')
    for path in (*ROOT.glob('config/*.*'), *ROOT.glob('launch/*.launch.py'), ROOT / 'package.xml'):
        name = path.name if path.parent == ROOT else path.relative_to(ROOT)
        assert (data / name).is_file()


def test_the_wheel_says_what_the_manifest_says(metadata):
    manifest = (ROOT / 'package.xml').read_text()
    assert f'<version>{metadata["Version"]}</version>' in manifest
    assert f'<name>{metadata["Name"]}</name>' in manifest
    assert f'>{metadata["License"]}</license>' in manifest


def test_the_extras_are_those_of_the_readme(metadata):
    readme = (ROOT / 'README.md').read_text()
    named = {name for names in re.findall(r'\.\[([\w,]+)\]', readme) for name in names.split(',')}
    assert {'inference', 'train', 'evaluate', 'grasp'} <= named
    assert named <= set(metadata.get_all('Provides-Extra'))


def test_inference_brings_what_the_algorithm_imports(metadata):
    """Rooms that draw scenes, and those of ROS, need more."""
    package = ROOT / 'nvs_ros'
    rooms = ('computer', 'geometry', 'hero', 'zero123', 'photographs', 'completion', 'commands')
    files = [
        *package.glob('*.py'),
        *(path for room in rooms for path in (package / room).glob('*')),
    ]
    roots = set().union(*(imported(path) for path in files if path.suffix == '.py'))
    foreign = roots - set(sys.stdlib_module_names) - {'nvs_ros'}
    # These are used where they are installed and named where they are missed.
    wanted = {
        IMPORTS.get(name, name) for name in foreign - {'trimesh', 'onnxruntime', 'ray', 'triton'}
    }
    assert {'torch', 'diffusers', 'opencv-python-headless'} <= wanted
    assert wanted <= required(metadata, 'inference')
    assert required(metadata, None) == {'numpy', 'scipy', 'opencv-python-headless'}


def test_least_versions_are_those_of_the_requirement_files(metadata):
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    bounded = dict(line.split('>=') for line in lines if '>=' in line)
    assert 'torch' in bounded
    for name, least in bounded.items():
        assert f'{name}>={least}; extra == "inference"' in metadata.get_all('Requires-Dist')


def test_the_wheel_makes_a_view_from_another_folder(installed, tmp_path):
    image = np.full((120, 160, 3), 90, np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    cv2.rectangle(image, (60, 30), (100, 90), (30, 30, 200), -1)
    cv2.rectangle(mask, (60, 30), (100, 90), 255, -1)
    cv2.imwrite(str(tmp_path / 'photo.png'), image)
    cv2.imwrite(str(tmp_path / 'mask.png'), mask)
    options = ['--mask', 'mask.png', '--azimuth', '30', '--preset', 'fast', '-o', 'view.png']
    done = run_elsewhere(installed, tmp_path, 'synthesize', 'photo.png', *options)
    assert done.returncode == 0, done.stderr
    view = cv2.imread(str(tmp_path / 'view.png'))
    assert (view[0, 0] > 230).all()
    assert (view < 200).any(axis=-1).mean() > 0.02


def test_the_wheel_has_every_command(installed, tmp_path):
    done = run_elsewhere(installed, tmp_path, '--help')
    assert done.returncode == 0, done.stderr
    assert not [name for name in COMMANDS if name not in done.stdout]
    code = 'import nvs_ros; print(nvs_ros.__file__)'
    environment = {**os.environ, 'PYTHONPATH': str(installed)}
    where = subprocess.check_output(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, text=True
    )
    assert Path(where.strip()).is_relative_to(installed)


def test_type_checkers_read_the_annotations(installed):
    assert (installed / 'nvs_ros' / 'py.typed').is_file()
