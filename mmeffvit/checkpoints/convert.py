from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import torch
from torch import Tensor

from ..registry import MODELS
from ..zoo import current_name
from .keymap import (
    Conversion,
    KeyMap,
    Refuse,
    Rename,
    UnknownArchitectureError,
    apply_rules,
    check_against,
)

#: Modules of this package that have no key maps and need them all.
_USERS = ('published', 'summary')


def _find_families() -> dict[str, KeyMap]:
    """The key maps of this package, by the name of the variable in lower case."""
    modules = [
        import_module(f'{__package__}.{found.name}')
        for found in iter_modules([str(Path(__file__).parent)])
        if found.name not in (Path(__file__).stem, *_USERS)
    ]
    found = {
        name.lower(): value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, KeyMap)
    }
    return dict(sorted(found.items()))


#: Public code bases whose checkpoints can be converted.
FAMILIES = _find_families()
PARTS = ('backbone', 'model')


def convert(
    state: Mapping[str, Tensor],
    family: str,
    part: str = 'backbone',
    config: dict | None = None,
    **options,
) -> Conversion:
    """Convert a public state dict to our keys and check it against the model it belongs to.

    Args:
        state (Mapping[str, Tensor]): Public keys: a backbone's, a classifier's, or a whole
            detector's or segmentor's with its backbone under ``backbone.``.
        family (str): A key of :data:`FAMILIES`.
        part (str): ``'backbone'`` for the backbone only, what ``init_cfg`` loads; ``'model'`` for
            the whole classifier, detector or segmentor, what ``tools/test.py`` loads. Necks and
            heads of detectors and segmentors keep their names.
        config (dict, optional): Backbone config to check against; inferred from the weights if
            not given.
        **options: What no tensor tells, for the families that take it: ``num_heads`` (int, of a
            ViT; Sequence[int], of each stage of QuadTree, PVT and CSWin), ``image_size``
            (tuple[int, int], the ``(H, W)`` of a position table that is not square) and
            ``drop_distillation`` (bool, leave out DeiT's distillation token and its head) for
            ViTs, and ``activation`` (str), that of their MLPs; ``shift_rule`` (str) for Swin;
            ``value_act`` (str) for QuadTree. One that is None counts as not given.

    Returns:
        Conversion: The new state, and what was mapped, dropped, missing, unexpected, mismatched.

    Raises:
        ValueError: If ``family`` or ``part`` is unknown, the keys are not that family's, an option
            is not one of the family's, or one is needed and not given.
    """
    family = current_name(family, FAMILIES)
    if family not in FAMILIES:
        raise ValueError(f'family={family!r} is not one of {", ".join(FAMILIES)}.')
    if part not in PARTS:
        raise ValueError(f'part={part!r} is not one of {", ".join(PARTS)}.')
    key_map = FAMILIES[family]
    options = {name: value for name, value in options.items() if value not in (None, False)}
    for name, value in options.items():
        if name not in key_map.options:
            known = f'takes {", ".join(key_map.options)}' if key_map.options else 'takes no options'
            raise ValueError(f'{name}={value!r} has no effect on family {family}, which {known}.')
    whole = not key_map.whole_model and any(key.startswith('backbone.') for key in state)
    inner = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
    rest = {k: v for k, v in state.items() if not k.startswith('backbone.')} if whole else {}
    public = inner if whole else dict(state)
    head = {k: v for k, v in public.items() if _is_head(k, key_map)}

    for layout, pattern in key_map.layouts.items():
        if any(re.fullmatch(pattern, key) for key in public):
            options['layout'] = layout
            break

    result = Conversion()
    apply_rules({k: v for k, v in public.items() if k not in head}, key_map.rules, result, options)
    if not result.mapped:
        raise ValueError(
            f'No key is one of {key_map.source}; the file has {_examples(state)}. '
            'Check the family, or whether the weights are wrapped differently.'
        )
    try:
        if key_map.finish is not None:
            result.state = key_map.finish(result.state, **options)
        result.config = config or key_map.config(result.state, **options)
    except UnknownArchitectureError:
        raise
    except (KeyError, IndexError, ValueError) as error:
        refused = [key for key in result.unexpected if key.endswith(')')]  # by a Refuse rule
        if refused:
            raise ValueError(f'The file has a layer that our model lacks: {refused[0]}.') from None
        raise ValueError(
            f'The file has too few keys of {key_map.source} to tell its architecture by '
            f'({error}); check the family, or give a whole checkpoint.'
        ) from None
    with torch.device('meta'):
        wanted = MODELS.build({'_scope_': 'mmeffvit', **result.config}).state_dict()
    check_against(result, wanted, key_map)
    if key_map.untold is not None:
        result.notes.extend(key_map.untold(result.config))

    if key_map.whole_model:
        return result
    if part == 'model':
        result.state = {f'backbone.{key}': value for key, value in result.state.items()}
        apply_rules(head, key_map.head_rules, result, options)
        result.state.update(rest)
        result.mapped.extend((key, key) for key in rest)
    else:
        result.dropped.extend((key, 'not the backbone') for key in (*head, *rest))
    return result


def recognise(state: Iterable[str], foreign: Iterable[str]) -> list[str]:
    """Families whose public names a state dict has.

    Args:
        state (Iterable[str]): Names of a backbone's, a classifier's or a whole detector's weights.
        foreign (Iterable[str]): Those that our model does not have; a family must rename some.

    Returns:
        list[str]: Keys of :data:`FAMILIES` that know nine in ten of the backbone's names, those
        that know the most.
    """
    state = list(state)
    inner = [key.removeprefix('backbone.') for key in state if key.startswith('backbone.')]
    backbone = inner or list(state)
    foreign = list(foreign)
    shares = {}
    for family, key_map in FAMILIES.items():
        keys = list(state) if key_map.whole_model else backbone
        start = '' if key_map.whole_model else 'backbone.'
        renames = [rule for rule in key_map.rules if isinstance(rule, Rename)]
        if not any(_is_renamed(renames, key.removeprefix(start)) for key in foreign):
            continue
        rules = (*key_map.rules, *key_map.head_rules)
        patterns = [rule.pattern for rule in rules if not isinstance(rule, Refuse)]
        shares[family] = sum(_matches(patterns, key) for key in keys) / max(1, len(keys))
    most = max(shares.values(), default=0)
    return [f for f, share in shares.items() if share == most and share >= 0.9]


def _is_renamed(rules: Iterable[Rename], key: str) -> bool:
    """Whether the first rule that matches gives the key another name."""
    for rule in rules:
        match = re.fullmatch(rule.pattern, key)
        if match is not None:
            target = rule.target(match) if callable(rule.target) else rule.target
            return not isinstance(target, str) or match.expand(target) != key
    return False


def _matches(patterns: Iterable[str], key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def _is_head(key: str, key_map: KeyMap) -> bool:
    return _matches([rule.pattern for rule in key_map.head_rules], key)


def _examples(state: Mapping[str, Tensor]) -> str:
    keys = list(state)
    return ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')
