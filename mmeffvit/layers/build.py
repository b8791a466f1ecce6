"""Building the layers of a backbone from configs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from torch import nn

from ..registry import MODELS
from .block import ReusesAttention

LayerConfig = dict | str | Callable[..., nn.Module]
AttentionConfig = dict | Sequence[dict]


def with_options(default: dict, attention: dict) -> dict:
    """Update the default attention config of a model with options, or replace it.

    Args:
        default (dict): Config of the model's attention layer.
        attention (dict): Options of that layer, or the config of another one, with a ``type``.

    Returns:
        dict: The config to build.
    """
    return dict(attention) if 'type' in attention else {**default, **attention}


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


def build_layer(config: LayerConfig, **defaults) -> nn.Module:
    """Build a layer from a config.

    Args:
        config (dict | Callable | str): A class or partial; a registered name, of another package
            with its scope (``'my_project.MyAttention'``); or a dict of one of these as ``type`` and
            options. Names without a scope are those of this package, whatever the default scope.
        **defaults: Default arguments; values in the config take precedence.

    Returns:
        nn.Module: The layer.
    """
    if isinstance(config, str):
        config = dict(type=config)
    if not isinstance(config, dict):
        return config(**defaults)
    return MODELS.build({'_scope_': 'mmeffvit', **defaults, **config})


def build_attentions(
    config: AttentionConfig,
    depth: int,
    embed_dims: int,
    num_heads: int,
    qkv_bias: bool,
    num_built: int | None = None,
) -> list[nn.Module]:
    """Build one attention layer per block of a stage.

    Args:
        config (dict | Sequence[dict]): One config for all blocks, or one per block.
        depth (int): Number of blocks.
        embed_dims (int): Default width; a value in the config takes precedence.
        num_heads (int): Default number of heads, as above.
        qkv_bias (bool): Default of the projections' biases, as above.
        num_built (int, optional): Number of blocks to build, from the first; all by default.

    Returns:
        list[nn.Module]: The layers.

    Raises:
        ValueError: If a list does not have one entry per block, or the first layer would reuse the
            attention output of a previous block.
    """
    configs = [config] * depth if isinstance(config, dict) else list(config)
    if len(configs) != depth:
        raise ValueError(f'A stage of {depth} blocks needs {depth} attentions, got {len(configs)}.')
    shared = dict(embed_dims=embed_dims, num_heads=num_heads, qkv_bias=qkv_bias)
    layers = [build_layer(block_config, **shared) for block_config in configs[:num_built]]
    if isinstance(layers[0], ReusesAttention):
        raise ValueError(
            f'{type(layers[0]).__name__} reuses the attention output of the block before it and '
            'cannot be in block 0 of a stage; let that block attend.'
        )
    return layers
