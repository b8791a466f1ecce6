from __future__ import annotations

from mmengine.structures import BaseDataElement
from torch import Tensor


class StereoSample(BaseDataElement):
    """Ground truth and prediction of one rectified pair.

    Disparity is in pixels: the point ``(x, y)`` of the left image is at ``(x - d, y)`` on the
    right.

    Attributes:
        gt_disparity (Tensor): ``(H, W)`` of the left image; 0 where it is not known or occluded.
        gt_occlusion (Tensor): Boolean ``(H, W)``, left pixels that are not visible on the right.
        gt_occlusion_right (Tensor): The same of the right image; all False if not known.
        disparity (Tensor): Predicted, ``(H, W)``.
        occlusion (Tensor): Predicted probability, ``(H, W)``.
    """

    gt_disparity: Tensor
    gt_occlusion: Tensor
    gt_occlusion_right: Tensor
    disparity: Tensor
    occlusion: Tensor
