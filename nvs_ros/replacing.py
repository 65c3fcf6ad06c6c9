"""Write files so that they never exist in part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a temporary path beside ``file`` to write to; it replaces ``file`` at the end.

    After an error the old file is unchanged, also when the process is killed; the temporary file is
    then left behind. Several processes may replace the same file at once: the last one wins.
    """
    partial = file.with_name(f'.{file.name}.{uuid4().hex[:8]}.partial')
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
