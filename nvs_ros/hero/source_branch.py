"""The source branch of mutual self-attention, remembered (Zero-to-Hero, section 4.4).

The branch depends on frame, settings and seed alone; what targets need of it are the keys and
values of some layers. Kept over one run, they serve every further view of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Of the source rows, (groups, heads, tokens, width) each."""


class SourceMemory:
    """Keys and values of one source branch, by network evaluation and layer.

    Parameters
    ----------
    has_room : callable, optional
        Asked after each growth. What does not fit is not kept at all; the branch is then computed
        again for each batch.

    Attributes
    ----------
    evaluation : int
        Number of the present network evaluation.
    complete : bool
        Whether a whole run is kept.
    size_bytes : int
        What is kept now.
    """

    def __init__(self, has_room: Callable[[], bool] = lambda: True) -> None:
        self._has_room = has_room
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.evaluation = 0
        self.complete = False
        self.size_bytes = 0
        self._fits = True
        self._kept: dict[tuple[int, str], KeysValues] = {}

    def keep(self, layer: str, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep what a layer has computed in the present evaluation."""
        if not self._fits:
            return
        self._kept[self.evaluation, layer] = key, value
        self.size_bytes += key.nbytes + value.nbytes
        if not self._has_room():
            self.restart()
            self._fits = False

    def recall(self, layer: str) -> KeysValues:
        """Return what a layer computed in this evaluation of the run that is kept."""
        return self._kept[self.evaluation, layer]

    def finish(self) -> None:
        """Say that the run was whole."""
        self.complete = self._fits


class SourcePool:
    """The source branches of the newest frame, within a limit; the least recent make room.

    Parameters
    ----------
    limit_bytes : int
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._frame: object = None
        self._memories: dict[Hashable, SourceMemory] = {}

    def memory(self, frame: object, *key: Hashable) -> SourceMemory:
        """Return the memory of a branch, an empty one where there is none.

        Parameters
        ----------
        frame : object
            Another one than before drops everything.
        *key
            What the branch depends on besides the frame.
        """
        if frame is not self._frame:
            self._frame = frame
            self._memories.clear()
        memory = self._memories.pop(key, None) or SourceMemory(self._has_room)
        self._memories[key] = memory
        return memory

    @property
    def size_bytes(self) -> int:
        return sum(memory.size_bytes for memory in self._memories.values())

    def _has_room(self) -> bool:
        """Drop all but the newest, which is the one that grows, until the limit is kept."""
        for key in list(self._memories)[:-1]:
            if self.size_bytes > self.limit_bytes:
                del self._memories[key]
        return self.size_bytes <= self.limit_bytes
