"""Where what was fetched or computed once is kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``nvs_ros`` below ``XDG_CACHE_HOME``, or below ``~/.cache``; may not exist yet."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'nvs_ros'
