"""Functions on tensors; they know nothing of modules, registries or frameworks."""

from .depthwise import depthwise_conv
from .dispatch import available_backends, use_backend
from .layout import (
    crop_tokens,
    from_quad,
    map_to_tokens,
    pad_tokens,
    to_quad,
    tokens_to_map,
)
from .lookup import lookup_gather, lookup_infuse
from .neighborhood_attention import neighborhood_attention
from .numerics import gelu_
from .quadtree import quadtree_attention, quadtree_fine
from .resize import interpolate_tokens, resample_linear, resampling_matrix
from .slide import slide_attention
from .softmax_attention import softmax_attention
from .window import (
    merge_windows,
    partition_windows,
    relative_position_index,
    roll_tokens,
    shifted_window_mask,
)
from .window_attention import window_attention

__all__ = [
    'available_backends',
    'crop_tokens',
    'depthwise_conv',
    'from_quad',
    'gelu_',
    'interpolate_tokens',
    'lookup_gather',
    'lookup_infuse',
    'map_to_tokens',
    'merge_windows',
    'neighborhood_attention',
    'pad_tokens',
    'partition_windows',
    'quadtree_attention',
    'quadtree_fine',
    'relative_position_index',
    'resample_linear',
    'resampling_matrix',
    'roll_tokens',
    'shifted_window_mask',
    'slide_attention',
    'softmax_attention',
    'to_quad',
    'tokens_to_map',
    'use_backend',
    'window_attention',
]
