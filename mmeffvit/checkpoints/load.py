"""Loading weights into models, with a report of matched, missing and unexpected keys."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from .inspection import CheckpointError
from .read import PREFIXES, Weights, read_weights

_MISMATCH = re.compile(
    r'size mismatch for (\S+): copying a param with shape torch\.Size\((.*)\) from checkpoint, '
    r'the shape in current model is torch\.Size\((.*)\)'
)
_insisted: ContextVar[bool] = ContextVar('insisted', default=False)
#: Says of every load what it filled; command lines show it, Python shows its warnings.
LOGGER = logging.getLogger('mmeffvit')


@dataclass
class Loaded:
    """Result of loading a state dict into a model.

    Attributes:
        model (str): Class of the model.
        source (str): Where the weights are from.
        of_file (int): Number of tensors in the file.
        of_model (int): Number of tensors in the model.
        filled (int): Number of tensors of the file that were loaded.
        missing (list[str]): Those of the model that the file does not have; they keep their values.
        unexpected (list[str]): Those of the file that the model does not have.
        mismatched (list[str]): Those of another shape, with both shapes; they keep their values.
        families (list[str]): Those of :data:`FAMILIES` that convert the file, if it is of public
            code.
    """

    model: str
    source: str
    of_file: int
    of_model: int
    filled: int
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether every tensor of file and model was matched."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def level(self) -> int:
        """Logging level of the report."""
        return logging.INFO if self.is_exact else logging.WARNING

    @property
    def is_plausible(self) -> bool:
        """Whether at least half of the file or of the model was used, and none is to be renamed."""
        half = 2 * self.filled >= min(self.of_file, self.of_model)
        return self.filled > 0 and half and not self.families

    def __str__(self) -> str:
        parts = [
            f'{self.filled} of {self.of_file} tensors of {self.source} fill {self.model}, '
            f'which has {self.of_model}'
        ]
        for text, keys in (
            ('of another shape, left as initialised', self.mismatched),
            ('not in the file, left as initialised', self.missing),
            ('not in the model, unused', self.unexpected),
        ):
            if keys:
                parts.append(f'{len(keys)} {text}: {shortened(keys)}')
        return '; '.join(parts)

    def advice(self) -> str:
        """Advice how to make a file that does not match loadable."""
        if self.families:
            return (
                f'its names are those of public code: convert it by tools/convert_checkpoint.py '
                f'--family {" or ".join(self.families)}'
            )
        return 'files of public code are converted by tools/convert_checkpoint.py'


def load_weights(
    model: nn.Module, source: str | Path | Weights, allow_partial: bool = False
) -> Loaded:
    """Load a checkpoint into a model; every key must match.

    Parameters that only an output uses (``output_layers`` of a backbone's class) may be
    absent from the file, and it may have those of other outputs.

    Args:
        model (nn.Module): The model, changed in place.
        source (str | Path | Weights): See :func:`read_weights`; weights of the model itself, of
            a detector, segmentor, classifier or restorer that has it as ``backbone``, or of the
            model's own backbone where it has nothing else to fill.
        allow_partial (bool): Load what fits where some does not; also inside
            :func:`partial_allowed`.

    Returns:
        Loaded: What was loaded.

    Raises:
        CheckpointError: If the file cannot be read, or is not of this model; with ``allow_partial``
            only if nothing of it is.
    """
    weights = source if isinstance(source, Weights) else read_weights(source)
    loaded = fill(model, weights, weights.source)
    allow_partial = allow_partial or _insisted.get()
    if loaded.is_exact or (allow_partial and loaded.filled):
        LOGGER.log(loaded.level, '%s.', loaded)
        return loaded
    remedy = '' if allow_partial or not loaded.filled else '; --allow-partial loads what fits'
    raise CheckpointError(
        f'The weights are not those of this {loaded.model}: {loaded}; {loaded.advice()}{remedy}.'
    )


def fill(model: nn.Module, state: Mapping[str, Tensor], source: str) -> Loaded:
    """Load the tensors of a state dict whose names and shapes match.

    Args:
        model (nn.Module): The model; wrappers for training and test-time augmentation are looked
            through.
        state (Mapping[str, Tensor]): Its weights, perhaps under a prefix.
        source (str): Where they are from, for messages.

    Returns:
        Loaded: What fitted.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = cast(nn.Module, model.module)
    wanted = model.state_dict()
    rename = align(state, wanted)
    versions = _renamed(getattr(state, '_metadata', {}), rename)
    state = _renamed(state, rename)
    missing, unexpected, errors = _load(model, state, versions)
    optional = tuple(
        f'{name}.{layer}'.removeprefix('.')
        for name, module in model.named_modules()
        for layer in getattr(module, 'output_layers', ())
    )
    mismatched = [_MISMATCH.fullmatch(' '.join(error.split()).rstrip('.')) for error in errors]
    loaded = Loaded(
        type(model).__name__,
        source,
        of_file=len(state),
        of_model=len(wanted),
        filled=len(state) - len(unexpected) - len(errors),
        # Files of before PyTorch 0.4.1 lack the counters of BatchNorm, which matter to no output.
        missing=[
            key
            for key in missing
            if not key.startswith(optional) and not key.endswith('num_batches_tracked')
        ],
        unexpected=[key for key in unexpected if not key.startswith(optional)],
        mismatched=[
            f'{match[1]} {_shape(match[2])} instead of {_shape(match[3])}' if match else error
            for match, error in zip(mismatched, errors)
        ],
    )
    ours = any(type(module).__module__.startswith('mmeffvit.') for module in model.modules())
    if loaded.unexpected and ours:
        from .convert import recognise

        loaded.families = recognise(state, loaded.unexpected)
    return loaded


def align(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[str, str]:
    """Prefixes to remove and to add so that the most names are those of a model."""
    prefixes = (*PREFIXES, 'backbone.')
    choices = [('', ''), *((p, '') for p in prefixes), *(('', p) for p in prefixes)]
    return max(choices, key=lambda choice: len(_renamed(state, choice).keys() & wanted.keys()))


def _renamed(state: Mapping[str, Any], prefixes: tuple[str, str]) -> dict[str, Any]:
    old, new = prefixes
    return {
        new + key.removeprefix(old): value for key, value in state.items() if key.startswith(old)
    }


def _load(
    model: nn.Module, state: dict[str, Tensor], versions: dict[str, dict]
) -> tuple[list[str], list[str], list[str]]:
    """Load like ``load_state_dict(strict=False)``, also where some shapes differ.

    Returns:
        tuple: Names that are missing, names that are unexpected, and messages of what failed.
    """
    missing: list[str] = []
    unexpected: list[str] = []
    errors: list[str] = []

    def load(module: nn.Module, state: dict[str, Tensor], prefix: str) -> None:
        version = versions.get(prefix[:-1], {})
        module._load_from_state_dict(state, prefix, version, True, missing, unexpected, errors)
        for name, child in module._modules.items():
            if child is not None:
                start = f'{prefix}{name}.'
                inner = OrderedDict((k, v) for k, v in state.items() if k.startswith(start))
                load(child, inner, start)

    load(model, OrderedDict(state), '')
    return missing, unexpected, errors


@contextmanager
def partial_allowed(allowed: bool = True) -> Iterator[None]:
    """Context in which loads accept weights that match a model only in part."""
    token = _insisted.set(allowed)
    try:
        yield
    finally:
        _insisted.reset(token)


def insist(loaded: Loaded) -> None:
    """Raise if training should not start from the loaded weights.

    A head for other classes may differ; a file of which less than half fits is another model's.

    Raises:
        CheckpointError: If less than half of the file and of the model fit, and
            :func:`partial_allowed` is not in force, or nothing fits.
    """
    if loaded.of_model and not (loaded.is_plausible or (_insisted.get() and loaded.filled)):
        raise CheckpointError(
            f'The weights are not those of this {loaded.model}: {loaded}; {loaded.advice()}; '
            '--allow-partial loads what fits.'
        )


def shortened(keys: Sequence[str], shown: int = 4) -> str:
    """The first few of a list, and how many more there are."""
    rest = f' and {len(keys) - shown} more' if len(keys) > shown else ''
    return ', '.join(keys[:shown]) + rest


def _shape(text: str) -> str:
    numbers = re.findall(r'\d+', text)
    return f'({", ".join(numbers)})'
