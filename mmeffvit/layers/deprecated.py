"""Arguments of version 0.1, replaced by those of today; removed in version 0.3."""

from __future__ import annotations

import warnings
from functools import partial

from torch import nn

from .patch_embed import PatchEmbed


def adopt_options(options: dict, *names: str) -> dict:
    """Move arguments of version 0.1 that belong to the attention layer into ``attention``.

    Args:
        options (dict): Keyword arguments of a constructor.
        *names (str): Those that the layer has now.

    Returns:
        dict: The arguments, ``attention`` among them if there are any of these.
    """
    options = dict(options)
    moved = {name: options.pop(name) for name in names if name in options}
    if moved:
        warnings.warn(
            f'{", ".join(moved)} are options of the attention layer: write attention=dict('
            + ', '.join(f'{name}={value!r}' for name, value in moved.items())
            + ').',
            DeprecationWarning,
            stacklevel=3,
        )
        options['attention'] = {**moved, **(options.get('attention') or {})}
    return options


def parts_of_flags(options: dict) -> dict:
    """Replace the flags ``overlap`` and ``stage_norm`` of version 0.1 by the layers they chose."""
    options = dict(options)
    flags = {
        name: options.pop(name)
        for name in ('overlap', 'stage_norm')
        if isinstance(options.get(name), bool)
    }
    if not flags:
        return options
    warnings.warn(
        f'{", ".join(flags)} are deprecated; give stem, downsample and stage_norm as layers.',
        DeprecationWarning,
        stacklevel=3,
    )
    parts = {}
    if 'stage_norm' in flags:
        parts['stage_norm'] = nn.LayerNorm if flags['stage_norm'] else None
    if 'overlap' in flags:
        overlap = flags['overlap']
        sizes = dict(stem=(7, 4, 3), downsample=(3, 2, 1))
        if not overlap:
            sizes = dict(stem=(4, 4, 0), downsample=(2, 2, 0))
        for name, (patch_size, stride, padding) in sizes.items():
            parts[name] = partial(PatchEmbed, patch_size=patch_size, stride=stride, padding=padding)
    return {**parts, **options}
