"""Sentences for exceptions of torch, mmengine and the frameworks that the user can mend."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from types import FrameType
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import Registry, build_functions
from mmengine.runner import Runner

from ..checkpoints import CheckpointError
from ..engine.checkpoint import NonFiniteError
from ..utils.requirements import explain_import_error

#: What constructors raise about their arguments.
_REFUSALS = (
    *(TypeError, ValueError, AssertionError, LookupError, OSError),
    *(ArithmeticError, AttributeError, RuntimeError),
)
#: Settings of a config, by the method of the runner that reads them and runs nothing.
_SETTINGS = {
    getattr(Runner, name).__code__: setting
    for name, setting in dict(
        setup_env='env_cfg',
        build_logger='log_level',
        build_message_hub='experiment_name',
        build_visualizer='visualizer',
        build_model='model',
        build_optim_wrapper='optim_wrapper',
        build_param_scheduler='param_scheduler',
        build_evaluator='an evaluator',
        build_dataloader='a dataloader',
        build_train_loop='train_cfg',
        build_val_loop='val_cfg',
        build_test_loop='test_cfg',
        build_log_processor='log_processor',
        register_default_hooks='default_hooks',
        register_custom_hooks='custom_hooks',
        __init__='a setting',
    ).items()
}
#: Arguments that a constructor lacks or does not know, in Python's words.
_ARGUMENT = re.compile(
    r"got an unexpected keyword argument '(?P<unknown>\w+)'|"
    r'missing \d+ required (?:positional|keyword-only) arguments?: (?P<missing>.+)'
)
_UNREGISTERED = re.compile(r'(?:KeyError: )?["\']?(\S+) is not in the (\S+?)(?:::(.+?))? registry')
#: Older mmengine puts where it was building before the message.
_WHERE = re.compile(r'^[\'"]?(?:class|function|method) `[^`]+` in \S+: ')


def explain(error: BaseException) -> str | None:
    """Say in one sentence what the user can mend.

    Args:
        error (BaseException): From a command line, with its traceback.

    Returns:
        str | None: None if it is a fault of the software.
    """
    if isinstance(error, (CheckpointError, NonFiniteError)):
        return str(error)
    if isinstance(error, ImportError):
        return explain_import_error(error)
    for rule in (_memory, _building, _settings, _data, _worker, _batch_norm, _file):
        sentence = rule(error)
        if sentence is not None:
            return sentence
    return None


def _building(error: BaseException) -> str | None:
    """Errors while an object of a config is built: its type, its arguments, their values."""
    frames = [f for f in _frames(error) if f.f_code is build_functions.build_from_cfg.__code__]
    if not frames or not isinstance(error, _REFUSALS):
        return None
    values = frames[-1].f_locals
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    while _WHERE.match(message):
        message = _WHERE.sub('', message)
    if found := _UNREGISTERED.search(message):
        name, registry = found[1], values.get('registry')
        return unregistered(name, registry)
    if 'must contain the key "type"' in message:
        return f'a part of the config has no type: {dict(values["cfg"])}.'
    if not isinstance(values['cfg'], dict):
        return f'a part of the config must be dict(type=...), not {values["cfg"]!r}.'
    built: Any = values.get('obj_cls')
    name = getattr(built, '__name__', str(built))
    if found := _ARGUMENT.search(message):
        if found['missing']:
            return f'{name} of the config needs {found["missing"]}.'
        given = found['unknown']
        return f'{name} of the config has no argument {given!r}{_near(given, _arguments(built))}'
    return f'{name} of the config cannot be built: {_reason(error, message)}'


def _settings(error: BaseException) -> str | None:
    """Errors while a runner reads its settings, before it runs."""
    found = [_SETTINGS[f.f_code] for f in _frames(error) if f.f_code in _SETTINGS]
    if not found or not isinstance(error, _REFUSALS):
        return None
    return f'{found[-1]} of the config cannot be used: {_reason(error, str(error))}'


def _data(error: BaseException) -> str | None:
    """Errors while a dataset reads and transforms a sample, in this process or a worker."""
    in_worker = re.match(r'Caught (\w+) in DataLoader worker process', str(error))
    if in_worker:  # then comes its traceback, and its message at the end
        reason = str(error).rpartition(f'\n{in_worker[1]}: ')[2] or str(error).rpartition('\n')[2]
        return f'a sample of the data cannot be read: {in_worker[1]}: {reason}'
    frames = list(_frames(error))
    if not any(frame.f_code is BaseDataset.__getitem__.__code__ for frame in frames):
        return None
    samples = [f.f_locals.get('results') for f in frames]
    paths = [s['img_path'] for s in samples if isinstance(s, dict) and s.get('img_path')]
    sample = paths[0] if paths else 'a sample of the data'
    return f'{sample} cannot be read: {_reason(error, str(error))}'


def unregistered(name: str, registry: Any) -> str:
    """Say that a type of the config is not in a registry, and which is near."""
    kind = registry.name if isinstance(registry, Registry) else 'part'
    return f'type={name!r} of the config is no {kind}{_near(name, _known(registry))}'


def _worker(error: BaseException) -> str | None:
    if not isinstance(error, RuntimeError) or 'DataLoader worker' not in str(error):
        return None
    reason = str(error).rstrip('. ')
    return f'{reason}. Out of (shared) memory? Use fewer workers or smaller batches.'


def _batch_norm(error: BaseException) -> str | None:
    found = re.search(
        r'more than 1 value per channel when training, got input size (.+)', str(error)
    )
    if found is None:
        return None
    return (
        f'BatchNorm cannot train on one value per channel ({found[1].rstrip(".")}): use batches of '
        'two or more, drop_last=True in the train_dataloader, larger images, or norm_eval=True.'
    )


def _memory(error: BaseException) -> str | None:
    if not isinstance(error, torch.cuda.OutOfMemoryError):
        return None
    return (
        'the memory of the GPU is exhausted: use smaller batches or images, --amp, or '
        f'with_cp=True of the backbone ({str(error).partition(". ")[0]}).'
    )


def _file(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or not error.filename:
        return None
    return f'{error.filename}: {error.strerror}.'


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _known(registry: Any) -> list[str]:
    """Names in the tree of a registry."""
    if not isinstance(registry, Registry):
        return []
    names: dict[str, None] = {}
    level: Registry | None = registry
    while level is not None:
        names.update(dict.fromkeys(level.module_dict))
        for scope, child in level.children.items():
            names.update((f'{scope}.{name}', None) for name in child.module_dict)
        level = level.parent
    return list(names)


def _arguments(built: Callable) -> list[str]:
    """Names of the arguments of a constructor, those of its base classes included."""
    kinds = inspect.getmro(built) if inspect.isclass(built) else [built]
    names: dict[str, None] = {}
    for kind in kinds:
        try:
            names.update(dict.fromkeys(inspect.signature(kind).parameters))
        except (TypeError, ValueError):
            continue
    return [name for name in names if name not in ('self', 'args', 'kwargs')]


def _near(name: str, known: list[str]) -> str:
    bare = {entry.rpartition('.')[2]: entry for entry in reversed(known)}
    near = get_close_matches(name.rpartition('.')[2], bare, 1)
    return f'; did you mean {bare[near[0]]!r}?' if near else '.'


def _reason(error: BaseException, message: str) -> str:
    """The message, with the type where it says what is wrong."""
    if isinstance(error, (ValueError, OSError)):
        return message
    return f'{type(error).__name__}: {message}' if message else type(error).__name__
