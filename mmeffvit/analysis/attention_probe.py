from __future__ import annotations

import re

from torch import Tensor, nn

from ..ops.explain import attention_weights

ATTENTION = r'(?:.*\.)?attn'


class AttentionProbe:
    """Record the outputs and attention maps of a ViT-like backbone's attention layers.

    Works on any backbone whose attention layers are modules named ``attn`` with tokens in and out.
    Maps are recomputed from a fused ``qkv`` projection and ``num_heads``, so fused attention can
    stay on; layers without these (skipped ones too) have features but no map.

    Args:
        backbone (nn.Module): The backbone.
        pattern (str): Regular expression of the layers' whole names.
        heads (str): ``'mean'`` over heads, or ``'concat'``.
        class_token (bool): The map is the class token's row over the patches; else the mean of all
            rows.

    Raises:
        ValueError: If no layer has such a name.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pattern: str = ATTENTION,
        heads: str = 'mean',
        class_token: bool = True,
    ) -> None:
        self.layers = [name for name, _ in backbone.named_modules() if re.fullmatch(pattern, name)]
        if not self.layers:
            raise ValueError(f'No module of the backbone has a name like {pattern!r}.')
        self.heads = heads
        self.class_token = class_token
        self.features: dict[str, Tensor] = {}
        self.maps: dict[str, Tensor] = {}
        self._hooks = [
            backbone.get_submodule(name).register_forward_hook(self._hook(name))
            for name in self.layers
        ]

    def __enter__(self) -> AttentionProbe:
        """Start recording."""
        return self

    def __exit__(self, *exc) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str):
        def record(module: nn.Module, inputs: tuple, out: Tensor) -> None:
            self.features[name] = (out[0] if isinstance(out, tuple) else out).detach()
            qkv, num_heads = getattr(module, 'qkv', None), getattr(module, 'num_heads', None)
            if isinstance(qkv, nn.Linear) and num_heads:
                self.maps[name] = self._map(qkv(inputs[0]), num_heads)

        return record

    def _map(self, qkv: Tensor, num_heads: int) -> Tensor:
        """Attention ``(B, heads or 1, N)`` from the projection ``(B, N, 3C)``."""
        q, k, _ = qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
        q = q[:, :, :1] if self.class_token else q
        weights = attention_weights(q, k).mean(2)
        weights = weights[..., 1:] if self.class_token else weights
        return (weights.mean(1, keepdim=True) if self.heads == 'mean' else weights).detach()


def has_class_token(backbone: nn.Module) -> bool:
    """Whether the backbone has a class token in front, by its field name ``cls_token``."""
    return isinstance(getattr(backbone, 'cls_token', None), Tensor)
