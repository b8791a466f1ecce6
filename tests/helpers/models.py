"""The smallest published model of every family, and a much smaller one for what is slow."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mmeffvit import backbones
from mmeffvit.denoising import SkipUformer, SkipUniFormerUNet, Uformer, UniFormerUNet
from mmeffvit.registry import MODELS as REGISTRY

REGISTRY.import_from_location()

#: Names of the first model of every class, its smallest.
SMALLEST = [
    next(iter(vars(cls)['zoo'])) for cls in REGISTRY.module_dict.values() if vars(cls).get('zoo')
]

PYRAMID = dict(
    embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2), depths=(1, 1, 1, 1)
)
DOUBLING = dict(embed_dims=8, num_heads=(2, 2, 4, 4), depths=(2, 1, 1, 1))
PLAIN = dict(embed_dims=16, num_heads=2, depth=4)
TWO_STREAM = dict(embed_dims=(16, 16, 32), num_heads=(2, 2, 2), depths=(1, 1, 1))
U_SHAPED = dict(embed_dims=8, depths=(1,) * 9)
CLIP = dict(embed_dims=(8, 16), depths=(1, 1), kinds=('local', 'global'), head_dims=8, num_frames=2)

BACKBONES = {
    'quadtree': partial(backbones.QuadTreeTransformer, PYRAMID),
    'quadtree_a': partial(backbones.QuadTreeTransformer, PYRAMID, attention=dict(kind='A')),
    'pvt': partial(backbones.PVT, PYRAMID),
    'pvtv2': partial(backbones.PVTv2, PYRAMID),
    'swin': partial(backbones.SwinTransformer, DOUBLING),
    'cswin': partial(backbones.CSWinTransformer, DOUBLING),
    'slide_swin': partial(backbones.SlideSwin, DOUBLING, num_slide_stages=1),
    'slide_pvt': partial(backbones.SlidePVT, PYRAMID, num_slide_stages=1),
    'slide_pvtv2': partial(backbones.SlidePVTv2, PYRAMID, num_slide_stages=1),
    'slide_cswin': partial(backbones.SlideCSwin, DOUBLING, num_slide_stages=1),
    'vit': partial(backbones.VisionTransformer, PLAIN, img_size=64),
    'skipat_vit': partial(backbones.SkipAtViT, PLAIN, img_size=64),
    'skipat_pvt': partial(
        backbones.SkipAtPVT, {**PYRAMID, 'depths': (2, 1, 1, 1)}, skip_layers=((1,), (), (), ())
    ),
    'lookupvit': partial(backbones.LookupViT, PLAIN, (2, 2), img_size=64),
    'lookupvit_ratio': partial(
        backbones.LookupViT, PLAIN, compressed_ratio=2, img_size=64, out_tokens='add'
    ),
    'dualtoken': partial(backbones.DualTokenViT, TWO_STREAM),
    'lightvit': partial(backbones.LightViT, TWO_STREAM),
}
DENOISERS = {
    'uformer': partial(Uformer, U_SHAPED, window_size=4),
    'uformer_skipat': partial(SkipUformer, U_SHAPED, window_size=4),
    'uniformer': partial(UniFormerUNet, **CLIP),
    'uniformer_skipat': partial(SkipUniFormerUNet, **CLIP),
}
MODELS = {**BACKBONES, **DENOISERS}


def tiny_model(name: str, **options) -> nn.Module:
    """Build a model in eval mode whose norms, biases and layer scales are no ones and zeros."""
    torch.manual_seed(0)
    model = MODELS[name](**options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tiny_input(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """Two images, or clips of as many frames as the model takes."""
    frames = getattr(model, 'num_frames', None)
    return torch.randn(2, 3, *([frames] if frames else []), *size)


def outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What a model returns, as a list, without gradients."""
    with torch.no_grad():
        out = model(inputs)
    return [out] if isinstance(out, Tensor) else list(out)


def num_parameters(*modules: nn.Module) -> int:
    """Number of parameters of modules that share none."""
    return sum(p.numel() for module in modules for p in module.parameters())
