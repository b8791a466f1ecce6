from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay for any backbone of this package, in any framework.

    The learning rate of a parameter ``n`` layers below the top is scaled by ``decay_rate ** n``.
    Depths come from the backbone's ``get_layer_depth``; parameters outside the backbone keep the
    full rate. One-dimensional parameters (norms, biases, scales) have no weight decay.

    In a config: ``optim_wrapper = dict(constructor='mmeffvit.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(decay_rate=0.75))``.

    Raises:
        ValueError: If ``decay_rate`` is missing or outside (0, 1], or the model has no backbone
            with ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        decay_rate = self.paramwise_cfg.get('decay_rate')
        if decay_rate is None or not 0 < decay_rate <= 1:
            raise ValueError(f'paramwise_cfg.decay_rate={decay_rate} must be in (0, 1].')
        self.decay_rate = decay_rate

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Fill ``params`` with one group per depth and weight decay.

        Args:
            params (list[dict]): Parameter groups, changed in place.
            module (nn.Module): The whole model.
            **kwargs: Not used; the base class passes a prefix.
        """
        backbone: Any = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise ValueError(
                f'{type(module).__name__} has no backbone with get_layer_depth; use one of '
                "mmeffvit or mmpretrain, or the framework's own constructor."
            )
        groups: dict[tuple[int, float], dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith('backbone.'):
                depth, num_depths = backbone.get_layer_depth(name, 'backbone.')
                below = num_depths - 1 - depth
            else:
                below = 0
            weight_decay = 0.0 if parameter.ndim <= 1 else self.base_wd
            group = groups.setdefault((below, weight_decay), dict(params=[], param_names=[]))
            group['params'].append(parameter)
            group['param_names'].append(name)
        for (below, weight_decay), group in sorted(groups.items(), key=lambda item: item[0][0]):
            scale = self.decay_rate**below
            group.update(lr=self.base_lr * scale, lr_scale=scale)
            if weight_decay is not None:
                group['weight_decay'] = weight_decay
            params.append(group)
        print_log(
            f'{len(groups)} parameter groups, decay rate {self.decay_rate}', 'current', logging.INFO
        )
