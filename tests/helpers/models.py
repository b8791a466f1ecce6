"""The smallest published model of every family, and a much smaller one for what is slow."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mmeffvit import backbones
from mmeffvit.backbones.slide import SlideFirst
from mmeffvit.denoising import Uformer, UniFormerUNet
from mmeffvit.matching import FeatureMatcher
from mmeffvit.registry import MODELS as REGISTRY
from mmeffvit.stereo import StereoMatching
from mmeffvit.zoo import SIZES

REGISTRY.import_from_location()

#: Every class with models of single images or clips of its own.
CLASSES = [
    cls
    for cls in REGISTRY.module_dict.values()
    if vars(cls).get('zoo') and not issubclass(cls, (FeatureMatcher, StereoMatching))
]
#: Names of all their models.
NAMES = [name for cls in CLASSES for name in cls.zoo]
#: Names of the first model of every class, its smallest.
SMALLEST = [next(iter(cls.zoo)) for cls in CLASSES]

CLIP = dict(embed_dims=(8, 16), depths=(1, 1), kinds=('local', 'global'), head_dims=8, num_frames=2)
#: Of some classes and those that inherit from them, what else makes them small.
OPTIONS = {
    SlideFirst: dict(num_slide_stages=1),
    backbones.VisionTransformer: dict(img_size=64),
    backbones.LookupViT: dict(img_size=64, compressed_size=(2, 2)),
    backbones.SkipAtPVT: dict(skip_layers=((1,), (), (), ())),
    Uformer: dict(window_size=4),
    UniFormerUNet: CLIP,
}
#: Second models of families that have two sides.
VARIANTS = {
    'quadtree_a': ('quadtree', dict(attention=dict(kind='A'))),
    'lookupvit_ratio': (
        'lookupvit',
        dict(compressed_size=None, compressed_ratio=2, out_tokens='add'),
    ),
}


def family_of(cls: type[nn.Module]) -> str:
    """The names of a class's models without the arch, e.g. ``'slide_swin'``."""
    name, options = next(iter(cls.zoo.items()))
    arch = options.get('arch')
    return name.removesuffix(f'_{SIZES.get(arch, arch)}')


def tiny_arch(arch: dict) -> dict:
    """An arch of the same kind with few narrow layers; U-shaped ones keep their symmetry."""
    if 'depth' in arch:
        return dict(arch, embed_dims=16, depth=4, num_heads=2)
    count = len(arch['depths'])
    tiny = dict(arch, depths=(2, 1, 1, 1) if count == 4 else (1,) * count)
    tiny['embed_dims'] = 8 if isinstance(arch['embed_dims'], int) else (16, 16, 32, 32)[:count]
    for key, value in (('num_heads', 2), ('mlp_ratios', 2)):
        if key in arch:
            tiny[key] = (value,) * count
    return tiny


def _tiny(cls: type[nn.Module]) -> partial:
    options = dict(next(iter(cls.zoo.values())))
    if 'arch' in options:
        options['arch'] = tiny_arch(cls.archs[options['arch']])
    for base in reversed(cls.__mro__):
        options.update(OPTIONS.get(base, {}))
    return partial(cls, **options)


MODELS = {family_of(cls): _tiny(cls) for cls in CLASSES}
MODELS |= {name: partial(MODELS[family], **more) for name, (family, more) in VARIANTS.items()}
BACKBONES = {k: v for k, v in MODELS.items() if issubclass(v.func, backbones.base.Backbone)}
DENOISERS = {k: v for k, v in MODELS.items() if k not in BACKBONES}


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
