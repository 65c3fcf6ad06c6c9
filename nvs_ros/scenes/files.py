"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to, which takes its place when all is written.

    A process that is killed meanwhile leaves the old file as it was.
    """
    partial = file.with_name(f'.{file.name}.partial')
    yield partial
    os.replace(partial, file)
