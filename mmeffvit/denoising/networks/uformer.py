from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...layers import (
    EncoderReuse,
    ModulatedWindowAttention,
    Phi,
    TransformerBlock,
    WindowAttention,
    drop_path_schedule,
)
from ...layers.deprecated import adopt_options
from ...layers.init import init_linear
from ...ops import map_to_tokens, tokens_to_map
from ...ops.layout import divide_up
from ...registry import MODELS, build_layer
from ...zoo import find_arch, zoo_of
from ..padding import pad_to_multiples

NUM_SCALES = 4
PAD_MODES = ('reflect', 'zero_square')
PAIRINGS = ('same', 'reverse')

#: Uformer (CVPR 2022), section 4.1: blocks of four encoder stages, bottleneck, four decoder stages.
UFORMER_ARCHS = {
    't': dict(embed_dims=16, depths=(2, 2, 2, 2, 2, 2, 2, 2, 2)),
    's': dict(embed_dims=32, depths=(2, 2, 2, 2, 2, 2, 2, 2, 2)),
    'b': dict(embed_dims=32, depths=(1, 2, 8, 8, 2, 8, 8, 2, 1)),
}


class Skip(NamedTuple):
    """Skip connection from an encoder stage to the decoder stage of its resolution.

    Attributes:
        map (Tensor): The stage's output ``(B, C, H, W)``.
        attentions (list[Tensor | None]): Attention outputs ``(B, H*W, C)`` of its blocks, if the
            decoder reuses them.
    """

    map: Tensor
    attentions: list[Tensor | None]


