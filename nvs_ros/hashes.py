"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

PIECE = 1 << 22
"""Bytes that are read at once."""


def sha256_of(files: Iterable[Path], progress: Callable[[int], object] = lambda count: None) -> str:
    """Hexadecimal SHA-256 of the contents of files, one after another.

    Parameters
    ----------
    files : iterable of Path
    progress : callable
        Told the bytes of each piece that has been read.
    """
    digest = hashlib.sha256()
    for path in files:
        with open(path, 'rb') as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                progress(len(piece))
    return digest.hexdigest()
