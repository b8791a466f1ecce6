"""Building layers from configs, for hosts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..registry import MODELS

AttentionConfig = dict | Sequence[dict]


def build_layer(config: dict, **defaults) -> nn.Module:
    """Build a layer by config.

    Args:
        config (dict): ``type`` is a name of this package, or one of another with its scope
            (``'my_project.MyAttention'``), whatever the default scope is.
        **defaults: Arguments for what the config does not state.
    """
    return MODELS.build({'_scope_': 'mmeffvit', **defaults, **config})


def build_attentions(
    config: AttentionConfig, depth: int, embed_dims: int, num_heads: int, qkv_bias: bool
) -> list[nn.Module]:
    """Build one attention layer per block of a stage.

    Args:
        config (dict | Sequence[dict]): One config for all blocks, or one per block.
        depth (int): Number of blocks.
        embed_dims (int): Width, unless the config has its own.
        num_heads (int): Heads, likewise.
        qkv_bias (bool): Biases of the projections, likewise.

    Raises:
        ValueError: If a list does not have one entry per block, or the first layer would read what
            a block before it has mixed.
    """
    configs = [config] * depth if isinstance(config, dict) else list(config)
    if len(configs) != depth:
        raise ValueError(f'A stage of {depth} blocks needs {depth} attentions, got {len(configs)}.')
    shared = dict(embed_dims=embed_dims, num_heads=num_heads, qkv_bias=qkv_bias)
    layers = [build_layer(block_config, **shared) for block_config in configs]
    if not getattr(layers[0], 'reads_stream', True):
        raise ValueError(
            f'{type(layers[0]).__name__} reuses the attention output of the block before it and '
            'cannot be in block 0 of a stage; let that block attend.'
        )
    return layers
