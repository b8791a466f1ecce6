from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import ClassVar

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Backbone(BaseModule):
    """What every backbone shares: declared outputs, frozen stages, frozen statistics.

    Attributes:
        zoo (dict[str, dict]): Of the class: names for :func:`mmeffvit.get_model`, each with the
            arguments that it stands for. It is not inherited.
        output_layers (tuple[str, ...]): Of the class: prefixes of parameters that exist for an
            output alone. Pretrained weights may lack them, or have some of other outputs.
        num_frames (int, optional): Frames of the clips that it takes; None for images.
        out_channels (tuple[int, ...]): Channels of the maps for ``out_indices``.
        out_strides (tuple): Strides of these maps: one number, or one per axis where they differ.

    Args:
        channels (Sequence[int]): Channels of each stage (or, for plain transformers, block) that
            can be output.
        strides (Sequence[int | tuple[int, ...]]): Their strides in pixels.
        out_indices (int | Sequence[int]): Which to output; negative ones count from the end.
        frozen_stages (int): -1 freezes nothing, 0 the stem, ``n`` also the first ``n`` stages.
        norm_eval (bool): Keep BatchNorm statistics fixed in training.
        init_cfg (dict, optional): mmengine initialisation, e.g. ``type='Pretrained'``.

    Raises:
        ValueError: If an index or ``frozen_stages`` is out of range.
    """

    zoo: ClassVar[dict[str, dict]] = {}
    output_layers: ClassVar[tuple[str, ...]] = ()
    num_frames: int | None = None

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int | tuple[int, ...]],
        out_indices: int | Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        num_stages = len(channels)
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        if not indices or any(not -num_stages <= index < num_stages for index in indices):
            raise ValueError(
                f'out_indices={out_indices} must be in -{num_stages} .. {num_stages - 1}.'
            )
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages={frozen_stages} must be in -1 .. {num_stages}.')
        self.out_indices = tuple(sorted(index % num_stages for index in indices))
        self.out_channels = tuple(channels[index] for index in self.out_indices)
        self.out_strides = tuple(strides[index] for index in self.out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

    def stem_modules(self) -> Sequence[nn.Module | nn.Parameter]:
        """What ``frozen_stages=0`` freezes."""
        raise NotImplementedError

    def stage_modules(self) -> Sequence[Sequence[nn.Module | nn.Parameter]]:
        """Per stage, what freezing it freezes."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Apply ``frozen_stages``; constructors call it last, :meth:`train` keeps it so."""
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
        """Switch modes; frozen stages and, with ``norm_eval``, BatchNorms stay in eval mode."""
        super().train(mode)
        if mode:
            self.freeze()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def switch_to_deploy(self) -> None:
        """Fold what layers can fold for inference; for good, a checkpoint brings it back."""
        for module in list(self.modules()):
            if module is not self and hasattr(module, 'switch_to_deploy'):
                module.switch_to_deploy()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning-rate decay.

        Args:
            param_name (str): Its name in the whole model.
            prefix (str): This backbone's prefix there, such as ``'backbone.'``.

        Returns:
            tuple: The depth (0 the stem, then one per block, last the rest) and the number of
            depths.
        """
        raise NotImplementedError


class StagedBackbone(Backbone):
    """Stages in a row, each from map to map with ``patch_embed`` and ``blocks``.

    Subclasses fill ``stages``. Every stage halves the sides, the first divides them by 4.
    """

    stages: nn.ModuleList

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x (Tensor): Images ``(B, in_channels, H, W)`` of any size.

        Returns:
            tuple[Tensor]: Maps ``(B, C_i, H_i, W_i)`` at strides 4, 8, 16, 32 (sides rounded up),
            channels-last in memory, for ``out_indices``.
        """
        outs = []
        for i, stage in enumerate(self.stages[: self.out_indices[-1] + 1]):
            x = stage(x)
            if i in self.out_indices:
                outs.append(self.output(x, i))
        return tuple(outs)

    def output(self, x: Tensor, index: int) -> Tensor:
        """What is returned of the map that stage ``index`` hands to the next."""
        return x

    def stem_modules(self) -> Sequence[nn.Module]:
        """The first patch embedding."""
        return [self.stages[0].patch_embed]

    def stage_modules(self) -> Sequence[Sequence[nn.Module]]:
        """Each stage with its patch embedding."""
        return [[stage] for stage in self.stages]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter; a later patch embedding counts with the block after it."""
        depths = [len(stage.blocks) for stage in self.stages]
        num_depths = sum(depths) + 2
        match = re.match(r'stages\.(\d+)\.(?:blocks\.(\d+)|(\w+))', param_name[len(prefix) :])
        if not param_name.startswith(prefix) or match is None:
            return num_depths - 1, num_depths
        stage, block, part = int(match[1]), match[2], match[3]
        before = sum(depths[:stage])
        if block is not None:
            return before + int(block) + 1, num_depths
        if part == 'norm':
            return before + depths[stage], num_depths
        return (before + 1 if stage else 0), num_depths


def stage_strides(num_stages: int, first: int = 4) -> list[int]:
    """Strides of a pyramid whose every stage halves the sides."""
    return [first << index for index in range(num_stages)]


def zoo_of(family: str, archs: Iterable[str]) -> dict[str, dict]:
    """The ``zoo`` of a class whose models are the archs of one family."""
    return {f'{family}_{arch}': dict(arch=arch) for arch in archs}


def find_arch(zoo: dict[str, dict], arch: str | dict) -> dict:
    """Look an arch up in a zoo; a dict is taken as it is.

    Raises:
        ValueError: If the zoo has no such arch.
    """
    if isinstance(arch, str):
        if arch not in zoo:
            raise ValueError(f'arch={arch!r} is not one of {", ".join(zoo)}; or pass a dict.')
        return zoo[arch]
    return arch
