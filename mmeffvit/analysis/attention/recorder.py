"""Recording the calls of a backbone's attention layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...layers import SoftmaxAttention
from .protocol import AttentionMap, AttentionQuery, explain, has_explanation
from .weights import softmax_weights

#: Names of attention layers in this package, timm and the frameworks.
ATTENTION = r'(?:.*\.)?attn'


@dataclass
class LayerCall:
    """One call of an attention layer.

    Attributes:
        name (str): Name of the layer in the backbone.
        layer (nn.Module): The layer.
        args (tuple): Positional arguments of its ``forward``.
        kwargs (dict): Keyword arguments of its ``forward``.
        output (Tensor | tuple): What it returned.
    """

    name: str
    layer: nn.Module
    args: tuple
    kwargs: dict
    output: Any = None

    @property
    def features(self) -> Tensor:
        """Output tokens ``(B, N, C)``, the first of a layer that returns several tensors."""
        return (self.output[0] if isinstance(self.output, tuple) else self.output).detach()


class AttentionRecorder:
    """Context manager that records the calls of a backbone's attention layers by hooks.

    Args:
        backbone (nn.Module): The backbone.
        pattern (str, optional): Regular expression of the layers' whole names. By default layers
            named ``attn`` and those with an explanation.

    Raises:
        ValueError: If no layer has such a name.
    """

    def __init__(self, backbone: nn.Module, pattern: str | None = None) -> None:
        self.layers = {
            name: module
            for name, module in backbone.named_modules()
            if re.fullmatch(pattern or ATTENTION, name)
            or (pattern is None and has_explanation(module))
        }
        if not self.layers:
            raise ValueError(
                f'No module of {type(backbone).__name__} has a name like {pattern or ATTENTION!r}.'
            )
        self._calls: list[LayerCall] = []
        self._hooks: list = []

    def __enter__(self) -> AttentionRecorder:
        """Start recording."""
        for name, layer in self.layers.items():

            def begin(layer: nn.Module, args: tuple, kwargs: dict, name: str = name) -> None:
                self._calls.append(LayerCall(name, layer, args, kwargs))

            self._hooks.append(layer.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(layer.register_forward_hook(self._end))
        return self

    def __exit__(self, *exc) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _end(self, layer: nn.Module, args: tuple, output: object) -> None:
        for call in reversed(self._calls):
            if call.layer is layer:
                call.output = output
                return

    def take(self) -> list[LayerCall]:
        """Return the calls since the last time, in the order the layers ran."""
        calls, self._calls = self._calls, []
        return calls


class LayerExplanation(NamedTuple):
    """Attention maps of one layer.

    Attributes:
        name (str): Name of the layer in the backbone.
        maps (list[AttentionMap]): Its maps.
        note (str): Why there are none, otherwise empty.
    """

    name: str
    maps: list[AttentionMap]
    note: str = ''


def explain_backbone(
    backbone: nn.Module,
    image: Tensor,
    query: AttentionQuery,
    layers: Sequence[int] | None = None,
) -> list[LayerExplanation]:
    """Compute the attention maps of a backbone's layers for one image.

    Args:
        backbone (nn.Module): Any backbone; layers without an explanation get a note.
        image (Tensor): Normalised image ``(1, 3, H, W)``.
        query (AttentionQuery): The point and the tokens.
        layers (Sequence[int], optional): Which attention layers, in the order they run, negative
            ones from the end; all by default.

    Returns:
        list[LayerExplanation]: One per call of a layer.

    Raises:
        ValueError: If there is no such layer or token, no layer can be explained, or the backbone
            takes clips.
    """
    name = type(backbone).__name__
    if getattr(backbone, 'num_frames', None) is not None:
        raise ValueError(f'{name} takes clips; attention is drawn over images.')
    recorder = AttentionRecorder(backbone)
    if not any(map(has_explanation, recorder.layers.values())):
        types = ', '.join(sorted({type(layer).__name__ for layer in recorder.layers.values()}))
        raise ValueError(
            f'No attention layer of {name} has an explanation ({types}); register a function for '
            'one with mmeffvit.analysis.attention.explain.register, see docs/custom_attention.md.'
        )
    with recorder, torch.no_grad():
        backbone(image)
        calls = recorder.take()
    for index in layers or ():
        if not -len(calls) <= index < len(calls):
            raise ValueError(
                f'There is no attention layer {index}; they are 0 to {len(calls) - 1}.'
            )
    chosen = calls if layers is None else [calls[index] for index in layers]
    with torch.no_grad():
        return [_explain_call(call, query) for call in chosen]


def _explain_call(call: LayerCall, query: AttentionQuery) -> LayerExplanation:
    if not has_explanation(call.layer):
        note = f'no explanation is registered for {type(call.layer).__name__}'
        return LayerExplanation(call.name, [], note)
    maps = explain(call.layer, *call.args, query=query, **call.kwargs)
    note = '' if maps else 'reuses the attention of an earlier layer'
    return LayerExplanation(call.name, maps, note)


def mean_attention(call: LayerCall, class_token: bool, heads: str = 'mean') -> Tensor | None:
    """Compute one attention map over all tokens for a layer of full softmax attention.

    Args:
        call (LayerCall): A call of :class:`SoftmaxAttention`, or of another library's layer with a
            fused ``qkv`` projection and ``num_heads``, as in timm and mmpretrain.
        class_token (bool): The map is the first token's row over the others; otherwise the mean of
            all rows.
        heads (str): ``'mean'`` over heads, or ``'concat'``.

    Returns:
        Tensor, optional: ``(B, heads or 1, N)``; None for layers of other attention.
    """
    layer, x = call.layer, call.args[0]
    qkv, num_heads = getattr(layer, 'qkv', None), getattr(layer, 'num_heads', None)
    if isinstance(layer, SoftmaxAttention):
        q, k, _ = layer.project(x)
    elif isinstance(qkv, nn.Linear) and num_heads and not has_explanation(layer):
        q, k, _ = qkv(x).unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        return None
    weights = softmax_weights(q[:, :, :1] if class_token else q, k).mean(2)
    weights = weights[..., 1:] if class_token else weights
    return (weights.mean(1, keepdim=True) if heads == 'mean' else weights).detach()


def has_class_token(backbone: nn.Module) -> bool:
    """Return whether the backbone puts a class token first, by its attribute ``cls_token``."""
    return isinstance(getattr(backbone, 'cls_token', None), Tensor)
