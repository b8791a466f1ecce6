from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from ...layers import LinearAttention, QuadTreeAttention
from ...ops import best_of_matrix, map_to_tokens, sine_position_table
from ...ops.layout import Grid
from ...registry import MODELS, build_layer
from ..data.structures import PairSample
from ..networks.coarse import CellMatches, DualSoftmax
from ..networks.fine import FineMatching
from ..networks.resnet_fpn import ResNetFPN, pad_to_multiple
from ..networks.transformer import CrossBlock, LoFTRBlock, MatchingTransformer
from .losses import CoarseMatchingLoss, FineMatchingLoss
from .supervision import fine_targets, supervise, training_matches


class PairFeatures(NamedTuple):
    """What the two images of a batch of pairs are matched by.

    Attributes:
        coarse0 (Tensor): Tokens ``(B, N, C)`` of image 0, after the transformer.
        coarse1 (Tensor): Tokens ``(B, M, C)`` of image 1.
        fine0 (Tensor): Fine map ``(B, C', H, W)`` of image 0.
        fine1 (Tensor): Fine map of image 1.
        grid0 (tuple[int, int]): Grid of the tokens of image 0.
        grid1 (tuple[int, int]): Grid of the tokens of image 1.
        mask0 (Tensor, optional): Boolean ``(B, N)``, False outside of image 0.
        mask1 (Tensor, optional): Boolean ``(B, M)``.
    """

    coarse0: Tensor
    coarse1: Tensor
    fine0: Tensor
    fine1: Tensor
    grid0: Grid
    grid1: Grid
    mask0: Tensor | None
    mask1: Tensor | None


class PairMatches(NamedTuple):
    """Matches of a batch of pairs, in network pixels.

    Attributes:
        cells (CellMatches): Matched cells.
        points0 (Tensor): ``(M, 2)`` in image 0, on the cells.
        points1 (Tensor): ``(M, 2)`` in image 1, refined.
        expectation (Tensor): ``(M, 3)``, what the fine stage returned.
    """

    cells: CellMatches
    points0: Tensor
    points1: Tensor
    expectation: Tensor


@MODELS.register_module()
class PairPreprocessor(BaseDataPreprocessor):
    """Move pairs of images to the device and pad each side of the batch to one size.

    Images are padded with zeros at the bottom and right to multiples of ``multiple``. Where images
    of one side differ in size, masks tell which cells are of the image.

    Args:
        multiple (int): Pixels per cell of the masks.
    """

    def __init__(self, multiple: int = 8, **kwargs) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs`` with lists ``image0`` and ``image1`` of ``(C, H, W)`` in [0, 1],
                perhaps lists ``mask0`` and ``mask1``, boolean ``(H, W)``, False where there is
                nothing to match; and ``data_samples``.
            training (bool): Not used.

        Returns:
            dict: ``inputs`` with batches ``image0`` and ``image1`` ``(B, C, H, W)`` and cell masks
            ``mask0`` and ``mask1`` ``(B, H / 8, W / 8)``, None if all is to be matched; and
            ``data_samples``.
        """
        data = cast(dict, self.cast_data(data))
        inputs = dict(data['inputs'])
        for side in '01':
            batch, mask = self._stack(inputs[f'image{side}'], inputs.get(f'mask{side}'))
            inputs[f'image{side}'], inputs[f'mask{side}'] = batch, mask
        return dict(inputs=inputs, data_samples=data.get('data_samples'))

    def _stack(
        self, images: Sequence[Tensor], masks: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor | None]:
        cells = [[-(-side // self.multiple) for side in image.shape[-2:]] for image in images]
        H, W = (max(sides) for sides in zip(*cells))
        batch = images[0].new_zeros(
            len(images), images[0].shape[0], H * self.multiple, W * self.multiple
        )
        for target, image in zip(batch, images):
            target[:, : image.shape[1], : image.shape[2]] = image
        if masks is None and all(sides == [H, W] for sides in cells):
            return batch, None
        cell_masks = torch.zeros(len(images), H, W, dtype=torch.bool, device=batch.device)
        for index, (h, w) in enumerate(cells):
            visible = True if masks is None else masks[index][:: self.multiple, :: self.multiple]
            cell_masks[index, :h, :w] = visible
        return batch, cell_masks


def _parts(
    widths: Sequence[int], attention: dict, block: type[nn.Module] = CrossBlock, **matching
) -> dict[str, dict]:
    """Parts of a matcher of LoFTR's shape with these channels at strides 2, 4 and 8."""
    return dict(
        backbone=dict(type=ResNetFPN, initial_dims=widths[0], block_dims=tuple(widths)),
        transformer=dict(
            type=MatchingTransformer, num_heads=8, attention=attention, block=dict(type=block)
        ),
        coarse=dict(type=DualSoftmax, **matching),
    )


