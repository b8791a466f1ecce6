"""Attention maps of the layers, registered by layer type, one module per family."""

from importlib import import_module
from pkgutil import iter_modules

from .protocol import AttentionMap, AttentionQuery, explain, has_explanation
from .recorder import (
    ATTENTION,
    AttentionRecorder,
    LayerCall,
    LayerExplanation,
    explain_backbone,
    has_class_token,
    mean_attention,
)

__all__ = [
    'ATTENTION',
    'AttentionMap',
    'AttentionQuery',
    'AttentionRecorder',
    'LayerCall',
    'LayerExplanation',
    'explain',
    'explain_backbone',
    'has_class_token',
    'has_explanation',
    'mean_attention',
]

# The module of each family registers its layers.
for _module in iter_modules(__path__):
    import_module(f'{__name__}.{_module.name}')
