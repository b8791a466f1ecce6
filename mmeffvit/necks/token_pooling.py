from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..layers.init import init_linear
from ..registry import MODELS


@MODELS.register_module()
class TokenPooling(BaseModule):
    """Pool tokens to one vector for a classifier: Linear, LayerNorm, GELU, mean over the tokens.

    Args:
        in_channels (int): Width C of the tokens.
        out_channels (int): Width of the vector.
        init_cfg (dict, optional): mmengine initialisation.

    Source: LightViT (arXiv 2207.05557) and DualToken-ViT (arXiv 2309.12424), whose backbones return
    tokens with ``out_type='raw'``.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 1280, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.proj = init_linear(nn.Linear(in_channels, out_channels))
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Pool each set of tokens ``(B, N, C)`` to ``(B, out_channels)``."""
        return tuple(F.gelu(self.norm(self.proj(tokens))).mean(1) for tokens in inputs)
