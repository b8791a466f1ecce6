"""Declarative maps from the keys of public code to ours, and the engine that applies them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from math import isqrt

import torch
from torch import Tensor

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Rename:
    r"""Rule that renames keys that match ``pattern`` as a whole to ``target``.

    Attributes:
        pattern (str): Regular expression of the public key.
        target (str | Sequence[str] | Callable): Our key, with ``\1`` group references; several keys
            where ``transform`` returns as many tensors; or ``target(match)``, where a number in it
            is to be computed.
        transform (Callable, optional): ``transform(tensor, match)`` for values that change shape
            or order.
        part (int, optional): Where several public tensors make one of ours, the place of this
            one; parts are concatenated along dimension 0.
        given (str, optional): A public key that the file must have, where two code bases call
            different things by the same name.
    """

    pattern: str
    target: str | Sequence[str] | Callable[[re.Match], str | Sequence[str]]
    transform: Callable[[Tensor, re.Match], Tensor | Sequence[Tensor]] | None = None
    part: int | None = None
    given: str | None = None


@dataclass(frozen=True)
class Drop:
    """Rule that drops keys that match ``pattern`` as a whole.

    Attributes:
        pattern (str): Regular expression of the public key.
        reason (str): Why nothing is lost.
        chosen (str, optional): Only if the caller gives this option of the family.
    """

    pattern: str
    reason: str
    chosen: str | None = None


@dataclass(frozen=True)
class Refuse:
    """Rule that refuses keys, matched as a whole, of layers that our model does not have.

    Attributes:
        pattern (str): Regular expression of the public key.
        missing (str): What our model lacks, or what else to do.
    """

    pattern: str
    missing: str


class UnknownArchitectureError(ValueError):
    """Raised if the tensors do not determine the architecture; the message names the option."""


Rule = Rename | Drop | Refuse


def check_heads(num_heads: int | Sequence[int], widths: Sequence[int]) -> tuple[int, ...]:
    """Numbers of heads that were given, one per stage.

    Args:
        num_heads (int | Sequence[int]): What was given.
        widths (Sequence[int]): Width of each stage.

    Raises:
        UnknownArchitectureError: If there are more or fewer than stages, or one does not divide
            its width.
    """
    given = (num_heads,) if isinstance(num_heads, int) else tuple(num_heads)
    if len(given) != len(widths):
        raise UnknownArchitectureError(
            f'num_heads={num_heads} must be {len(widths)} numbers, one per stage.'
        )
    for heads, width in zip(given, widths):
        if heads < 1 or width % heads:
            raise UnknownArchitectureError(
                f'num_heads={num_heads} does not divide the width {width}.'
            )
    return given


@dataclass(frozen=True)
class KeyMap:
    """Conversion of the checkpoints of one public code base: rules for keys, and the config.

    Attributes:
        source (str): The public code that writes such checkpoints.
        rules (Sequence[Rule]): Backbone keys; the first rule that matches is used.
        config (Callable): ``config(state, **options)``, from the *converted* state the config of
            the backbone that it belongs to, so that a conversion can be checked strictly.
        head_rules (Sequence[Rule]): Classification head, to mmpretrain's keys.
        optional (Sequence[str]): Patterns of our keys that a source may lack; they keep their
            initial values and are reported.
        finish (Callable, optional): ``finish(state, **options)``, the converted state with what no
            rule on single keys can do: fused projections in another order, layers that start at
            zero.
        options (Sequence[str]): Options of :func:`~mmeffvit.checkpoints.convert` that ``config``
            and ``finish`` take, for what no tensor tells.
        layouts (Mapping[str, str]): Names of code bases whose models differ in what no tensor
            tells, each with a pattern of a public key that only its files have; the first that is
            found is handed to ``config`` and ``finish`` as ``layout``.
        untold (Callable, optional): ``untold(config)``, sentences on what no tensor tells and no
            check can find.
        whole_model (bool): The rules are of a whole model, whose ``backbone.`` is one of its parts.
    """

    source: str
    rules: Sequence[Rule]
    config: Callable[..., dict]
    head_rules: Sequence[Rule] = ()
    optional: Sequence[str] = ()
    finish: Callable[..., StateDict] | None = None
    options: Sequence[str] = ()
    layouts: Mapping[str, str] = field(default_factory=dict)
    untold: Callable[[dict], Sequence[str]] | None = None
    whole_model: bool = False


@dataclass
class Conversion:
    """Result of a conversion: the state dict, and what happened to every key.

    Attributes:
        state (dict[str, Tensor]): Our keys.
        config (dict): The backbone they belong to.
        mapped (list[tuple[str, str]]): Public key, our key.
        dropped (list[tuple[str, str]]): Public key, reason.
        untrained (list[str]): Our optional keys that the source does not have.
        missing (list[str]): Our keys that nothing was mapped to.
        unexpected (list[str]): Public keys that no rule knows, or our keys that do not exist.
        mismatched (list[str]): Keys whose shapes differ, with both shapes.
        notes (list[str]): What no tensor tells, and how it was taken.
    """

    state: StateDict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    mapped: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether the state fills the backbone, key by key."""
        return not (self.missing or self.unexpected or self.mismatched)


