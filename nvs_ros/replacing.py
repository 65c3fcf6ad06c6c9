"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to, which takes its place when all is written.

    An error leaves the old file as it was, and so does a process that is killed, whose path stays.
    Several processes may replace one file at the same time: the last one's is kept.
    """
    partial = file.with_name(f'.{file.name}.{uuid4().hex[:8]}.partial')
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
