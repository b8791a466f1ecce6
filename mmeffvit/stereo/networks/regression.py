"""From logits of pairs of columns to disparity and occlusion."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ...ops import optimal_transport
from ...registry import MODELS, build_layer

#: Least mass that a disparity is divided by.
LEAST_MASS = 1e-6
#: Below this mass STTR divides by 1.
STTR_LEAST_MASS = 0.1


class StereoOutput(NamedTuple):
    """What a stereo network computes.

    Attributes:
        disparity (Tensor): ``(B, H, W)`` in pixels of the image.
        occlusion (Tensor): ``(B, H, W)``, probability that a left pixel is not visible on the
            right.
        raw_disparity (Tensor): ``(B, h, w)`` at the tokens, in pixels of the image, before
            up-sampling.
        assignment (Tensor): ``(B, h, w + 1, w + 1)`` of left and right columns, the bins of pixels
            without partner last.
    """

    disparity: Tensor
    occlusion: Tensor
    raw_disparity: Tensor
    assignment: Tensor


def sampled(size: int, stride: int) -> slice:
    """Rows or columns of an image that become tokens, every ``stride`` from the middle of one."""
    return slice(stride // 2, size, stride)


class _ResidualConv(nn.Module):
    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.module = nn.Sequential(
            weight_norm(nn.Conv2d(channels + 1, hidden, 3, padding=1)),
            nn.ReLU(inplace=True),
            weight_norm(nn.Conv2d(hidden, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor, disparity: Tensor) -> Tensor:
        return x + self.module(torch.cat([disparity, x], 1))


@MODELS.register_module()
class ContextAdjustment(BaseModule):
    """Refinement of disparity and occlusion by the left image.

    Disparity is standardised by its mean and deviation over the image (STTR: over the batch, which
    is the same for batches of one).

    Args:
        num_blocks (int): Residual blocks.
        channels (int): Their channels.
        expansion (int): Channels inside a block over that.

    Source: section 3.4 of the STTR paper.
    """

    def __init__(self, num_blocks: int = 8, channels: int = 16, expansion: int = 4) -> None:
        super().__init__()
        self.in_conv = nn.Conv2d(4, channels, 3, padding=1)
        self.layers = nn.ModuleList(_ResidualConv(channels, expansion) for _ in range(num_blocks))
        self.out_conv = nn.Conv2d(channels, 1, 3, padding=1)
        self.occ_head = nn.Sequential(
            weight_norm(nn.Conv2d(4, channels, 3, padding=1)),
            weight_norm(nn.Conv2d(channels, channels, 3, padding=1)),
            nn.ReLU(inplace=True),
            weight_norm(nn.Conv2d(channels, channels, 3, padding=1)),
            weight_norm(nn.Conv2d(channels, channels, 3, padding=1)),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, disparity: Tensor, occlusion: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Refine.

        Args:
            disparity (Tensor): ``(B, H, W)``.
            occlusion (Tensor): ``(B, H, W)``.
            left (Tensor): Left image ``(B, 3, H, W)``.

        Returns:
            tuple: Both, refined.
        """
        disparity, occlusion = disparity.unsqueeze(1), occlusion.unsqueeze(1)
        deviation, mean = torch.std_mean(disparity, (1, 2, 3), keepdim=True)
        # An image of one disparity has no deviation.
        deviation = deviation.clamp(min=1e-6)
        disparity = (disparity - mean) / deviation
        x = self.in_conv(torch.cat([disparity, left], 1))
        for layer in self.layers:
            x = layer(x, disparity)
        disparity = (disparity + self.out_conv(x)) * deviation + mean
        occlusion = self.occ_head(torch.cat([(occlusion - 0.5) / 0.5, left], 1))
        return disparity.squeeze(1), occlusion.squeeze(1)


