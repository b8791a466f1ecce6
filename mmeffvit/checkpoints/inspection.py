"""Inspection of checkpoint files without unpickling them.

PyTorch's ``weights_only`` unpickler is the second line of defence, not the first: it differs
between versions (files in tar format ran code before 2.6), it allocates what a file declares before
it finds the data missing, and it names what it refuses among advice to switch it off.
"""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import IO

import torch

#: The number that starts PyTorch's format before 1.6, :data:`torch.serialization.MAGIC_NUMBER`.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
#: What a file may declare per byte that it has, and what any file may (bytes). Views that share
#: memory and zeros that were compressed make the ratio exceed one.
EXPANSION, ALLOWANCE = 16, 64 * 2**20

_ITEM_SIZES = {
    **dict.fromkeys(('ComplexDouble',), 16),
    **dict.fromkeys(('Double', 'Long', 'ComplexFloat'), 8),
    **dict.fromkeys(('Float', 'Int', 'QInt32'), 4),
    **dict.fromkeys(('Half', 'BFloat16', 'Short'), 2),
    **dict.fromkeys(('Char', 'Byte', 'Bool', 'QInt8', 'QUInt8', 'QUInt4x2', 'QUInt2x4'), 1),
    'Untyped': 1,
}


class CheckpointError(ValueError):
    """Raised if a checkpoint is missing, damaged, refused, or of another model; one sentence."""


class RefusedError(ValueError):
    """Raised if a file holds objects that are not loaded; the message names them, not the file."""


def inspect(file: IO[bytes]) -> str:
    """Find out the format of a checkpoint and check what it declares.

    Args:
        file (IO[bytes]): The file; it is left at its start.

    Returns:
        str: ``'zip'`` (PyTorch 1.6 and later), ``'legacy'`` (before) or ``'safetensors'``.

    Raises:
        RefusedError: If it would run code, is of another format, or declares more data than it has.
        Exception: Of any kind if the file is damaged.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(9)
    file.seek(0)
    if start.startswith(b'PK'):
        kind = 'zip'
        _inspect_zip(file, size)
    elif start[8:] == b'{' and int.from_bytes(start[:8], 'little') < size:
        kind = 'safetensors'  # the library checks offsets against the size itself
    else:
        kind = 'legacy'
        _inspect_legacy(file, size)
    file.seek(0)
    return kind


def _inspect_zip(file: IO[bytes], size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        records = {entry.filename.partition('/')[2]: entry for entry in entries}
        if len(records) != len(entries):
            raise RefusedError('it holds several records of one name')
        if 'constants.pkl' in records:
            raise RefusedError('it is a TorchScript program')
        if 'data.pkl' not in records:
            raise RefusedError('it is an archive, but not of PyTorch')
        _check_expansion(sum(entry.file_size for entry in entries), size)
        with archive.open(records['data.pkl']) as stream:
            found = _plan(stream, size)
        for key, declared in found.storages.items():
            entry = records.get(f'data/{key}')
            if entry is None or entry.file_size < declared:
                raise RefusedError(f'its tensor data {key} is missing or cut off')
        for entry in entries:
            # A checksum of 0 is what PyTorch writes when told not to compute it.
            if entry.CRC:
                with archive.open(entry) as stream:
                    while stream.read(2**20):
                        pass


def _inspect_legacy(file: IO[bytes], size: int) -> None:
    if tarfile.is_tarfile(file):
        raise RefusedError('it is in the tar format of before 2017, which cannot be read safely')
    file.seek(0)
    magic = _plan(file, size).value
    if magic != LEGACY_MAGIC:
        raise RefusedError('it is not a tensor file')
    for _ in range(2):  # protocol version, system
        _plan(file, size)
    found = _plan(file, size)
    _plan(file, size)  # keys in order
    if sum(found.storages.values()) > size - file.tell():
        raise RefusedError('its tensor data is missing or cut off')


def _check_expansion(declared: int, size: int) -> None:
    if declared > EXPANSION * size + ALLOWANCE:
        raise RefusedError(
            f'it declares {declared / 2**20:,.0f} MiB of data in a file of {size / 2**20:,.1f} MiB'
        )


@dataclass
class _Found:
    """What a pickle declares.

    Attributes:
        value (object): Its object, tensors and others replaced.
        storages (dict[str, int]): Key of each piece of tensor data to its bytes.
        expanded (int): Bytes of all tensors, counted by their shapes.
    """

    value: object = None
    storages: dict[str, int] = field(default_factory=dict)
    expanded: int = 0


def _plan(stream: IO[bytes], size: int) -> _Found:
    planner = _Planner(stream, size)
    try:
        planner.found.value = planner.load()
    finally:
        if planner.refused:
            raise RefusedError(f'it would run {" and ".join(dict.fromkeys(planner.refused))}')
    return planner.found


class _Inert:
    """An object of a checkpoint that is neither tensor nor container."""

    def __new__(cls, *args, **kwargs) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Named(_Inert):
    """A class that checkpoints name but never call: called with a size, it would allocate."""

    def __new__(cls, *args, **kwargs) -> _Inert:
        raise RefusedError(f'it would make a {cls.__name__} that is not saved in it')


class _HistoryBuffer(_Inert):
    pass


@dataclass(frozen=True)
class _Storage:
    item_size: int
    count: int


class _Planner(pickle._Unpickler):
    """Read a pickle's structure; every name in it becomes one of the inert classes of this file.

    The implementation in C allocates as much as a damaged memo index asks for, hence this one.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__(stream, encoding='latin1')
        self._size = size
        self.found = _Found()
        self.refused: list[str] = []

    def find_class(self, module: str, name: str) -> Callable:
        """Resolve a class name among the few that tensors and training states need."""
        if self.proto < 3:  # pyright: ignore[reportAttributeAccessIssue]
            module, name = NAME_MAPPING.get((module, name), (module, name))
            module = IMPORT_MAPPING.get(module, module)
        module = module.replace('numpy._core.', 'numpy.core.')
        full = f'{module}.{name}'
        own = {
            'torch._utils._rebuild_tensor': self._tensor,
            'torch._utils._rebuild_tensor_v2': self._tensor,
            'torch._utils._rebuild_tensor_v3': self._tensor,
            'torch._utils._rebuild_qtensor': self._tensor,
            'torch._utils._rebuild_parameter': _first,
            'torch._utils._rebuild_parameter_with_state': _first,
            'torch._tensor._rebuild_from_type_v2': lambda rebuild, _, args, *rest: rebuild(*args),
            'collections.OrderedDict': OrderedDict,
            'collections.Counter': dict,
            '_codecs.encode': _encode,
            'builtins.bytearray': _bytes,
            'builtins.getattr': _method,
            'numpy.core.multiarray._reconstruct': _array,
            'mmengine.logging.history_buffer.HistoryBuffer': _HistoryBuffer,
        }
        if full in own:
            return own[full]
        if module in ('torch', 'torch.storage') and name.endswith('Storage'):
            item_size = _ITEM_SIZES.get(name.removesuffix('Storage'))
            if item_size is not None:
                return type(name, (_Named,), dict(item_size=item_size))
        if full in ('torch.Tensor', 'numpy.ndarray'):
            return type(name, (_Named,), {})
        if full in SETTINGS:
            return Settings
        if full in _INERT or (module == 'torch' and _is_constant(name)):
            return type(name, (_Inert,), {})
        if module == 'numpy.dtypes' and name.endswith('DType'):
            return _Inert
        self.refused.append(full)  # and go on, to name them all
        return _Inert

    def persistent_load(self, pid: tuple) -> _Storage:
        """Record the storage of a tensor."""
        kind, storage, key, _, count, *_ = pid
        if kind not in ('storage', b'storage'):
            raise RefusedError(f'it holds a {kind!r}')
        if not isinstance(count, int) or count < 0:
            raise RefusedError(f'its tensor data {key} has {count!r} numbers')
        self.found.storages[str(key)] = count * storage.item_size
        return _Storage(storage.item_size, count)

    def _tensor(self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_) -> _Inert:
        if min((offset, *shape, *strides), default=0) < 0 or len(shape) != len(strides):
            raise RefusedError(
                f'it holds a tensor of shape {tuple(shape)}, strides {tuple(strides)}'
            )
        count = prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
        if count and last >= storage.count:
            raise RefusedError(f'it holds a tensor of shape {tuple(shape)} with too little data')
        self.found.expanded += count * storage.item_size
        _check_expansion(self.found.expanded, self._size)
        return _Inert()


