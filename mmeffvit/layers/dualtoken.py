"""Block and attention of DualToken-ViT (Chu et al., arXiv 2309.12424)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..ops import interpolate_tokens, map_to_tokens, tokens_to_map
from ..ops.layout import Grid
from .attention import attend, check_heads
from .block import Mlp
from .init import init_linear
from .lightvit import LightViTBlock
from .window import WindowAttention

LOCAL_BRANCHES = ('conv', 'window')
TOKEN_MLPS = ('mix', 'mlp', None)
TOKEN_KINDS = ('position_aware', 'normal', 'combined')


class DualTokenAttention(BaseModule):
    """Position-aware global attention: aggregate the image into global tokens, then broadcast them.

    Aggregation pools the locally encoded image tokens to a small grid, attends there and updates
    the global tokens with the result. Broadcast lets every image token attend to the global tokens;
    its output is added to the local tokens. With ``pool_steps=0`` aggregation runs on all image
    tokens, and its output also replaces the local tokens.

    Args:
        embed_dims (int): Width C of image and global tokens.
        num_heads (int): Number of heads of both aggregation and broadcast.
        pool_steps (int): Number of 2x2 average poolings before the aggregation; 0 for the last
            stage, which has no local branch.
        kernel_size (int): Kernel of the convolutional encoder.
        token_size (int | tuple[int, int]): Grid of the global tokens (table 7). 0 for none: image
            tokens then attend to the aggregated ones, whose grid is not resized (our choice). With
            ``token_mlp='mix'`` it changes parameter shapes.
        token_mlp (str, optional): MLP of the global tokens: ``'mix'``, ``'mlp'`` (table 2) or None.
        alpha (float): Weight of the previous global tokens; that of the aggregated image is
            ``1 - alpha``.
        layer_scale_init (float): Initial layer scale of the convolutional encoder.

    Other Args:
        local (str): Ablation: local encoder, ``'conv'`` or ``'window'`` (window attention).
        window_size (int): Ablation: side of the windows of ``local='window'``.
        stepwise (bool): Ablation: False pools at once instead of in steps with a convolution
            between them.
        global_tokens (str): Ablation: ``'position_aware'``; ``'normal'`` tokens query the image
            tokens and nothing is pooled; ``'combined'`` tokens query the aggregated ones. The paper
            has 8 such tokens, ``token_size=(1, 8)``, and ``token_mlp='mlp'`` (table 6).

    Raises:
        ValueError: If an option is not one of the allowed values, or ``num_heads`` does not divide
            ``embed_dims``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        pool_steps: int = 0,
        local: str = 'conv',
        kernel_size: int = 7,
        window_size: int = 7,
        stepwise: bool = True,
        token_size: int | Grid = 7,
        token_mlp: str | None = 'mix',
        alpha: float = 0.1,
        global_tokens: str = 'position_aware',
        layer_scale_init: float = 1e-6,
    ) -> None:
        super().__init__()
        check_heads(embed_dims, num_heads)
        for name, value, choices in (
            ('local', local, LOCAL_BRANCHES),
            ('token_mlp', token_mlp, TOKEN_MLPS),
            ('global_tokens', global_tokens, TOKEN_KINDS),
        ):
            if value not in choices:
                raise ValueError(f'{name}={value!r} must be one of {choices}.')
        if isinstance(token_size, int):
            token_size = (token_size, token_size)
        self.token_size = tuple(token_size)
        if 0 in self.token_size and global_tokens != 'position_aware':
            raise ValueError(f'token_size={token_size} leaves no global tokens to query the image.')
        self.num_heads = num_heads
        self.reads_image = global_tokens == 'normal'

        self.local = self.pool = self.qkv = self.tokens = None
        if pool_steps and local == 'conv':
            self.local = ConvEncoder(embed_dims, kernel_size, layer_scale_init)
        elif pool_steps:
            self.local = WindowAttention(
                embed_dims, num_heads, window_size=window_size, out_proj=False
            )
        if pool_steps and not self.reads_image:
            self.pool = AveragePooling(embed_dims, pool_steps, stepwise)
        if not (pool_steps and self.reads_image):
            self.qkv = init_linear(nn.Linear(embed_dims, 3 * embed_dims))
        if global_tokens != 'position_aware':
            self.tokens = QueryingTokens(embed_dims, num_heads, token_size, token_mlp)
        elif token_size[0] * token_size[1]:
            self.tokens = PositionAwareTokens(embed_dims, token_size, token_mlp, alpha)
        self.q = init_linear(nn.Linear(embed_dims, embed_dims))
        self.kv = init_linear(nn.Linear(embed_dims, 2 * embed_dims))
        self.proj = init_linear(nn.Linear(embed_dims, embed_dims))

    def forward(self, x: Tensor, x_global: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        """Aggregate the image into the global tokens and broadcast these to the image.

        Args:
            x (Tensor): Normed image tokens ``(B, H*W, C)``.
            x_global (Tensor, optional): Normed global tokens ``(B, T, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Residuals of the image tokens ``(B, H*W, C)`` and of the global tokens
            ``(B, T, C)``.
        """
        local_tokens, update = self.aggregate(x, x_global, grid)
        broadcast = attend(*self.project(x, update), self.num_heads)
        return self.proj(local_tokens + broadcast), update

    def project(self, x: Tensor, update: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project the tokens for the broadcast: image to queries, global ones to keys and values.

        Args:
            x (Tensor): Normed image tokens ``(B, H*W, C)``.
            update (Tensor): Updated global tokens ``(B, T, C)``.

        Returns:
            tuple: ``(B, H*W, C)``, ``(B, T, C)`` and ``(B, T, C)``, heads not yet split.
        """
        q = self.q(x)
        k, v = self.kv(update).chunk(2, dim=-1)
        return q, k, v

    def aggregate(self, x: Tensor, x_global: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        """Encode the image locally and update the global tokens with it.

        Args:
            x (Tensor): Normed image tokens ``(B, H*W, C)``.
            x_global (Tensor, optional): Normed global tokens ``(B, T, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Local tokens ``(B, H*W, C)`` and updated global tokens ``(B, T, C)``.
        """
        encoded = x if self.local is None else self.local(x, grid)
        pooled, pooled_grid = (encoded, grid) if self.pool is None else self.pool(encoded, grid)
        aggregated = pooled
        if self.qkv is not None:
            q, k, v = self.qkv(pooled).chunk(3, dim=-1)
            aggregated = attend(q, k, v, self.num_heads)
        local_tokens = aggregated if self.local is None else encoded
        if self.tokens is None:
            return local_tokens, aggregated
        if self.reads_image:
            return local_tokens, self.tokens(x_global, x, grid)
        return local_tokens, self.tokens(x_global, aggregated, pooled_grid)


class ConvEncoder(BaseModule):
    """Convolutional local encoder, a ConvNeXt block: ``x + gamma * MLP(LN(depthwise conv(x)))``.

    Args:
        embed_dims (int): Width C of the tokens.
        kernel_size (int): Side of the depthwise kernel.
        layer_scale_init (float): Initial value of ``gamma``.
    """

    def __init__(
        self, embed_dims: int, kernel_size: int = 7, layer_scale_init: float = 1e-6
    ) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(
            embed_dims, embed_dims, kernel_size, padding=kernel_size // 2, groups=embed_dims
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.fc1 = init_linear(nn.Linear(embed_dims, 4 * embed_dims))
        self.fc2 = init_linear(nn.Linear(4 * embed_dims, embed_dims))
        self.gamma = nn.Parameter(torch.full((embed_dims,), float(layer_scale_init)))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Encode tokens ``(B, H*W, C)`` on the grid ``(H, W)``."""
        local = self.norm(map_to_tokens(self.dwconv(tokens_to_map(x, grid))))
        return x + self.gamma * self.fc2(F.gelu(self.fc1(local)))


class AveragePooling(BaseModule):
    """Reduce a token grid by repeated 2x2 average pooling, sides rounded down.

    Sides that are shorter than ``2 ** steps`` are padded to it by their last tokens (our choice):
    one token is left.

    Args:
        embed_dims (int): Width C of the tokens.
        steps (int): Number of halvings.
        stepwise (bool): Apply a 3x3 convolution, LayerNorm and ReLU between two poolings; False
            pools once by ``2 ** steps``.
    """

    def __init__(self, embed_dims: int, steps: int, stepwise: bool = True) -> None:
        super().__init__()
        self.steps = steps
        self.kernel_size = 2 if stepwise else 2**steps
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for _ in range(steps - 1 if stepwise else 0):
            self.convs.append(nn.Conv2d(embed_dims, embed_dims, 3, padding=1, bias=False))
            self.norms.append(nn.LayerNorm(embed_dims))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """Pool the tokens.

        Args:
            x (Tensor): Tokens ``(B, H*W, C)``.
            grid (tuple[int, int]): ``(H, W)``.

        Returns:
            tuple: Tokens ``(B, H'*W', C)`` and the grid ``(H', W')``.
        """
        encoded, least = tokens_to_map(x, grid), 2**self.steps
        if grid[0] < least:
            encoded = F.pad(encoded, (0, 0, 0, least - grid[0]), mode='replicate')
        if grid[1] < least:
            encoded = F.pad(encoded, (0, least - grid[1], 0, 0), mode='replicate')
        pooled = F.avg_pool2d(encoded, self.kernel_size)
        for conv, norm in zip(self.convs, self.norms):
            tokens = F.relu(norm(map_to_tokens(conv(pooled))))
            pooled = F.avg_pool2d(tokens_to_map(tokens, pooled.shape[2:]), self.kernel_size)
        return map_to_tokens(pooled), (pooled.shape[2], pooled.shape[3])


class PositionAwareTokens(BaseModule):
    """Update each global token with the aggregated image at its position.

    ``alpha * MLP(x_global) + (1 - alpha) * A``, where ``A`` is resized bicubically to the grid of
    the tokens.

    Args:
        embed_dims (int): Width C of the tokens.
        token_size (tuple[int, int]): Grid of the global tokens.
        token_mlp (str, optional): See :func:`build_token_mlp`.
        alpha (float): Weight of the previous tokens.
    """

    def __init__(
        self, embed_dims: int, token_size: Grid, token_mlp: str | None, alpha: float
    ) -> None:
        super().__init__()
        self.token_size = token_size
        self.mlp = build_token_mlp(token_mlp, embed_dims, token_size)
        self.alpha = alpha

    def forward(self, x_global: Tensor, image: Tensor, grid: Grid) -> Tensor:
        """Update the global tokens.

        Args:
            x_global (Tensor): Global tokens ``(B, T, C)``.
            image (Tensor): Aggregated tokens ``(B, H*W, C)``.
            grid (tuple[int, int]): Their grid ``(H, W)``.

        Returns:
            Tensor: ``(B, T, C)``.
        """
        x_global = x_global if self.mlp is None else self.mlp(x_global, self.token_size)
        return self.alpha * x_global + (1 - self.alpha) * interpolate_tokens(
            image, grid, self.token_size
        )


class QueryingTokens(BaseModule):
    """Update global tokens without positions by cross-attention to the image (ablation, table 6).

    Args:
        embed_dims (int): Width C of the tokens.
        num_heads (int): Number of heads.
        token_size (tuple[int, int]): Number of global tokens, as a grid.
        token_mlp (str, optional): See :func:`build_token_mlp`; it comes before the query.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, token_size: Grid, token_mlp: str | None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.token_size = token_size
        self.mlp = build_token_mlp(token_mlp, embed_dims, token_size)
        self.q = init_linear(nn.Linear(embed_dims, embed_dims))
        self.kv = init_linear(nn.Linear(embed_dims, 2 * embed_dims))

    def forward(self, x_global: Tensor, image: Tensor, grid: Grid) -> Tensor:
        """Update the global tokens.

        Args:
            x_global (Tensor): Global tokens ``(B, T, C)``.
            image (Tensor): Image tokens ``(B, H*W, C)``.
            grid (tuple[int, int]): Not used.

        Returns:
            Tensor: ``(B, T, C)``.
        """
        x_global = x_global if self.mlp is None else self.mlp(x_global, self.token_size)
        k, v = self.kv(image).chunk(2, dim=-1)
        return attend(self.q(x_global), k, v, self.num_heads)


class MixMlp(BaseModule):
    """Linear layer over the channels, then one over the tokens, without activation.

    Args:
        embed_dims (int): Width C of the tokens.
        num_tokens (int): Number of tokens T.
    """

    def __init__(self, embed_dims: int, num_tokens: int) -> None:
        super().__init__()
        self.fc1 = init_linear(nn.Linear(embed_dims, embed_dims))
        self.fc2 = init_linear(nn.Linear(num_tokens, num_tokens))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Mix tokens ``(B, T, C)``; the grid is not used."""
        return self.fc2(self.fc1(x).transpose(1, 2)).transpose(1, 2).contiguous()


def build_token_mlp(kind: str | None, embed_dims: int, token_size: Grid) -> nn.Module | None:
    """Build the MLP of the global tokens.

    Args:
        kind (str, optional): ``'mix'`` for :class:`MixMlp`, ``'mlp'`` for Linear, GELU, Linear;
            None for no MLP.
        embed_dims (int): Width C of the tokens.
        token_size (tuple[int, int]): Grid of the tokens.
    """
    if kind == 'mix':
        return MixMlp(embed_dims, token_size[0] * token_size[1])
    return Mlp(embed_dims, embed_dims) if kind == 'mlp' else None


class DualTokenBlock(LightViTBlock):
    """Transformer block of image and global tokens: dual-token attention, then the gated MLP.

    Only the image tokens pass the MLP, and global tokens have a norm of their own.

    Args:
        embed_dims (int): Width C of image and global tokens.
        *args: See :class:`LightViTBlock`.
        **kwargs: See :class:`LightViTBlock`; other names are options of
            :class:`DualTokenAttention`.
    """

    attn: DualTokenAttention
    attention_type = DualTokenAttention
    gates_tokens = False

    def __init__(self, embed_dims: int, *args, **kwargs) -> None:
        super().__init__(embed_dims, *args, **kwargs)
        if self.attn.tokens is not None:
            self.token_norm = nn.LayerNorm(embed_dims, eps=self.norm1.eps)

    def norm_tokens(self, x_global: Tensor) -> Tensor:
        """Norm the global tokens before the attention."""
        return self.token_norm(x_global)

    def _run(self, x: Tensor, x_global: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor | None]:
        if x_global is not None:
            return super()._run(x, x_global, grid)
        attended, _ = self.attn(self.norm1(x), None, grid)
        x = x + self.drop_path(attended)
        return self.recompute('mlp', self._feed_forward, x, grid), None
