"""The ament_python side of the package; ``nvs_interfaces/`` beside it is a package of its own."""

from glob import glob

from setuptools import find_packages, setup

package_name = 'nvs_ros'

setup(
    name=package_name,
    version='0.1.0',
    description='Novel views of an object for robots, as a ROS 2 lifecycle node.',
    maintainer='nvs_ros maintainers',
    maintainer_email='maintainers@nvs-ros.example',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    # One pattern for each depth: the setuptools of Humble (59) knows no '**'.
    package_data={package_name: ['zero123/embedded/*', 'zero123/embedded/*/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/launch', glob('launch/*.launch.py')),
        (f'share/{package_name}/config', glob('config/*.*')),
    ],
    install_requires=['setuptools'],
    # colcon test asks pytest for tests only where it is named here.
    # Grasps are tried in a simulation that nothing else needs.
    extras_require={'test': ['pytest'], 'grasp': ['mujoco>=3.3', 'coacd']},
    zip_safe=False,
    entry_points={
        'console_scripts': [
            'nvs_node = nvs_ros.node.main:main',
            'nvs_ros = nvs_ros.cli:main',
        ],
    },
)
