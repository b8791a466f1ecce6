from __future__ import annotations

from mmengine.structures import BaseDataElement
from torch import Tensor


class PairSample(BaseDataElement):
    """Ground truth and prediction of one pair of images.

    Points are ``(x, y)`` in pixels of the original images. What maps image 0 to image 1 is either
    ``homography`` or both depth maps, intrinsics and the relative pose.

    Metainfo: ``scale0`` and ``scale1``, original pixels per network pixel ``(sx, sy)``, 1 if
    absent.

    Attributes:
        homography (Tensor): ``(3, 3)`` from image 0 to image 1.
        depth0 (Tensor): ``(H, W)`` of image 0; 0 where it is not known.
        depth1 (Tensor): That of image 1.
        intrinsics0 (Tensor): ``(3, 3)`` of image 0.
        intrinsics1 (Tensor): Those of image 1.
        pose (Tensor): ``(4, 4)`` from the coordinates of camera 0 to those of camera 1.
        points0 (Tensor): Predicted, ``(M, 2)`` in image 0.
        points1 (Tensor): Predicted, ``(M, 2)`` in image 1.
        confidence (Tensor): Predicted, ``(M,)``.
    """

    homography: Tensor
    depth0: Tensor
    depth1: Tensor
    intrinsics0: Tensor
    intrinsics1: Tensor
    pose: Tensor
    points0: Tensor
    points1: Tensor
    confidence: Tensor

    def scale(self, image: int) -> tuple[float, float]:
        """Original pixels per network pixel ``(sx, sy)`` of image 0 or 1."""
        return self.get(f'scale{image}', (1.0, 1.0))
