"""The Python side of the package: for colcon (ament_python), and for pip where there is no ROS.

``nvs_interfaces/`` beside it is a package of its own. The metadata stand here and not in
pyproject.toml, which the setuptools of Humble (59) does not read; what ROS has to be told as well
is read from package.xml, and least versions from the requirement files.
"""

import re
from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
MANIFEST = ElementTree.parse(ROOT / 'package.xml')
PACKAGE = MANIFEST.findtext('name')
MAINTAINER = MANIFEST.find('maintainer')


def requirements(file):
    """Name of a distribution -> its line in a requirement file."""
    lines = (line.partition('#')[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {re.split('[<>=;]', line)[0]: line for line in lines if line and line[0] != '-'}


ALGORITHM = requirements('requirements.txt')
KNOWN = ALGORITHM | requirements('requirements-environment.txt')


def lines(*names):
    """The requirements of these names, with the least version where one is known."""
    return [KNOWN.get(name, name) for name in names]


# Without ROS, numpy, opencv and their like come by pip too; on a robot rosdep brings them.
GEOMETRY = lines('numpy', 'scipy', 'opencv-python-headless')
INFERENCE = sorted({*GEOMETRY, *ALGORITHM.values(), *lines('pillow', 'pyyaml')})
SCENES = lines('numba', 'matplotlib')

setup(
    name=PACKAGE,
    version=MANIFEST.findtext('version'),
    description=MANIFEST.findtext('description'),
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    license=MANIFEST.findtext('license'),
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    # One pattern for each depth: the setuptools of Humble knows no '**'.
    package_data={PACKAGE: ['py.typed', 'zero123/embedded/*', 'zero123/embedded/*/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'share/{PACKAGE}/launch', glob('launch/*.launch.py')),
        (f'share/{PACKAGE}/config', glob('config/*.*')),
        (f'share/{PACKAGE}/config/sros2', glob('config/sros2/*')),
    ],
    install_requires=GEOMETRY,
    extras_require={
        'inference': INFERENCE,
        'train': [*INFERENCE, *SCENES],
        'evaluate': [*INFERENCE, *SCENES, *lines('trimesh')],
        'grasp': [*INFERENCE, *SCENES, *lines('mujoco', 'coacd', 'trimesh')],
        'ray': [*INFERENCE, *lines('ray')],
        # colcon test asks pytest for tests only where it is named here.
        'test': lines('pytest', 'hypothesis'),
    },
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'nvs_node = nvs_ros.node.main:main',
            'nvs_ros = nvs_ros.cli:main',
        ],
    },
)