@MODELS.register_module()
class DisparityRegression(BaseModule):
    """Disparity and occlusion of the logits of all pairs of columns.

    Args:
        matching (str): ``'transport'``, optimal transport with a bin for occluded pixels, or
            ``'softmax'`` over the right columns and the bin.
        iterations (int): Sinkhorn iterations.
        context (dict | None): Config of the :class:`ContextAdjustment`; None for none.
        compatible (bool): STTR's guard against dividing by zero: a mass below 0.1 becomes 1 (with
            ground truth, at occluded pixels), also where it tells occlusion, so that pixels with
            hardly any match count as visible. By default the divisor alone is kept from zero, and
            ground truth is never read.

    Raises:
        ValueError: If ``matching`` is none of these.

    Source: sections 3.3 and 3.4 of the STTR paper; the guard is of its code.
    """

    def __init__(
        self,
        matching: str = 'transport',
        iterations: int = 10,
        context: dict | None = None,
        compatible: bool = False,
    ) -> None:
        super().__init__()
        if matching not in ('transport', 'softmax'):
            raise ValueError(f"matching={matching!r} must be 'transport' or 'softmax'.")
        self.matching = matching
        self.iterations = iterations
        self.compatible = compatible
        self.phi = nn.Parameter(torch.tensor(0.0))
        self.cal = None if context is None else build_layer(dict(context))

    def forward(
        self, logits: Tensor, left: Tensor, stride: int, occluded: Tensor | None = None
    ) -> StereoOutput:
        """Regress disparity and occlusion.

        Args:
            logits (Tensor): ``(B, h, w, w)`` of left and right columns.
            left (Tensor): Left image ``(B, 3, H, W)``.
            stride (int): Pixels between sampled rows and columns; 1 for all.
            occluded (Tensor, optional): True occlusion ``(B, h, w)`` at the tokens; read only with
                ``compatible``.

        Returns:
            StereoOutput: Disparity, occlusion and what they are made from.
        """
        H, W = left.shape[-2:]
        spacing = W / logits.shape[-1]
        assignment = self.assign(logits)
        columns, mass = self.disparity(assignment[..., :-1, :-1], occluded)
        raw = columns * spacing
        occlusion = 1 - mass
        disparity = raw
        if stride > 1:
            disparity, occlusion = (
                F.interpolate(x.unsqueeze(1), size=(H, W), mode='nearest').squeeze(1)
                for x in (raw, occlusion)
            )
        if self.cal is not None:
            disparity, occlusion = self.cal(disparity, occlusion, left)
        return StereoOutput(disparity, occlusion, raw, assignment)

    def assign(self, logits: Tensor) -> Tensor:
        """Assignment ``(B, h, w + 1, w + 1)`` of logits ``(B, h, w, w)``; rows sum to 1."""
        if self.matching == 'transport':
            return optimal_transport(logits, self.phi, self.iterations, rows_first=False).exp()
        B, h, w, _ = logits.shape
        phi = self.phi.to(logits)
        rows = torch.cat([logits, phi.expand(B, h, w, 1)], -1)
        return torch.cat([rows, phi.expand(B, h, 1, w + 1)], -2).softmax(-1)

    def disparity(
        self, assignment: Tensor, occluded: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Disparity in columns around the best match, and the mass that it has.

        Args:
            assignment (Tensor): ``(B, h, w, w)`` without bins.
            occluded (Tensor, optional): True occlusion ``(B, h, w)``.

        Returns:
            tuple: Both ``(B, h, w)``.
        """
        w = assignment.shape[-1]
        best = assignment.argmax(-1, keepdim=True)
        near = best + torch.arange(-1, 2, device=best.device)
        inside = (near >= 0) & (near < w)
        weights = assignment.gather(-1, near.clamp(0, w - 1)) * inside
        mass = weights.sum(-1)
        here = torch.arange(w, device=best.device).view(w, 1)
        shift = (here - near).clamp(min=0)
        if self.compatible:
            replaced = mass < STTR_LEAST_MASS if occluded is None else occluded
            mass = mass.masked_fill(replaced, 1.0)
            divisor = mass
        else:
            divisor = mass.clamp(min=LEAST_MASS)
        return (weights / divisor.unsqueeze(-1) * shift).sum(-1), mass


def true_response(assignment: Tensor, disparity: Tensor, stride: int) -> Tensor:
    """Assignment of every left token to where its true match is, linear between two columns.

    Args:
        assignment (Tensor): ``(B, h, w + 1, w + 1)``.
        disparity (Tensor): True disparity ``(B, H, W)`` in pixels.
        stride (int): Pixels between sampled rows and columns.

    Returns:
        Tensor: ``(B, h, w)``.
    """
    H, W = disparity.shape[-2:]
    at_tokens = disparity[:, sampled(H, stride), sampled(W, stride)]
    w = at_tokens.shape[-1]
    here = torch.arange(W, device=disparity.device)[sampled(W, stride)]
    place = (here - at_tokens) / (W / w)
    lower = place.floor()
    share = (place - lower).unsqueeze(-1)
    columns = torch.stack([lower, place.ceil()], -1).long().clamp(0, w - 1)
    ends = assignment[..., :-1, :-1].gather(-1, columns)
    return torch.lerp(ends[..., :1], ends[..., 1:], share).squeeze(-1)
