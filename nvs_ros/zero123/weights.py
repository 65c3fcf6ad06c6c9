"""Weight files, read one tensor at a time and without executing code in them.

A torch file is a zip archive: a pickle that describes tensors, and one record of bytes for each
storage. The pickle is read with the ``weights_only`` unpickler and a short allow-list, without
tensor data. The data of a tensor is read when it is needed and checked against the archive's CRC.
So loading needs only the memory of the result and of one more tensor.
"""

from __future__ import annotations

import bisect
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch._subclasses.fake_tensor import FakeTensorMode

from nvs_ros.errors import UserError

CHUNK_BYTES = 1 << 22


class Ignored:
    """Replaces a class that a checkpoint uses only for bookkeeping; stores nothing."""

    def __new__(cls, *args):
        return object.__new__(cls)

    def __setstate__(self, state):
        pass


IGNORED_GLOBALS = (
    # Lightning stores the state of its callbacks by class.
    'pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint',
    'lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint',
    # Hyperparameters as OmegaConf keeps them.
    'omegaconf.base.ContainerMetadata',
    'omegaconf.base.Metadata',
    'omegaconf.dictconfig.DictConfig',
    'omegaconf.listconfig.ListConfig',
    'omegaconf.nodes.AnyNode',
    'typing.Any',
    'builtins.dict',
    'builtins.int',
    'builtins.list',
    'collections.defaultdict',
    # Scores as NumPy scalars.
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray.scalar',
    'numpy.dtype',
)
"""Names in Lightning checkpoints besides tensors; each is replaced by :class:`Ignored`."""


class WeightFile(Protocol):
    """A file of named tensors.

    Attributes
    ----------
    path : Path
    shapes : mapping of str to tuple of int
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, name: str) -> torch.Tensor:
        """One tensor on the CPU, in the dtype of the file; the caller owns its memory.

        Raises
        ------
        UserError
            The tensor is damaged or has no plain data.
        """


def open_weights(path: Path) -> WeightFile:
    """Open a weight file; its format is found from the content, not from the name.

    Raises
    ------
    UserError
        It cannot be read, is neither a torch zip archive nor safetensors, is cut off or damaged, or
        refers to anything but tensors and the bookkeeping of Lightning.
    """
    try:
        with path.open('rb') as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    if head.startswith(b'PK\x03\x04'):
        return TorchFile(path)
    if head[8:9] == b'{':
        return SafetensorsFile(path)
    expected = 'expected a torch zip archive or safetensors'
    if head.startswith(b'version https://git-lfs'):
        raise UserError(f'{path}: {expected}, found a git-lfs pointer: the file was not downloaded')
    if head.startswith(b'\x80'):
        with path.open('rb') as file:
            names = _pickle_globals(file)
        raise UserError(f'{path}: {expected}, found a bare pickle that refers to {names}; refused')
    raise UserError(f'{path}: {expected}, found a file that begins with {head[:16]!r}')


class TorchFile:
    """A ``torch.save`` archive of a state dict, or of a dict that has one as ``state_dict``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f'{path}: expected a complete zip archive, found {error}') from error
        self._records = sorted(self._archive.infolist(), key=lambda record: record.header_offset)
        content = _describe(path, self._archive)
        if isinstance(content, dict):
            content = content.get('state_dict', content)
        if not isinstance(content, dict):
            raise UserError(f'{path}: expected a dict of tensors, found {type(content).__name__}')
        self._tensors = {
            name: value for name, value in content.items() if isinstance(value, torch.Tensor)
        }
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(tensor.shape) for name, tensor in self._tensors.items()
        }

    def read(self, name: str) -> torch.Tensor:
        sketch = self._tensors[name]
        if sketch.layout is not torch.strided or sketch.is_meta:
            kind = 'no data' if sketch.is_meta else f'the layout {sketch.layout}'
            raise UserError(
                f'{self.path}: expected a plain tensor as {name}, found one with {kind}'
            )
        storage = sketch.untyped_storage()
        # The record that contains a byte is the last one that begins before it.
        index = bisect.bisect(
            self._records, storage._checkpoint_offset, key=lambda record: record.header_offset
        )
        record = self._records[index - 1]
        try:
            # Torch 2.7 gives a wrong size for storages without data; the view below checks it.
            content = bytearray(record.file_size)
            with self._archive.open(record) as stream:
                for start in range(0, len(content), CHUNK_BYTES):
                    part = memoryview(content)[start : start + CHUNK_BYTES]
                    stream.readinto(part)  # type: ignore[attr-defined]  # zipfile gives a ZipExtFile
            flat = torch.frombuffer(content, dtype=sketch.dtype)
            view = flat.as_strided(sketch.shape, sketch.stride(), sketch.storage_offset())
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError) as error:
            raise UserError(f'{self.path}: {name} is damaged: {error}') from error
        return view.contiguous() if view.numel() == flat.numel() else view.clone()


class SafetensorsFile:
    """A safetensors file."""

    MAPPED_BYTES = 1 << 25

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = safe_open(path, 'pt')
        except (SafetensorError, OSError) as error:
            raise UserError(f'{path}: expected complete safetensors, found {error}') from error
        self._read_bytes = 0
        names = self._file.keys()  # it is no dict and cannot be iterated over
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(self._file.get_slice(name).get_shape()) for name in names
        }

    def read(self, name: str) -> torch.Tensor:
        # Data that was read stays mapped, and counts as memory, until the file is closed.
        if self._read_bytes > self.MAPPED_BYTES:
            self._file, self._read_bytes = safe_open(self.path, 'pt'), 0
        try:
            tensor = self._file.get_tensor(name).clone()
        except (SafetensorError, OSError, RuntimeError) as error:
            raise UserError(f'{self.path}: {name} cannot be read: {error}') from error
        self._read_bytes += tensor.nbytes
        return tensor


def _describe(path: Path, archive: zipfile.ZipFile) -> object:
    """The content of a torch file, with tensors that know their place in the file but have no data.

    Raises
    ------
    UserError
        The file refers to code that is not allowed, or cannot be unpickled.
    """
    with torch.serialization.safe_globals([(Ignored, name) for name in IGNORED_GLOBALS]):
        try:
            refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if refused:
                raise UserError(
                    f'{path}: expected tensors and the bookkeeping of Lightning only, found '
                    f'{", ".join(sorted(refused))}; refused, because loading it could run code'
                )
            with FakeTensorMode():
                return torch.load(path, map_location='cpu', weights_only=True)
        except UserError:
            raise
        except Exception as error:  # the unpickler raises errors of any type for a foreign file
            pickles = [name for name in archive.namelist() if name.endswith('data.pkl')]
            if not pickles:
                raise UserError(
                    f'{path}: expected an archive of torch.save, found one with '
                    f'{", ".join(archive.namelist()[:3]) or "nothing"}'
                ) from error
            with archive.open(pickles[0]) as file:
                names = _pickle_globals(file)
            raise UserError(
                f'{path}: refused by the weights-only unpickler ({type(error).__name__}); '
                f'it refers to {names}'
            ) from error


def _pickle_globals(file: IO[bytes]) -> str:
    """Names that pickles refer to, as far as they can be parsed; nothing is executed."""
    strings: list[str] = []
    names: dict[str, None] = {}
    try:
        while True:  # old torch files contain several pickles in a row
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == 'GLOBAL':
                    names[str(argument).replace(' ', '.')] = None
                elif opcode.name == 'STACK_GLOBAL':
                    names['.'.join(strings[-2:])] = None
                elif isinstance(argument, str):
                    strings.append(argument)
    except ValueError:  # the end, or no pickle
        return ', '.join(names) or 'nothing'