@MODELS.register_module()
class Uformer(BaseModule):
    """U-shaped transformer for image restoration, at any image size.

    Four encoder stages, a bottleneck and four decoder stages of window attention and locally
    enhanced feed-forward networks; decoder stages are twice as wide as the encoder stages of their
    resolution. The output is the input plus a residual.

    Args:
        arch (str | dict): ``'t'``, ``'s'``, ``'b'``, or ``embed_dims`` (width C of the first stage
            and of every head) and ``depths`` (blocks of the nine stages).
        attention (dict, optional): Options of :class:`~mmeffvit.layers.WindowAttention`.
        decoder_attention (type | str, optional): Attention layer of the decoder,
            :class:`~mmeffvit.layers.ModulatedWindowAttention` by default;
            :class:`~mmeffvit.layers.WindowAttention` for a Uformer without modulators.
        in_channels (int): Channels of the input; only with 3 is it added to the output.
        window_size (int): Side of a window.
        mlp_ratio (float): Hidden width of the feed-forward networks over their width.
        pad_mode (str): How an image is padded to multiples of :attr:`size_divisor`:
            ``'reflect'`` pads the bottom and right by reflection; ``'zero_square'`` centres the
            image in a square of zeros, as the authors' test scripts do.
        drop_path_rate (float): Rate of the last encoder block and the bottleneck; linear from 0
            over the encoder, mirrored in the decoder.
        with_cp (bool | str): What blocks recompute in backward, see :class:`TransformerBlock`.
        init_cfg (dict, optional): mmengine initialisation.

    Other Args:
        bottleneck_shift (bool): Ablation: also shift the windows of every second block of the
            bottleneck. The published weights were trained without, at a size at which it is one
            window.

    Raises:
        ValueError: If ``pad_mode`` is unknown or the arch does not have nine stages.

    Source: Wang et al., "Uformer" (CVPR 2022).
    """

    archs = UFORMER_ARCHS
    zoo = zoo_of('uformer', UFORMER_ARCHS)
    num_frames = None
    #: Whether decoder blocks get the attention outputs of encoder blocks, which then stay alive.
    reuses_encoder = False

    def __init__(
        self,
        arch: str | dict = 't',
        *,
        attention: dict | None = None,
        decoder_attention: type[WindowAttention] | str = ModulatedWindowAttention,
        in_channels: int = 3,
        window_size: int = 8,
        mlp_ratio: float = 4.0,
        bottleneck_shift: bool = False,
        pad_mode: str = 'reflect',
        drop_path_rate: float = 0.1,
        with_cp: bool | str = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if pad_mode not in PAD_MODES:
            raise ValueError(f'pad_mode={pad_mode!r} must be one of {PAD_MODES}.')
        arch = find_arch(self.archs, arch)
        embed_dims, depths = arch['embed_dims'], arch['depths']
        if len(depths) != 2 * NUM_SCALES + 1:
            raise ValueError(f'depths={depths} must name {2 * NUM_SCALES + 1} stages.')
        self.window_options = {'window_size': window_size, **(attention or {})}
        self.window_size = self.window_options['window_size']
        self.decoder_attention = decoder_attention
        self.pad_mode = pad_mode
        widths = [embed_dims << k for k in range(NUM_SCALES + 1)]

        def stage(dims: int, attentions: Sequence[dict], rates: Sequence[float]) -> nn.ModuleList:
            defaults = dict(embed_dims=dims, num_heads=dims // embed_dims, qkv_bias=True)
            return nn.ModuleList(
                TransformerBlock(
                    dims,
                    build_layer(attention, **defaults),
                    _locally_enhanced_mlp(dims, mlp_ratio),
                    rate,
                    1e-5,
                    with_cp,
                )
                for attention, rate in zip(attentions, rates, strict=True)
            )

        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, embed_dims, 3, padding=1), nn.LeakyReLU(inplace=True)
        )
        self.encoder, self.downs = nn.ModuleList(), nn.ModuleList()
        left = iter(drop_path_schedule(drop_path_rate, sum(depths[:NUM_SCALES])))
        for width, depth in zip(widths, depths[:NUM_SCALES]):
            attentions = window_attentions(depth, self.window_options)
            self.encoder.append(stage(width, attentions, [next(left) for _ in range(depth)]))
            self.downs.append(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1))
        depth = depths[NUM_SCALES]
        attentions = window_attentions(depth, self.window_options, bottleneck_shift)
        self.bottleneck = stage(widths[-1], attentions, [drop_path_rate] * depth)
        self.decoder, self.ups = nn.ModuleList(), nn.ModuleList()
        left = iter(drop_path_schedule(drop_path_rate, sum(depths[NUM_SCALES + 1 :]))[::-1])
        lower = widths[-1]
        for width, depth in zip(widths[-2::-1], depths[NUM_SCALES + 1 :]):
            self.ups.append(nn.ConvTranspose2d(lower, width, 2, stride=2))
            lower = 2 * width
            attentions = self.decoder_attentions(depth, width)
            self.decoder.append(stage(lower, attentions, [next(left) for _ in range(depth)]))
        self.head = nn.Conv2d(lower, 3, 3, padding=1)

    @property
    def size_divisor(self) -> int:
        """Sides are padded to multiples of this: a window at the lowest resolution."""
        return self.window_size << NUM_SCALES

    def decoder_attentions(self, depth: int, source_dims: int) -> list[dict]:
        """Attention layers of one decoder stage.

        Args:
            depth (int): Number of blocks.
            source_dims (int): Width of the encoder stage at this resolution.
        """
        return window_attentions(depth, self.window_options, layer=self.decoder_attention)

    def source_index(self, block: int, depth: int) -> int:
        """Which block of an encoder stage a block of the decoder stage is paired with."""
        return block

    def forward(self, x: Tensor) -> Tensor:
        """Restore.

        Args:
            x (Tensor): Images ``(B, in_channels, H, W)``, values about [0, 1].

        Returns:
            Tensor: ``(B, 3, H, W)``, not clamped.
        """
        H, W = x.shape[-2:]
        padded, top, left = self._pad(x)
        residual = self._features(padded)[..., top : top + H, left : left + W]
        return x + residual if x.shape[1] == 3 else residual

    def _pad(self, x: Tensor) -> tuple[Tensor, int, int]:
        H, W = x.shape[-2:]
        divisor = self.size_divisor
        if self.pad_mode == 'reflect':
            return pad_to_multiples(x, divisor), 0, 0
        side = divide_up(cast(int, torch.sym_max(H, W)), divisor) * divisor
        top, left = (side - H) // 2, (side - W) // 2
        return F.pad(x, (left, side - W - left, top, side - H - top)), top, left

    def _features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips: list[Skip] = []
        for blocks, down in zip(cast(Iterable[nn.ModuleList], self.encoder), self.downs):
            tokens, grid = map_to_tokens(x), tuple(x.shape[-2:])
            attentions = []
            for block in blocks:
                if self.reuses_encoder:
                    tokens, attention = block(tokens, grid, return_attention=True)
                    attentions.append(attention)
                else:
                    tokens = block(tokens, grid)
            skips.append(Skip(tokens_to_map(tokens, grid), attentions))
            x = down(skips[-1].map)
        tokens, grid = map_to_tokens(x), tuple(x.shape[-2:])
        for block in self.bottleneck:
            tokens = block(tokens, grid)
        for blocks, up in zip(cast(Iterable[nn.ModuleList], self.decoder), self.ups):
            skip, sources = skips.pop()
            x = torch.cat([up(tokens_to_map(tokens, grid)), skip], 1)
            tokens, grid = map_to_tokens(x), tuple(x.shape[-2:])
            for index, block in enumerate(blocks):
                source = None
                if self.reuses_encoder:
                    place = self.source_index(index, len(blocks))
                    source, sources[place] = sources[place], None  # freed after its only use
                tokens = block(tokens, grid, source)
        return self.head(tokens_to_map(tokens, grid))