def apply_rules(
    state: Mapping[str, Tensor],
    rules: Sequence[Rule],
    result: Conversion,
    chosen: Container[str] = (),
) -> None:
    """Apply rules to every key of a public state, adding to ``result``.

    Args:
        state (Mapping[str, Tensor]): Public keys.
        rules (Sequence[Rule]): The first that matches a key is used.
        result (Conversion): Changed in place.
        chosen (Container[str]): Options that the caller gave.
    """
    parts: dict[str, dict[int, Tensor]] = {}
    unwanted = [
        rule for rule in rules if isinstance(rule, Drop) and rule.chosen and rule.chosen in chosen
    ]
    kept = {key for key in state if not any(re.fullmatch(r.pattern, key) for r in unwanted)}
    for key, tensor in state.items():
        for rule in rules:
            match = re.fullmatch(rule.pattern, key)
            if match is None:
                continue
            if isinstance(rule, Refuse):
                result.unexpected.append(f'{key} ({rule.missing})')
                break
            if isinstance(rule, Drop):
                if rule.chosen is not None and rule.chosen not in chosen:
                    continue
                result.dropped.append((key, rule.reason))
                break
            if rule.given is not None and rule.given not in kept:
                continue
            target = rule.target(match) if callable(rule.target) else rule.target
            targets = [target] if isinstance(target, str) else list(target)
            values = tensor if rule.transform is None else rule.transform(tensor, match)
            values = [values] if isinstance(values, Tensor) else list(values)
            for target, value in zip(targets, values, strict=True):
                target = match.expand(target)
                result.mapped.append((key, target))
                if rule.part is not None:
                    parts.setdefault(target, {})[rule.part] = value.detach()
                    continue
                # Own storage, so that a view does not save the tensor it was cut from.
                result.state[target] = value.detach().clone().contiguous()
            break
        else:
            result.unexpected.append(key)
    for target, values in parts.items():
        result.state[target] = torch.cat([values[part] for part in sorted(values)])


def check_against(result: Conversion, wanted: Mapping[str, Tensor], key_map: KeyMap) -> None:
    """Compare the converted state with a model's state, adding to ``result``.

    Where the only difference is memory format or dtype nothing is reported.
    """
    for key, tensor in wanted.items():
        if key not in result.state:
            optional = any(re.fullmatch(pattern, key) for pattern in key_map.optional)
            (result.untrained if optional else result.missing).append(key)
        elif result.state[key].shape != tensor.shape:
            shapes = tuple(result.state[key].shape), tuple(tensor.shape)
            result.mismatched.append(f'{key}: {shapes[0]} in the file, {shapes[1]} in the model')
    result.unexpected.extend(key for key in result.state if key not in wanted)


def stage_depths(state: Mapping[str, Tensor], pattern: str) -> tuple[int, ...]:
    """Blocks per stage, read off the keys.

    Args:
        state (Mapping): A state dict.
        pattern (str): Regular expression with a group for the stage and one for the block.
    """
    found = {
        (int(match[1]), int(match[2]))
        for match in (re.match(pattern, key) for key in state)
        if match
    }
    stages = sorted({stage for stage, _ in found})
    return tuple(1 + max(block for s, block in found if s == stage) for stage in stages)


class NotSquareError(UnknownArchitectureError):
    """Raised if the grid of a position table cannot be derived from its size."""


def side_of(cells: int) -> int:
    """Side of a square grid.

    Raises:
        NotSquareError: If it is none, or has no cells.
    """
    side = isqrt(max(0, cells))
    if side == 0 or side * side != cells:
        raise NotSquareError(
            f'The position table has {cells} cells, which are no square grid: give the size of the '
            'images that it was trained at by --image-size HEIGHT WIDTH (convert(image_size=...)).'
        )
    return side


def to_linear(weight: Tensor, match: re.Match) -> Tensor:
    """A 1x1 convolution's weight as a linear layer's."""
    return weight.flatten(1) if weight.ndim == 4 else weight
