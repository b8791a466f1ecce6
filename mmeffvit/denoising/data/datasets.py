from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from ...registry import DATASETS
from ...utils.images import list_images, number_order

#: 30 DAVIS test sequences are read up to this frame, as the published evaluations do.
DAVIS_MAX_FRAMES = 85


def match_pairs(noisy: Path, clean: Path) -> list[tuple[Path, Path]]:
    """Pair the images of two folders by relative path, whatever their suffixes.

    Raises:
        ValueError: If a folder holds no image or an image has no partner.
    """
    found = []
    for folder in (noisy, clean):
        images = {path.relative_to(folder).with_suffix(''): path for path in list_images(folder)}
        if not images:
            raise ValueError(f'{folder} holds no image; set data_root and data_prefix.')
        found.append(images)
    unpaired = sorted(found[0].keys() ^ found[1].keys())
    if unpaired:
        raise ValueError(
            f'{unpaired[0]} is in only one of {noisy} and {clean} ({len(unpaired)} such images); '
            'pairs need the same relative path.'
        )
    return [(found[0][key], found[1][key]) for key in sorted(found[0])]


def sidd_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Noisy and clean image of every scene instance of SIDD-Medium's published layout.

    Args:
        folder (Path): ``SIDD_Medium_Srgb/Data``, one folder per scene instance with files such as
            ``0001_NOISY_SRGB_010.PNG`` and ``0001_GT_SRGB_010.PNG``.

    Raises:
        ValueError: If there is no pair, or an image has no partner.
    """
    noisy = [path for path in list_images(folder) if 'NOISY' in path.name]
    if not noisy:
        raise ValueError(f'{folder} holds no *NOISY* image; give the Data folder of SIDD-Medium.')
    pairs = [(path, path.with_name(path.name.replace('NOISY', 'GT'))) for path in noisy]
    unpaired = next((path for path, clean in pairs if not clean.is_file()), None)
    if unpaired is not None:
        raise ValueError(f'{unpaired} has no clean partner (GT in place of NOISY).')
    return pairs


@DATASETS.register_module()
class RestorationFolder(BaseDataset):
    """Folders of images: noisy and clean pairs, or clean ones that the pipeline adds noise to.

    Args:
        data_root (str): Root folder.
        data_prefix (dict): ``clean`` and, for pairs, ``noisy``: folders below the root, searched
            with their subfolders. Pairs have the same relative path, whatever their suffixes.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def load_data_list(self) -> list[dict]:
        """List ``clean_path`` and, for pairs, ``noisy_path``."""
        clean = Path(self.data_prefix['clean'])
        if 'noisy' in self.data_prefix:
            pairs = match_pairs(Path(self.data_prefix['noisy']), clean)
            return [dict(noisy_path=str(noisy), clean_path=str(c)) for noisy, c in pairs]
        images = list_images(clean)
        if not images:
            raise ValueError(f'{clean} holds no image; set data_root and data_prefix.')
        return [dict(clean_path=str(path)) for path in images]


@DATASETS.register_module()
class SIDDMedium(BaseDataset):
    """Whole images of SIDD-Medium in its published layout; the pipeline crops them.

    Decoding a photo for one crop is slow: ``tools/dataset_converters/crop_sidd.py`` cuts the
    patches once, for :class:`RestorationFolder`.

    Args:
        data_root (str): The folder ``SIDD_Medium_Srgb/Data``.
        **kwargs: See mmengine's ``BaseDataset``.

    Source: Abdelhamed et al., "A High-Quality Denoising Dataset for Smartphone Cameras" (CVPR
    2018).
    """

    def load_data_list(self) -> list[dict]:
        """List ``noisy_path`` and ``clean_path``."""
        return [
            dict(noisy_path=str(noisy), clean_path=str(clean))
            for noisy, clean in sidd_pairs(Path(self.data_root or ''))
        ]


