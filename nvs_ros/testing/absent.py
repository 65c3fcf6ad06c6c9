"""Code run where some libraries are not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {libraries!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without(
    libraries: Collection[str], code: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, in which imports of these libraries fail."""
    program = ABSENT.format(libraries=set(libraries)) + code
    return subprocess.run([sys.executable, '-c', program], cwd=cwd, capture_output=True, text=True)
