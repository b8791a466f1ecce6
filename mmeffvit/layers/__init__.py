"""Modules that backbones are built of; attention layers share one contract (CONTRIBUTING.md)."""

from .attention import LinearSpatialReductionAttention, SoftmaxAttention, SpatialReductionAttention
from .block import (
    ConvMlp,
    DropPath,
    Mlp,
    ReusesAttention,
    TransformerBlock,
    drop_path_schedule,
    run_blocks,
)
from .cross_attention import FullAttention, LinearAttention
from .cswin import CrossShapedWindowAttention
from .dualtoken import DualTokenAttention, DualTokenBlock
from .lightvit import BiDimMlp, ConvStem, DualPatchMerging, LightViTAttention, LightViTBlock
from .lookup import LookupBlock, LookupGather, LookupInfuse
from .neighborhood import ConvDownsampler, ConvTokenizer, NeighborhoodAttention
from .patch_embed import PatchEmbed, PatchMerging
from .phi import Phi, SkipAttention
from .position import PositionEmbedding, resize_position_embedding
from .quadtree import QuadTreeAttention
from .slide import SlideAttention
from .uformer import EncoderReuse, ModulatedWindowAttention
from .window import WindowAttention

__all__ = [
    'BiDimMlp',
    'ConvDownsampler',
    'ConvMlp',
    'ConvStem',
    'ConvTokenizer',
    'CrossShapedWindowAttention',
    'DropPath',
    'DualPatchMerging',
    'DualTokenAttention',
    'DualTokenBlock',
    'EncoderReuse',
    'FullAttention',
    'LightViTAttention',
    'LightViTBlock',
    'LinearAttention',
    'LinearSpatialReductionAttention',
    'LookupBlock',
    'LookupGather',
    'LookupInfuse',
    'Mlp',
    'ModulatedWindowAttention',
    'NeighborhoodAttention',
    'PatchEmbed',
    'PatchMerging',
    'Phi',
    'PositionEmbedding',
    'QuadTreeAttention',
    'ReusesAttention',
    'SkipAttention',
    'SlideAttention',
    'SoftmaxAttention',
    'SpatialReductionAttention',
    'TransformerBlock',
    'WindowAttention',
    'drop_path_schedule',
    'resize_position_embedding',
    'run_blocks',
]
