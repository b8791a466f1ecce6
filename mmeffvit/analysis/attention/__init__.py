"""Attention maps of the layers, registered by layer type, one module per family."""

from . import (  # noqa: F401  (they register their layers)
    cswin,
    dualtoken,
    lightvit,
    lookupvit,
    nat,
    quadtree,
    skipat,
    slide,
    softmax,
    window,
)
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
