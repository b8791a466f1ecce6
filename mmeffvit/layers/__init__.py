"""Modules that hosts are built of; attention layers share one contract (CONTRIBUTING.md)."""

from .attention import SoftmaxAttention, SpatialReductionAttention
from .block import TransformerBlock
from .carrier import Carrier
from .cswin import CrossShapedWindowAttention
from .drop import DropPath, drop_path_schedule
from .dualtoken import DualTokenAttention, DualTokenBlock
from .lightvit import BiDimMlp, ConvStem, DualPatchMerging, LightViTAttention, LightViTBlock
from .lookup import LookupBlock, LookupGather, LookupInfuse
from .mlp import ConvMlp, Mlp
from .patch_embed import PatchEmbed
from .patch_merging import PatchMerging
from .phi import Phi, SkipAttention
from .position import PositionEmbedding, resize_position_embedding
from .quadtree import QuadTreeAttention
from .slide import SlideAttention
from .uformer import EncoderReuse, ModulatedWindowAttention
from .window import WindowAttention

__all__ = [
    'BiDimMlp',
    'Carrier',
    'ConvMlp',
    'ConvStem',
    'CrossShapedWindowAttention',
    'DropPath',
    'DualPatchMerging',
    'DualTokenAttention',
    'DualTokenBlock',
    'EncoderReuse',
    'LightViTAttention',
    'LightViTBlock',
    'LookupBlock',
    'LookupGather',
    'LookupInfuse',
    'Mlp',
    'ModulatedWindowAttention',
    'PatchEmbed',
    'PatchMerging',
    'Phi',
    'PositionEmbedding',
    'QuadTreeAttention',
    'SkipAttention',
    'SlideAttention',
    'SoftmaxAttention',
    'SpatialReductionAttention',
    'TransformerBlock',
    'WindowAttention',
    'drop_path_schedule',
    'resize_position_embedding',
]
