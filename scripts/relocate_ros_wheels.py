"""Adapt the CMake files of the ROS 2 wheels to the Python environment they were installed in.

``share/**/*.cmake`` of the wheels contain paths of the machine that built them, so interface
packages would be compiled against headers that do not exist. Run this with the environment's own
Python after every (re)installation of ``ros-*``; running it again changes nothing.
"""

import sys
import sysconfig
from pathlib import Path

import numpy

BUILD_MACHINE = '/opt/python/cp311-cp311'


def main() -> int:
    """Rewrite the files and print their number; 1 if there are no wheels or a path is unknown."""
    share = Path(sys.prefix, 'share')
    if not (share / 'rclpy').is_dir():
        print(f'no ROS 2 wheels in {sys.prefix}', file=sys.stderr)
        return 1
    site_packages = f'{BUILD_MACHINE}/lib/python3.11/site-packages'
    # The NumPy folder is inside site-packages, so it has to be replaced first.
    replacements = {
        f'{site_packages}/numpy/_core/include': numpy.get_include(),
        site_packages: sysconfig.get_path('purelib'),
        f'{BUILD_MACHINE}/include/python3.11': sysconfig.get_path('include'),
    }
    changed = 0
    for path in share.rglob('*.cmake'):
        text = path.read_text()
        if BUILD_MACHINE not in text:
            continue
        for theirs, ours in replacements.items():
            text = text.replace(theirs, ours)
        if BUILD_MACHINE in text:
            print(f'{path} names an unknown folder of {BUILD_MACHINE}', file=sys.stderr)
            return 1
        path.write_text(text)
        changed += 1
    print(f'{changed} CMake files of the ROS 2 wheels now point to {sys.prefix}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