#: What is built but does nothing: settings, dtypes and numbers beside the weights.
_INERT = {
    'argparse.Namespace',
    'builtins.complex',
    'builtins.set',
    'builtins.slice',
    'numpy.core.multiarray.scalar',
    'numpy.dtype',
    'torch.Size',
    'torch.device',
    'torch.nn.parameter.Parameter',
    'torch.serialization._get_layout',
}


#: Classes of settings that training scripts of the field save beside weights (Lightning, yacs).
#: They are read by :class:`Settings`, whether their libraries are installed or not.
SETTINGS = (
    *(
        f'{package}.callbacks.{module}'
        for package in ('pytorch_lightning', 'lightning.pytorch')
        for module in (
            'model_checkpoint.ModelCheckpoint',
            'early_stopping.EarlyStopping',
            'lr_monitor.LearningRateMonitor',
        )
    ),
    'pytorch_lightning.utilities.parsing.AttributeDict',
    'lightning.pytorch.utilities.parsing.AttributeDict',
    'lightning_fabric.utilities.data.AttributeDict',
    'lightning.fabric.utilities.data.AttributeDict',
    'yacs.config.CfgNode',
    'easydict.EasyDict',
    'addict.addict.Dict',
    'mmcv.utils.config.ConfigDict',
)


class Settings:
    """Makes a plain dict in place of an object of settings, and forgets its arguments.

    Only plain ones are filled by ``weights_only``.
    """

    def __new__(cls, *args: object, **kwargs: object) -> OrderedDict:
        """Make an empty dict."""
        return OrderedDict()


def _is_constant(name: str) -> bool:
    kinds = (torch.dtype, torch.layout, torch.memory_format, torch.qscheme)
    return isinstance(getattr(torch, name, None), kinds)


def _first(data: object, *_) -> object:
    return data


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ('latin1', 'latin-1'):
        raise RefusedError(f'it holds bytes encoded as {encoding!r}')
    return text.encode('latin1')


def _bytes(*args) -> bytes:
    if args and not isinstance(args[0], (bytes, str)):
        raise RefusedError(f'it declares {args[0]!r} bytes of nothing')
    return b''


def _array(_: type, shape: tuple, *rest) -> _Inert:
    if prod(shape) > 1:  # the state that follows sets shape and data
        raise RefusedError(f'it declares an array of shape {shape} without data')
    return _Inert()


def _method(owner: object, name: str) -> type[_Inert]:
    # The log histories of mmengine name their own methods.
    if owner is not _HistoryBuffer or not isinstance(name, str) or name.startswith('_'):
        raise RefusedError(f'it would run builtins.getattr for {name!r}')
    return _Inert