@DATASETS.register_module()
class SIDDBlocks(BaseDataset):
    """The 1280 validation blocks of SIDD in its ``.mat`` files.

    Each file holds one uint8 array ``(40, 32, 256, 256, 3)``: images, blocks, rows, columns, RGB.

    Args:
        data_root (str): Folder of the files.
        data_prefix (dict): Their names, ``noisy`` and ``clean``.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: dict | None = None,
        **kwargs,
    ) -> None:
        files = dict(noisy='ValidationNoisyBlocksSrgb.mat', clean='ValidationGtBlocksSrgb.mat')
        super().__init__(data_root=data_root, data_prefix=data_prefix or files, **kwargs)

    @cached_property
    def blocks(self) -> dict[str, np.ndarray]:
        """Both arrays, read when the first block is asked for."""
        arrays = {name: read_blocks(Path(path)) for name, path in self.data_prefix.items()}
        if arrays['noisy'].shape != arrays['clean'].shape:
            raise ValueError(
                f'The noisy blocks are {arrays["noisy"].shape}, the clean ones '
                f'{arrays["clean"].shape}; they must be the same blocks.'
            )
        return arrays

    def load_data_list(self) -> list[dict]:
        """List the blocks as ``image`` and ``block``, counted from 0."""
        images, blocks = self.blocks['noisy'].shape[:2]
        return [dict(image=i, block=b) for i in range(images) for b in range(blocks)]

    def get_data_info(self, idx: int) -> dict:
        """The block's arrays ``noisy`` and ``clean``, beside its indices."""
        info = super().get_data_info(idx)
        place = info['image'], info['block']
        return {**info, **{name: array[place] for name, array in self.blocks.items()}}


@DATASETS.register_module()
class ClipFolder(BaseDataset):
    """Folders of frames, such as DAVIS: windows of frames to train on, or whole clips to test on.

    Args:
        data_root (str): Root folder.
        data_prefix (dict): ``clean`` and, for pairs, ``noisy``: folders with one subfolder of
            frames per clip.
        ann_file (str): Names of the clips to read, one per line (DAVIS's ``ImageSets``); all
            subfolders if empty.
        num_frames (int, optional): Length of a window; every place of it in a clip is one sample.
            None gives whole clips.
        max_frames (int, optional): Read this many frames of a clip at most.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: dict,
        ann_file: str = '',
        num_frames: int | None = None,
        max_frames: int | None = None,
        **kwargs,
    ) -> None:
        self.num_frames = num_frames
        self.max_frames = max_frames
        super().__init__(data_root=data_root, data_prefix=data_prefix, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List ``clip``, ``frame`` (the first), ``clean_path`` and ``noisy_path`` (lists)."""
        samples = []
        for clip in self._clips():
            frames = self._frames(clip)[: self.max_frames]
            length = len(frames) if self.num_frames is None else self.num_frames
            if len(frames) < length:
                raise ValueError(
                    f'Clip {clip} has {len(frames)} frames, fewer than num_frames={length}; leave '
                    'it out of the annotation file.'
                )
            for first in range(len(frames) - length + 1):
                window = frames[first : first + length]
                sample = dict(clip=clip, frame=first, clean_path=[str(c) for _, c in window])
                if 'noisy' in self.data_prefix:
                    sample['noisy_path'] = [str(noisy) for noisy, _ in window]
                samples.append(sample)
        return samples

    def _clips(self) -> Sequence[str]:
        if self.ann_file:
            return Path(self.ann_file).read_text().split()
        folder = Path(self.data_prefix['clean'])
        clips = sorted((p.name for p in folder.glob('*') if p.is_dir()), key=number_order)
        if not clips:
            raise ValueError(f'{folder} holds no folder of frames; set data_root and data_prefix.')
        return clips

    def _frames(self, clip: str) -> Sequence[tuple[Path | None, Path]]:
        clean = Path(self.data_prefix['clean']) / clip
        if 'noisy' in self.data_prefix:
            return match_pairs(Path(self.data_prefix['noisy']) / clip, clean)
        frames = list_images(clean)
        if not frames:
            raise ValueError(f'{clean} holds no frames; is the clip named right?')
        return [(None, frame) for frame in frames]


def read_blocks(path: Path) -> np.ndarray:
    """Read a SIDD ``.mat`` file of uint8 blocks ``(images, blocks, H, W, 3)``.

    Raises:
        ValueError: If the file is missing, unreadable or holds no such array.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise ValueError(f'There are no blocks at {path}; set data_root to the folder of SIDD.')
    try:
        content = loadmat(path)
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError, zlib.error) as error:
        raise ValueError(f'{path} cannot be read as a MATLAB file ({error}).') from None
    arrays = [value for key, value in content.items() if not re.match('__', key)]
    if len(arrays) != 1 or arrays[0].ndim != 5 or arrays[0].dtype != np.uint8:
        raise ValueError(f'{path} holds no uint8 array of blocks (images, blocks, H, W, 3).')
    return arrays[0]
