"""Base class of backbones, and the attention layers that their configs name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import ReusesAttention
from ..registry import build_layer

#: Attention of a stage: the config of a layer for all its blocks, or one per block.
AttentionConfig = dict | Sequence[dict]


class Backbone(BaseModule):
    """Base class of backbones: declared outputs, frozen stages and frozen statistics.

    Attributes:
        archs (dict[str, dict]): Of the class: its architectures by name.
        zoo (dict[str, dict]): Class attribute: arguments of each model by its name in
            :func:`mmeffvit.get_model`. It is not inherited.
        output_layers (tuple[str, ...]): Class attribute: prefixes of parameters that only an output
            uses. Pretrained weights may lack them, or contain those of other outputs.
        depth_patterns (dict[str, str]): Class attribute: regular expressions of parameter names for
            :meth:`get_layer_depth`, with groups ``stage`` and ``block``: ``'stem'``, ``'block'``
            (without the group the first block of the stage), ``'stage_end'`` (as deep as the last
            block of the stage). All other parameters are deeper than every block.
        attention_options (tuple[str, ...]): Class attribute: names of attributes that choose
            attention layers, None unless given; they contradict ``attentions``.
        num_frames (int, optional): Number of frames of the input clips; None for images.
        out_channels (tuple[int, ...]): Channels of the maps for ``out_indices``.
        out_strides (tuple): Strides of these maps: one number, or one per axis where they differ.

    Args:
        channels (Sequence[int]): Channels of each stage (or, for plain transformers, block) that
            can be output.
        strides (Sequence[int | tuple[int, ...]]): Their strides in pixels.
        out_indices (int | Sequence[int]): Stages to output; negative ones count from the end.
        frozen_stages (int): -1 freezes nothing, 0 the stem, ``n`` also the first ``n`` stages.
        norm_eval (bool): Keep BatchNorm statistics fixed in training.
        init_cfg (dict, optional): mmengine initialisation, e.g. ``type='Pretrained'``.
        pretrained (str, optional): Checkpoint; shorthand for ``init_cfg`` of type ``Pretrained``.

    Raises:
        ValueError: If an index or ``frozen_stages`` is out of range, or both ``init_cfg`` and
            ``pretrained`` are given.
    """

    archs: ClassVar[dict[str, dict]] = {}
    zoo: ClassVar[dict[str, dict]] = {}
    output_layers: ClassVar[tuple[str, ...]] = ()
    depth_patterns: ClassVar[dict[str, str]] = {}
    attention_options: ClassVar[tuple[str, ...]] = ()
    num_frames: int | None = None

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int | tuple[int, ...]],
        out_indices: int | Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
        pretrained: str | None = None,
    ) -> None:
        if pretrained:
            if init_cfg is not None:
                raise ValueError(
                    f'pretrained={pretrained!r} and init_cfg contradict each other; give one.'
                )
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg)
        num_stages = len(channels)
        indices = list(out_indices) if isinstance(out_indices, Sequence) else [out_indices]
        in_range = [type(i) is int and -num_stages <= i < num_stages for i in indices]
        if not indices or not all(in_range):
            raise ValueError(
                f'out_indices={out_indices!r} must be integers in -{num_stages} .. '
                f'{num_stages - 1}.'
            )
        if type(frozen_stages) is not int or not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages={frozen_stages!r} must be in -1 .. {num_stages}.')
        self.out_indices = tuple(sorted(index % num_stages for index in indices))
        self.out_channels = tuple(channels[index] for index in self.out_indices)
        self.out_strides = tuple(strides[index] for index in self.out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

    def default_attentions(self, arch: dict, attention: dict) -> list[AttentionConfig]:
        """Return the attention configs that are used if ``attentions`` is not given.

        Args:
            arch (dict): The architecture.
            attention (dict): Options of the default layer, or the config of another; may be empty.

        Returns:
            list: One config per stage (of a plain transformer, block), or a list of one per block.
        """
        raise NotImplementedError

    def choose_attentions(
        self,
        arch: dict,
        attention: dict | None,
        attentions: Sequence[AttentionConfig] | None,
    ) -> Sequence[AttentionConfig]:
        """Return the attention configs that follow from the arguments of a constructor.

        Args:
            arch (dict): The architecture.
            attention (dict, optional): See :meth:`default_attentions`.
            attentions (Sequence[dict | Sequence[dict]], optional): Configs that replace the
                default.

        Returns:
            Sequence: See :meth:`default_attentions`.

        Raises:
            ValueError: If ``attentions`` is given with an option that it would override.
        """
        if attentions is None:
            return self.default_attentions(arch, attention or {})
        given = dict(attention=attention)
        given.update({name: getattr(self, name) for name in self.attention_options})
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f'{name}={value!r} has no effect beside attentions, which names every layer; '
                    'give one of them.'
                )
        return attentions

    def stem_modules(self) -> Sequence[nn.Module | nn.Parameter]:
        """Return the modules and parameters that ``frozen_stages=0`` freezes."""
        raise NotImplementedError

    def stage_modules(self) -> Sequence[Sequence[nn.Module | nn.Parameter]]:
        """Return the modules and parameters of each stage that ``frozen_stages`` freezes."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Apply ``frozen_stages``. Constructors call this last, and :meth:`train` again."""
        if self.frozen_stages < 0:
            return
        frozen = list(self.stem_modules())
        for stage in self.stage_modules()[: self.frozen_stages]:
            frozen.extend(stage)
        for part in frozen:
            if isinstance(part, nn.Parameter):
                part.requires_grad_(False)
            else:
                part.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; frozen stages and, with ``norm_eval``, BatchNorms stay in eval mode."""
        super().train(mode)
        if mode:
            self.freeze()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def switch_to_deploy(self) -> None:
        """Fuse re-parameterisable layers in place for inference.

        Irreversible; build the model and load its checkpoint again to train.
        """
        for module in list(self.modules()):
            switch = getattr(module, 'switch_to_deploy', None)
            if module is not self and switch is not None:
                switch()

    def blocks_per_stage(self) -> Sequence[int]:
        """Return the number of blocks built per stage; plain transformers have one stage."""
        raise NotImplementedError

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter, for layer-wise learning-rate decay.

        Args:
            param_name (str): Name of the parameter in the whole model.
            prefix (str): Prefix of this backbone in the model, such as ``'backbone.'``.

        Returns:
            tuple[int, int]: The depth, 0 for the stem, then one per block, then the rest; and the
            number of depths.
        """
        counts = self.blocks_per_stage()
        num_depths = sum(counts) + 2
        found = self._place(param_name[len(prefix) :]) if param_name.startswith(prefix) else None
        if found is None:
            return num_depths - 1, num_depths
        place, stage, block = found
        if place == 'stage_end':
            block = counts[stage] - 1
        return (0 if place == 'stem' else sum(counts[:stage]) + block + 1), num_depths

    def is_left_out(self, name: str) -> bool:
        """Return whether a parameter belongs to a block that is not built for ``out_indices``."""
        found, counts = self._place(name), self.blocks_per_stage()
        if found is None:
            return False
        _, stage, block = found
        return stage >= len(counts) or block >= counts[stage]

    def _place(self, name: str) -> tuple[str, int, int] | None:
        """Return the key in :attr:`depth_patterns`, stage and block of a parameter."""
        for place, pattern in self.depth_patterns.items():
            if match := re.match(pattern, name):
                indices = match.groupdict()
                return place, int(indices.get('stage') or 0), int(indices.get('block') or 0)
        return None

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """Load a state dict, ignoring stages and outputs that this model does not have."""
        own = self.state_dict(prefix=prefix, keep_vars=True)
        outputs = tuple(prefix + layer for layer in self.output_layers)
        excess = [
            name
            for name in state_dict
            if name.startswith(prefix) and name not in own
            if name.startswith(outputs) or self.is_left_out(name[len(prefix) :])
        ]
        for name in excess:
            del state_dict[name]
        if excess:
            print_log(
                f'{len(excess)} tensors of layers that out_indices={self.out_indices} does not '
                f'need are not loaded, such as {excess[0]}.',
                'current',
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def with_options(default: dict, attention: dict) -> dict:
    """Update the default attention config of a model with options, or replace it.

    Args:
        default (dict): Config of the model's attention layer.
        attention (dict): Options of that layer, or the config of another one, with a ``type``.

    Returns:
        dict: The config to build.
    """
    return dict(attention) if 'type' in attention else {**default, **attention}


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
