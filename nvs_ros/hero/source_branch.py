"""Memory of the source branch of mutual self-attention (Zero-to-Hero, section 4.4).

The branch depends only on frame, settings and seed, and targets need only the keys and values of
some of its layers. Stored during one run, they serve every further view of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of the source rows, (groups, heads, tokens, width) each."""


class SourceMemory:
    """Keys and values of one source branch, by network evaluation and layer.

    Parameters
    ----------
    has_room : callable, optional
        Called after each evaluation that adds something; says whether the memory may keep its size.
        If not, everything is dropped and nothing is kept until :meth:`restart`: each batch then
        computes the branch anew.

    Attributes
    ----------
    evaluation : int
        Index of the current network evaluation.
    complete : bool
        Whether a whole run is stored.
    size_bytes : int
        Size of the stored keys and values.
    copies : bool
        Store copies: with CUDA graphs the next evaluation overwrites what this one computed.
    """

    def __init__(self, has_room: Callable[[], bool] = lambda: True) -> None:
        self._has_room = has_room
        self.copies = False
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.complete = False
        self.size_bytes = 0
        self._fits = True
        self._evaluation = 0
        self._kept: dict[int, dict[str, KeysValues]] = {}
        self._current: dict[str, KeysValues] = {}

    @property
    def evaluation(self) -> int:
        return self._evaluation

    @evaluation.setter
    def evaluation(self, index: int) -> None:
        self._file()
        self._evaluation = index
        self._current = self._kept.get(index, {})

    def _file(self) -> None:
        """Store what the current evaluation kept, if it fits."""
        if self.complete or not self._fits or not self._current:
            return
        if self.copies:
            self._current = {n: (k.clone(), v.clone()) for n, (k, v) in self._current.items()}
        self._kept[self._evaluation] = self._current
        self.size_bytes += sum(k.nbytes + v.nbytes for k, v in self._current.values())
        self._current = {}
        if not self._has_room():
            self.restart()
            self._fits = False

    def keep(self, layer: str, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store what a layer computed in the current evaluation."""
        if self._fits:
            self._current[layer] = key, value

    def recall(self, layer: str) -> KeysValues:
        """Return what a layer computed in the same evaluation of the stored run."""
        return self._current[layer]

    def finish(self) -> None:
        """Mark the stored run as complete, unless it did not fit."""
        self._file()
        self.complete = self._fits


class SourcePool:
    """Memories of the source branches of the newest frame, with a limit on their size.

    Parameters
    ----------
    limit_bytes : int
        Size of all memories together; those used least recently are dropped first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._frame: object = None
        self._memories: dict[Hashable, SourceMemory] = {}

    def memory(self, frame: object, *key: Hashable) -> SourceMemory:
        """Return the memory of a branch; an empty one if there is none yet.

        Parameters
        ----------
        frame : object
            Compared by identity; a different frame than last time drops all memories.
        *key
            Everything that the branch depends on besides the frame.
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
        """Drop memories, never the newest, which is growing; return whether the limit is met."""
        for key in list(self._memories)[:-1]:
            if self.size_bytes > self.limit_bytes:
                del self._memories[key]
        return self.size_bytes <= self.limit_bytes