def quadtree_cross_attention(topks: Sequence[int], **options) -> dict:
    """Config of QuadTree attention as the authors' matcher has it, kind B over three levels."""
    return dict(
        type=QuadTreeAttention,
        levels=3,
        topks=tuple(topks),
        lepe=False,
        value_branch=False,
        **options,
    )


_WIDTHS = dict(full=(128, 196, 256), lite=(64, 98, 128))
_LINEAR = dict(type=LinearAttention)


@MODELS.register_module()
class FeatureMatcher(BaseModel):
    """Detector-free matcher of two images: QuadTree's, LoFTR, or another by its parts.

    A backbone gives coarse and fine maps of both images, a transformer relates the coarse ones,
    coarse matching selects pairs of cells, and fine matching refines the point in the second image.
    Images have any size, and the two of a pair may differ.

    Args:
        backbone (dict): Features, a :class:`ResNetFPN`.
        transformer (dict): A :class:`MatchingTransformer`, whose width is the backbone's.
        coarse (dict): :class:`DualSoftmax` or :class:`OptimalTransport`.
        fine (dict, optional): Options of :class:`FineMatching`.
        historical_position (bool): The position table of LoFTR's first released weights.
        mask_padding (bool): Whether cells outside of an image are hidden from the transformer. The
            authors' released QuadTree weights saw them; False gives their numbers.
        coarse_loss (dict, optional): :class:`CoarseMatchingLoss` by default.
        fine_loss (dict, optional): :class:`FineMatchingLoss` by default.
        train_cfg (dict, optional): ``fine_share``, the matches that the fine stage learns from over
            the cells; 0.2 indoors, 0.3 outdoors.
        test_cfg (dict, optional): ``max_matches``, the most confident matches that are returned.
        data_preprocessor (dict, optional): :class:`PairPreprocessor` by default.
        init_cfg (dict, optional): mmengine initialisation.

    Source: Tang et al., "QuadTree Attention for Vision Transformers" (ICLR 2022), section 4.1; Sun
    et al., "LoFTR" (CVPR 2021).
    """

    image_names = ('image0', 'image1')
    image_channels = 1
    zoo: ClassVar[dict[str, dict]] = {
        'quadtree_matcher_indoor': _parts(_WIDTHS['full'], quadtree_cross_attention((32, 16, 16))),
        'quadtree_matcher_outdoor': _parts(_WIDTHS['full'], quadtree_cross_attention((16, 8, 8))),
        'quadtree_matcher_lite': _parts(_WIDTHS['lite'], quadtree_cross_attention((16, 8, 8))),
        'loftr_indoor': _parts(_WIDTHS['full'], _LINEAR, LoFTRBlock),
        'loftr_outdoor': _parts(_WIDTHS['full'], _LINEAR, LoFTRBlock),
    }

    def __init__(
        self,
        backbone: dict,
        transformer: dict,
        coarse: dict,
        fine: dict | None = None,
        historical_position: bool = False,
        mask_padding: bool = True,
        coarse_loss: dict | None = None,
        fine_loss: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = build_layer(data_preprocessor or dict(type=PairPreprocessor))
        super().__init__(preprocessor, init_cfg)
        self.backbone: Any = build_layer(backbone)
        coarse_dims, fine_dims = self.backbone.out_channels
        self.stride, self.fine_stride = self.backbone.out_strides
        self.transformer: Any = build_layer(transformer, embed_dims=coarse_dims)
        self.coarse: Any = build_layer(coarse)
        self.fine: Any = build_layer(
            {'type': FineMatching, **(fine or {})}, coarse_dims=coarse_dims, fine_dims=fine_dims
        )
        self.historical_position = historical_position
        self.mask_padding = mask_padding
        self.coarse_loss = build_layer(coarse_loss or dict(type=CoarseMatchingLoss))
        self.fine_loss = build_layer(fine_loss or dict(type=FineMatchingLoss))
        self.train_cfg = dict(dict(fine_share=0.2), **(train_cfg or {}))
        self.test_cfg = dict(test_cfg or {})

    def forward(
        self,
        inputs: dict[str, Any],
        data_samples: Sequence[PairSample] | None = None,
        mode: str = 'tensor',
    ) -> tuple[Tensor, ...] | dict[str, Tensor] | list[PairSample]:
        """Run the model the mmengine way.

        Args:
            inputs (dict): ``image0`` and ``image1`` ``(B, C, H, W)``, perhaps boolean cell masks
                ``mask0`` and ``mask1`` ``(B, H / 8, W / 8)``.
            data_samples (Sequence[PairSample], optional): Ground truth, for ``'loss'``.
            mode (str): ``'tensor'`` the coarse tokens and fine maps of both images, ``'loss'`` a
                dict of losses, ``'predict'`` the samples with points and confidence.

        Raises:
            ValueError: If the mode is none of these.
        """
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        features = self.extract(**inputs)
        if mode == 'tensor':
            return features[:4]
        if mode == 'loss':
            return self.loss(features, data_samples or ())
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'.")

    def extract(
        self,
        image0: Tensor,
        image1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> PairFeatures:
        """Compute what two images are matched by.

        Args:
            image0 (Tensor): ``(B, C, H, W)`` in [0, 1], of any size.
            image1 (Tensor): ``(B, C, H', W')``.
            mask0 (Tensor, optional): Boolean ``(B, H / 8, W / 8)``, False outside of the image.
            mask1 (Tensor, optional): That of image 1.

        Returns:
            PairFeatures: Tokens and maps.
        """
        image0, image1 = (pad_to_multiple(image, self.stride) for image in (image0, image1))
        if image0.shape == image1.shape:  # together, for the statistics of batch norm
            coarse, fine = self.backbone(torch.cat([image0, image1]))
            (map0, map1), (fine0, fine1) = coarse.chunk(2), fine.chunk(2)
        else:
            (map0, fine0), (map1, fine1) = self.backbone(image0), self.backbone(image1)
        grid0, grid1 = (tuple(feature_map.shape[-2:]) for feature_map in (map0, map1))
        x, y = (self._tokens(feature_map) for feature_map in (map0, map1))
        masks = [None if mask is None else mask.flatten(1) for mask in (mask0, mask1)]
        hidden = masks if self.mask_padding else (None, None)
        x, y = (
            tokens if mask is None else tokens * mask.unsqueeze(-1)
            for tokens, mask in zip((x, y), hidden)
        )
        x, y = self.transformer(x, y, grid0, grid1, *hidden)
        return PairFeatures(x, y, fine0, fine1, grid0, grid1, *masks)

    def _tokens(self, feature_map: Tensor) -> Tensor:
        tokens = map_to_tokens(feature_map)
        grid = tuple(feature_map.shape[-2:])
        return tokens + sine_position_table(grid, tokens, self.historical_position)

    def confidence(self, features: PairFeatures) -> Tensor:
        """Confidence ``(B, N, M)`` of all pairs of cells, in float32."""
        return self.coarse.confidence(
            features.coarse0, features.coarse1, features.mask0, features.mask1
        )

    def select(self, features: PairFeatures) -> CellMatches:
        """Select matched cells, in memory linear in the cells with :class:`DualSoftmax`."""
        masks = features.mask0, features.mask1
        best = self.coarse.best(features.coarse0, features.coarse1, *masks)
        return self.coarse.select(best, features.grid0, features.grid1, *masks)

    def refine(self, features: PairFeatures, cells: CellMatches) -> PairMatches:
        """Find the points of matched cells, in network pixels."""
        expectation = self.fine(
            features.fine0,
            features.fine1,
            features.coarse0,
            features.coarse1,
            cells.pair,
            cells.cell0,
            cells.cell1,
            features.grid0,
            features.grid1,
        )
        points0, points1 = (
            self.stride * torch.stack([cell % grid[1], cell // grid[1]], 1).to(expectation)
            for cell, grid in ((cells.cell0, features.grid0), (cells.cell1, features.grid1))
        )
        points1 = points1 + expectation[:, :2] * self.half_window
        return PairMatches(cells, points0, points1, expectation)

    @property
    def half_window(self) -> int:
        """Half a window of the fine stage in network pixels."""
        return self.fine.window // 2 * self.fine_stride

    def match(
        self,
        image0: Tensor,
        image1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> PairMatches:
        """Match batches of images; arguments of :meth:`extract`."""
        features = self.extract(image0, image1, mask0, mask1)
        return self.refine(features, self.select(features))

    @torch.no_grad()
    def predict(
        self, inputs: dict[str, Any], data_samples: Sequence[PairSample] | None = None
    ) -> list[PairSample]:
        """Match every pair, in original pixels; see :meth:`forward`."""
        matches = self.match(**inputs)
        if data_samples is None:
            data_samples = [PairSample() for _ in inputs['image0']]
        most = self.test_cfg.get('max_matches')
        for index, sample in enumerate(data_samples):
            own = (matches.cells.pair == index).nonzero().squeeze(1)
            confidence = matches.cells.confidence[own]
            if most is not None and len(own) > most:
                confidence, best = confidence.topk(most)
                own = own[best]
            for side, points in enumerate((matches.points0, matches.points1)):
                scale = points.new_tensor(sample.scale(side))
                sample.set_field(points[own] * scale, f'points{side}')
            sample.confidence = confidence
        return list(data_samples)

    def loss(self, features: PairFeatures, data_samples: Sequence[PairSample]) -> dict[str, Tensor]:
        """Losses of both stages.

        Args:
            features (PairFeatures): Tokens and maps.
            data_samples (Sequence[PairSample]): A homography, or depth and pose, of every pair.

        Returns:
            dict: ``loss_coarse`` and ``loss_fine``.
        """
        x, y, mask0, mask1 = features.coarse0, features.coarse1, features.mask0, features.mask1
        truth = supervise(
            data_samples, features.grid0, features.grid1, self.stride, mask0, mask1, x.device
        )
        log_assignment = self.coarse.log_assignment(x, y, mask0, mask1)
        if log_assignment is None:
            assignment, confidence = None, self.coarse.confidence(x, y, mask0, mask1)
        else:
            assignment = log_assignment.exp()
            confidence = assignment[:, :-1, :-1]
        weight = None
        if mask0 is not None or mask1 is not None:
            rows, columns = (
                x.new_ones(tokens.shape[:2]) if mask is None else mask.to(confidence)
                for tokens, mask in ((x, mask0), (y, mask1))
            )
            weight = rows.unsqueeze(2) * columns.unsqueeze(1)
        loss_coarse = self.coarse_loss(confidence, truth.matches, weight, assignment)

        cells = self._fine_cells(features, confidence.detach(), truth.matches)
        expectation = self.refine(features, cells).expectation
        scales = expectation.new_tensor([sample.scale(1) for sample in data_samples])
        targets = fine_targets(truth, cells, self.half_window * scales)
        loss_fine = self.fine_loss(expectation, targets.to(expectation))
        return dict(loss_coarse=loss_coarse, loss_fine=loss_fine)

    def _fine_cells(
        self, features: PairFeatures, confidence: Tensor, true: CellMatches
    ) -> CellMatches:
        """Matches that the fine stage learns from."""
        masks = features.mask0, features.mask1
        best = best_of_matrix(confidence)
        predicted = self.coarse.select(best, features.grid0, features.grid1, *masks)
        counts = [
            len(tokens) * tokens.shape[1] if mask is None else int(mask.sum())
            for tokens, mask in zip(features[:2], masks)
        ]
        return training_matches(predicted, true, max(counts), self.train_cfg['fine_share'])