@MODELS.register_module()
class SkipUformer(Uformer):
    """Uformer whose decoder reuses the encoder's attention outputs through Φ (SkipAt, ICLR 2024).

    No decoder block attends, shifts or has a modulator. The output of an encoder block's attention
    layer, after its projection and before drop path, is the source of the decoder block that is
    paired with it.

    Args:
        arch (str | dict): See :class:`Uformer`; depths must mirror each other.
        attention (dict, optional): Options of the decoder's
            :class:`~mmeffvit.layers.EncoderReuse`, such as ``mode``.
        pairing (str): Encoder block of a decoder stage's block j: ``'same'`` the j-th of its
            resolution, ``'reverse'`` the j-th from the end (our choices).
        **kwargs: See :class:`Uformer`.

    Raises:
        ValueError: If ``pairing`` is unknown or the depths do not mirror.
    """

    zoo = zoo_of('uformer_skipat', UFORMER_ARCHS)
    reuses_encoder = True

    def __init__(
        self,
        arch: str | dict = 't',
        *,
        attention: dict | None = None,
        pairing: str = 'same',
        **kwargs,
    ) -> None:
        if 'reuse' in kwargs:
            kwargs['mode'] = kwargs.pop('reuse')
        kwargs = adopt_options(dict(kwargs, attention=attention), 'mode')
        self.reuse_options = kwargs.pop('attention') or {}
        if pairing not in PAIRINGS:
            raise ValueError(f'pairing={pairing!r} must be one of {PAIRINGS}.')
        depths = tuple(find_arch(self.archs, arch)['depths'])
        if depths != depths[::-1]:
            raise ValueError(
                f'depths={depths} must mirror, so that every decoder block has a pair.'
            )
        self.pairing = pairing
        super().__init__(arch, **kwargs)

    def decoder_attentions(self, depth: int, source_dims: int) -> list[dict]:
        """Φ in every block."""
        return [dict(type=EncoderReuse, source_dims=source_dims, **self.reuse_options)] * depth

    def source_index(self, block: int, depth: int) -> int:
        """The paired encoder block."""
        return block if self.pairing == 'same' else depth - 1 - block


def window_attentions(
    depth: int,
    options: dict,
    shift: bool = True,
    layer: type[WindowAttention] | str = WindowAttention,
) -> list[dict]:
    """Window attention of each block of a stage, shifted in every second one."""
    return [dict(type=layer, shift=shift and block % 2 == 1, **options) for block in range(depth)]


def _locally_enhanced_mlp(embed_dims: int, ratio: float) -> Phi:
    """Uformer's LeFF is Φ with a 3x3 kernel, four times the width and no gate."""
    mlp = Phi(embed_dims, phi_kernel=3, phi_ratio=ratio, eca_kernel=None)
    init_linear(mlp.fc1)
    init_linear(mlp.fc2)
    return mlp
