"""Published datasets of rectified pairs in their layouts."""

from __future__ import annotations

from pathlib import Path

from mmengine.dataset import BaseDataset

from ...registry import DATASETS
from ...utils.images import number_order


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None


def _found(samples: list[dict], folder: Path, wanted: str) -> list[dict]:
    """The samples, which must not be none.

    Raises:
        ValueError: If there is none.
    """
    if not samples:
        raise ValueError(f'{folder} holds no {wanted}; set data_root to the folder of the dataset.')
    return samples


@DATASETS.register_module()
class FlyingThings3D(BaseDataset):
    """The FlyingThings3D subset of Scene Flow, with its masks of occlusion.

    ``frame_finalpass/{TRAIN,TEST}/{A,B,C}/<sequence>/{left,right}/*.png``, ``disparity`` likewise
    as ``.pfm``, and ``occlusion/{TRAIN,TEST}/{left,right}/*.png`` numbered in the order of the
    frames, or in the tree of the frames.

    Args:
        data_root (str): Root folder.
        split (str): ``'TRAIN'`` or ``'TEST'``.
        **kwargs: See mmengine's ``BaseDataset``.

    Source: Mayer et al., "A Large Dataset to Train Convolutional Networks for Disparity, Optical
    Flow, and Scene Flow Estimation" (CVPR 2016).
    """

    def __init__(self, data_root: str, split: str = 'TRAIN', **kwargs) -> None:
        self.split = split
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the paths of images, disparities and masks."""
        root = Path(self.data_root or '')
        frames = root / 'frame_finalpass' / self.split
        samples = []
        lefts = sorted(frames.glob('*/*/left/*.png'), key=number_order)
        for index, left in enumerate(lefts):
            place = left.relative_to(frames)
            sample: dict = dict(left_path=str(left))
            for side, suffix in (('left', ''), ('right', '_right')):
                parts = place.parts[:2]
                own = Path(*parts, side, place.name)
                sample[f'{side}_path'] = str(frames / own)
                disparity = root / 'disparity' / self.split / own.with_suffix('.pfm')
                sample[f'disparity{suffix}_path'] = _existing(disparity)
                masks = root / 'occlusion' / self.split
                sample[f'occlusion{suffix}_path'] = _existing(masks / own) or _existing(
                    masks / side / f'{index:07d}.png'
                )
            samples.append(sample)
        return _found(samples, frames, 'frames */*/left/*.png')


@DATASETS.register_module()
class KittiStereo(BaseDataset):
    """KITTI 2012 or 2015: first frames of both cameras and the disparity of all pixels.

    ``image_2``, ``image_3``, ``disp_occ_0`` (2015) or ``colored_0``, ``colored_1``, ``disp_occ``
    (2012), files ``*_10.png``.

    Args:
        data_root (str): Such as ``data/kitti2015/training``.
        part (tuple[float, float]): Shares of the sorted pairs where this split begins and ends,
            such as ``(0, 0.95)``.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    LAYOUTS = (('image_2', 'image_3', 'disp_occ_0'), ('colored_0', 'colored_1', 'disp_occ'))

    def __init__(self, data_root: str, part: tuple[float, float] = (0.0, 1.0), **kwargs) -> None:
        self.part = tuple(part)
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the paths of images and disparities."""
        root = Path(self.data_root or '')
        samples = []
        for left, right, disparity in self.LAYOUTS:
            for path in sorted((root / left).glob('*_10.png')):
                samples.append(
                    dict(
                        left_path=str(path),
                        right_path=str(root / right / path.name),
                        disparity_path=_existing(root / disparity / path.name),
                    )
                )
        _found(samples, root, 'image_2/*_10.png or colored_0/*_10.png')
        first, last = (round(share * len(samples)) for share in self.part)
        return samples[first:last]


@DATASETS.register_module()
class MiddleburyStereo(BaseDataset):
    """Middlebury 2014: one folder per scene with ``im0``, ``im1``, ``disp0GT.pfm`` and its mask.

    In ``mask0nocc.png`` 128 means occluded: ``LoadStereo(occlusion_values=(128,))``.

    Args:
        data_root (str): Such as ``data/MiddEval3/trainingQ``.
        **kwargs: See mmengine's ``BaseDataset``.

    Source: Scharstein et al., "High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth"
    (GCPR 2014).
    """

    def load_data_list(self) -> list[dict]:
        """List the paths of images, disparities and masks."""
        root = Path(self.data_root or '')
        samples = []
        for left in sorted(root.glob('*/im0.png')):
            folder = left.parent
            samples.append(
                dict(
                    left_path=str(left),
                    right_path=str(folder / 'im1.png'),
                    disparity_path=_existing(folder / 'disp0GT.pfm'),
                    disparity_right_path=_existing(folder / 'disp1GT.pfm'),
                    occlusion_path=_existing(folder / 'mask0nocc.png'),
                )
            )
        return _found(samples, root, 'scenes */im0.png')
