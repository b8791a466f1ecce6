"""Functions on tensors; they know nothing of modules, registries or frameworks."""

from .depthwise import depthwise_conv
from .dispatch import available_backends, use_backend
from .dual_softmax import BestPairs, best_of_matrix, best_pairs, dual_softmax, similarities
from .layout import (
    crop_tokens,
    from_quad,
    map_to_tokens,
    pad_tokens,
    to_quad,
    tokens_to_map,
)
from .linear_attention import linear_attention
from .lookup import lookup_gather, lookup_infuse
from .neighborhood_attention import neighborhood_attention
from .numerics import gelu_, quick_gelu
from .optimal_transport import optimal_transport
from .quadtree import quadtree_attention, quadtree_fine
from .resize import interpolate_tokens, resample_linear, resampling_matrix
from .sine_position import sine_position_table, sine_positions
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
    'BestPairs',
    'available_backends',
    'best_of_matrix',
    'best_pairs',
    'crop_tokens',
    'depthwise_conv',
    'dual_softmax',
    'from_quad',
    'gelu_',
    'interpolate_tokens',
    'linear_attention',
    'lookup_gather',
    'lookup_infuse',
    'map_to_tokens',
    'merge_windows',
    'neighborhood_attention',
    'optimal_transport',
    'pad_tokens',
    'partition_windows',
    'quadtree_attention',
    'quadtree_fine',
    'quick_gelu',
    'relative_position_index',
    'resample_linear',
    'resampling_matrix',
    'roll_tokens',
    'shifted_window_mask',
    'similarities',
    'sine_position_table',
    'sine_positions',
    'slide_attention',
    'softmax_attention',
    'to_quad',
    'tokens_to_map',
    'use_backend',
    'window_attention',
]
