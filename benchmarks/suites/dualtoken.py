"""DualToken-ViT: against its public form, LightViT-T and PVTv2 at equal multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.baselines import dualtoken as baselines
from benchmarks.harness import Case
from benchmarks.wrappers import Autocast
from mmeffvit.backbones import DualTokenViT, LightViT, PVTv2

#: Backbone, image side, batch.
SIZES = (('tiny', 224, 1), ('tiny', 224, 8), ('small', 224, 1), ('small', 512, 1))
#: Per 224x224 image, without a head: DualToken-ViT-T 0.51 G, -S 0.99 G; LightViT-T 0.74 G,
#: PVTv2-b0 0.53 G, -b1 2.0 G. The paper's comparison is at equal accuracy as well.
RIVALS = {
    'tiny': {'PVTv2-b0': partial(PVTv2, 'b0')},
    'small': {'LightViT-T': partial(LightViT, 'tiny'), 'PVTv2-b1': partial(PVTv2, 'b1')},
}


def cases() -> dict[str, Callable[[], Case]]:
    """Name to a function that makes the case."""
    out = {_name(*size): partial(_backbone, *size) for size in SIZES}
    out['bfloat16 small 512'] = _bfloat16
    out['compile tiny 224'] = _compiled
    for with_cp in ('mlp', 'all'):
        out[f'with_cp={with_cp} small 512'] = partial(_checkpointed, with_cp)
    return out


def _name(arch: str, size: int, batch: int) -> str:
    return f'DualToken-ViT {arch} {size} px, batch {batch}'


def _backbone(arch: str, size: int, batch: int) -> Case:
    ours = _awake(DualTokenViT(arch)).eval()
    return Case(
        _name(arch, size, batch),
        lambda: [torch.randn(batch, 3, size, size)],
        {
            'ours': ours,
            'public form, NCHW': baselines.as_published(ours),
            'public form, channels-last': _ChannelsLast(baselines.as_published(ours)),
            **{name: make().eval() for name, make in RIVALS[arch].items()},
        },
        # Outputs agree to 1e-6; a ReLU or a maximum that ties within rounding redirects a gradient.
        tolerance=5e-3,
        equal=('public form, NCHW', 'public form, channels-last'),
    )


def _awake(model: DualTokenViT) -> DualTokenViT:
    """Give the layer scale a value at which the conv encoder matters for the comparison."""
    for name, parameter in model.named_parameters():
        if name.endswith('gamma'):
            nn.init.constant_(parameter, 0.1)
    return model


class _ChannelsLast(nn.Module):
    """A model fed with channels-last images, all that a user can switch from outside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.model(x.contiguous(memory_format=torch.channels_last))


def _bfloat16() -> Case:
    model = DualTokenViT('small').eval()

    return Case(
        'DualToken-ViT small 512 px, bfloat16 against float32',
        lambda: [torch.randn(1, 3, 512, 512)],
        {'ours': Autocast(model), 'ours, float32': model},
        modes=('forward',),
    )


def _compiled() -> Case:
    model = DualTokenViT('tiny').eval()
    return Case(
        'DualToken-ViT tiny 224 px, eager against torch.compile',
        lambda: [torch.randn(1, 3, 224, 224)],
        {'ours': model, 'ours, compiled': torch.compile(model)},
        modes=('forward',),
        tolerance=1e-4,
        equal=('ours, compiled',),
    )


def _checkpointed(with_cp: str) -> Case:
    plain = DualTokenViT('small')
    ours = DualTokenViT('small', with_cp=with_cp)
    ours.load_state_dict(plain.state_dict())
    return Case(
        f'DualToken-ViT small 512 px, with_cp={with_cp}',
        lambda: [torch.randn(1, 3, 512, 512)],
        {'ours': ours.train(), 'ours, nothing recomputed': plain.train()},
        modes=('forward+backward',),
        tolerance=1e-4,
        equal=('ours, nothing recomputed',),
    )
