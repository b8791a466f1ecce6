"""Published datasets of image pairs in their layouts, and pairs of one's own."""

from __future__ import annotations

import io
import pickle
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from ...registry import DATASETS
from ...utils.images import list_images
from ...utils.requirements import require

#: Sequences of HPatches that its homography evaluation leaves out, as they are larger.
HPATCHES_LEFT_OUT = (
    'i_contruction',
    'i_crownnight',
    'i_dc',
    'i_pencils',
    'i_whitebuilding',
    'v_artisans',
    'v_astronautis',
    'v_talent',
)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays, numbers, strings and containers, and runs nothing else."""

    ALLOWED = tuple(
        (f'numpy.{core}.multiarray', name)
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ) + (('numpy', 'ndarray'), ('numpy', 'dtype'))

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that is allowed.

        Raises:
            ValueError: If it is not.
        """
        if (module, name) not in self.ALLOWED:
            raise ValueError(f'it would run {module}.{name}')
        return super().find_class(module, name)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read a ``.npz`` index; of pickled entries only arrays, numbers and strings are built.

    Raises:
        ValueError: If the file is missing or damaged, or would run code when loaded.
    """
    if not Path(path).is_file():
        raise ValueError(f'There is no index at {path}; set data_root and ann_file.')
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix('.npy'): _read_array(io.BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise ValueError(f'{path} cannot be read as an index ({error}).') from None


def _read_array(file: io.BytesIO) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        reader = np.lib.format.read_array_header_2_0
    _, _, dtype = reader(file)
    if dtype.hasobject:
        return _ArrayUnpickler(file).load()
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_matrix(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a matrix of numbers in text.

    Raises:
        ValueError: If the file is missing or holds no such matrix.
    """
    if not Path(path).is_file():
        raise ValueError(f'There is no {path}; the dataset is not complete.')
    matrix = np.loadtxt(path)
    if matrix.shape != shape:
        raise ValueError(f'{path} holds {matrix.shape} numbers instead of {shape}.')
    return matrix


def read_depth(path: str | Path) -> np.ndarray:
    """Read depth ``(H, W)``: 16-bit PNG in millimetres (in metres then), or HDF5.

    Raises:
        ValueError: If the file cannot be read.
    """
    path = Path(path)
    if path.suffix == '.h5':
        require('h5py')
        import h5py

        if not path.is_file():
            raise ValueError(f'There is no {path}; the dataset is not complete.')
        with h5py.File(path) as file:
            return np.asarray(file['depth'], np.float32)
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if depth is None:
        raise ValueError(f'{path} cannot be read as a depth map.')
    return depth.astype(np.float32) / 1000


@DATASETS.register_module()
class ScanNetPairs(BaseDataset):
    """ScanNet in LoFTR's layout, for training by scene and for the test of 1500 pairs.

    ``<scene>/color/<id>.jpg``, ``<scene>/depth/<id>.png`` and ``<scene>/pose/<id>.txt`` (camera to
    world). ``ann_file`` names an index ``.npz``, or a text file with names of such files in the
    folder ``data_prefix['index']``: ``name`` ``(M, 4)`` = scene, sub-scene, frame 0, frame 1, and
    perhaps ``score`` ``(M,)``. ``data_prefix['intrinsics']`` is the file ``intrinsics.npz``, one
    matrix of the depth camera per scene.

    Args:
        data_root (str): Folder of the scenes.
        ann_file (str): The index, or a list of them.
        data_prefix (dict): ``img`` (scenes), ``index`` and ``intrinsics``.
        min_score (float): Pairs of a smaller or equal overlap score are left out.
        depth (bool): Whether depth is read; training needs it.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        data_prefix: dict | None = None,
        min_score: float = 0.0,
        depth: bool = True,
        **kwargs,
    ) -> None:
        prefix = dict(dict(img='', index='index', intrinsics='intrinsics.npz'), **data_prefix or {})
        self.min_score = min_score
        self.depth = depth
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the pairs; ``subset`` is the number of the index file."""
        index = Path(self.ann_file or '')
        files = [index]
        if index.suffix != '.npz':
            if not index.is_file():
                raise ValueError(f'There is no list of indices at {index}; set ann_file.')
            files = [Path(self.data_prefix['index'], name) for name in index.read_text().split()]
        samples = []
        for subset, path in enumerate(files):
            content = read_arrays(path)
            names = content['name']
            if 'score' in content:
                names = names[content['score'] > self.min_score]
            for scene, part, first, second in names.astype(int).tolist():
                samples.append(
                    dict(
                        scene=f'scene{scene:04d}_{part:02d}', frames=(first, second), subset=subset
                    )
                )
        return samples

    def get_data_info(self, idx: int) -> dict:
        """Paths, depths, intrinsics and relative pose of a pair."""
        info = super().get_data_info(idx)
        folder = Path(self.data_prefix['img'], info['scene'])
        intrinsics = _intrinsics(str(self.data_prefix['intrinsics']))
        if info['scene'] not in intrinsics:
            raise ValueError(f'{self.data_prefix["intrinsics"]} has no {info["scene"]}.')
        poses = []
        for side, frame in enumerate(info['frames']):
            info[f'image{side}_path'] = str(folder / 'color' / f'{frame}.jpg')
            info[f'intrinsics{side}'] = intrinsics[info['scene']][:3, :3]
            if self.depth:
                info[f'depth{side}'] = read_depth(folder / 'depth' / f'{frame}.png')
            poses.append(read_matrix(folder / 'pose' / f'{frame}.txt', (4, 4)))
        # The poses are from the camera to the world.
        info['pose'] = np.linalg.inv(poses[1]) @ poses[0]
        return info


@lru_cache(maxsize=4)
def _intrinsics(path: str) -> dict[str, np.ndarray]:
    return read_arrays(path)


@DATASETS.register_module()
class MegaDepthPairs(BaseDataset):
    """MegaDepth in D2-Net's and LoFTR's layout, for training by sub-scene and the test.

    An index ``.npz`` holds per view ``image_paths``, ``depth_paths``, ``intrinsics`` and ``poses``
    (world to camera), and ``pair_infos``: per pair the two views, their overlap and more.

    Args:
        data_root (str): Folder that the paths in the index are relative to.
        ann_file (str): An index, or a text file with names of indices, with or without suffix.
        data_prefix (dict): ``index``, the folder of the named indices.
        min_overlap (float): Pairs of a smaller or equal overlap are left out.
        images_beside_depth (bool): Take the images from ``imgs`` beside ``depths``, as those of
            ``Undistorted_SfM`` are no longer offered; the authors saw very subtle differences.
        depth (bool): Whether depth is read; training needs it.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        data_prefix: dict | None = None,
        min_overlap: float = 0.0,
        images_beside_depth: bool = False,
        depth: bool = True,
        **kwargs,
    ) -> None:
        self.min_overlap = min_overlap
        self.images_beside_depth = images_beside_depth
        self.depth = depth
        prefix = dict(dict(index='scene_info'), **data_prefix or {})
        super().__init__(data_root=data_root, ann_file=ann_file, data_prefix=prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the pairs with their paths and matrices; ``subset`` is the number of the index."""
        index = Path(self.ann_file or '')
        files = [index]
        if index.suffix != '.npz':
            if not index.is_file():
                raise ValueError(f'There is no list of indices at {index}; set ann_file.')
            folder = Path(self.data_prefix['index'])
            names = index.read_text().split()
            files = [folder / f'{name.removesuffix(".npz")}.npz' for name in names]
        root = Path(self.data_root or '')
        samples = []
        for subset, path in enumerate(files):
            content = read_arrays(path)
            if 'pair_infos' not in content:
                raise ValueError(
                    f'{path} lists no pairs (as the files of D2-Net): take those of LoFTR.'
                )
            for pair, overlap, *_ in content['pair_infos']:
                if overlap <= self.min_overlap:
                    continue
                sample: dict = dict(scene=path.stem, subset=subset)
                for side, view in enumerate(pair):
                    image = str(content['image_paths'][view])
                    depth = str(content['depth_paths'][view])
                    if self.images_beside_depth:
                        image = depth.replace('depths', 'imgs').replace('.h5', '.jpg')
                    sample[f'image{side}_path'] = str(root / image)
                    sample[f'depth{side}_path'] = str(root / depth)
                    sample[f'intrinsics{side}'] = np.asarray(content['intrinsics'][view], float)
                poses = [np.asarray(content['poses'][view], float) for view in pair]
                sample['pose'] = poses[1] @ np.linalg.inv(poses[0])
                samples.append(sample)
        return samples

    def get_data_info(self, idx: int) -> dict:
        """Paths, depths, intrinsics and relative pose of a pair."""
        info = super().get_data_info(idx)
        for side in range(2 if self.depth else 0):
            info[f'depth{side}'] = read_depth(info[f'depth{side}_path'])
        return info


@DATASETS.register_module()
class HPatches(BaseDataset):
    """Sequences of HPatches: image 1 of each against images 2 to 6, with the homography.

    ``<sequence>/{1..6}.ppm`` and ``<sequence>/H_1_{2..6}``.

    Args:
        data_root (str): Folder of the sequences.
        kind (str): ``'all'``, ``'i'`` (light) or ``'v'`` (viewpoint).
        left_out (Sequence[str]): Sequences that are not read; the eight that published homography
            evaluations leave out by default.
        **kwargs: See mmengine's ``BaseDataset``.

    Source: Balntas et al., "HPatches" (CVPR 2017).
    """

    def __init__(
        self,
        data_root: str,
        kind: str = 'all',
        left_out: tuple[str, ...] = HPATCHES_LEFT_OUT,
        **kwargs,
    ) -> None:
        if kind not in ('all', 'i', 'v'):
            raise ValueError(f"kind={kind!r} must be 'all', 'i' or 'v'.")
        self.kind = kind
        self.left_out = tuple(left_out)
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List five pairs per sequence."""
        root = Path(self.data_root or '')
        start = '[iv]' if self.kind == 'all' else self.kind
        samples = []
        for folder in sorted(root.glob(f'{start}_*')):
            if folder.name in self.left_out or not folder.is_dir():
                continue
            for other in range(2, 7):
                samples.append(
                    dict(
                        scene=folder.name,
                        image0_path=str(folder / '1.ppm'),
                        image1_path=str(folder / f'{other}.ppm'),
                        homography=read_matrix(folder / f'H_1_{other}', (3, 3)),
                    )
                )
        if not samples:
            raise ValueError(f'{root} holds no sequence i_* or v_*; set data_root.')
        return samples


@DATASETS.register_module()
class PairList(BaseDataset):
    """Pairs of one's own: a folder, or a list with what is known of each pair.

    A line of the list is ``image0 image1``, followed by nothing, by the nine numbers of a
    homography (row by row), or by those of both intrinsics and of the relative pose: 9 + 9 + 16.
    Without a list, the images of the folder are paired in order: the first with the second, the
    third with the fourth.

    Args:
        data_root (str): Folder that the paths are relative to.
        ann_file (str): The list; the folder itself if empty.
        **kwargs: See mmengine's ``BaseDataset``.
    """

    def load_data_list(self) -> list[dict]:
        """List the pairs."""
        root = Path(self.data_root or '')
        if not self.ann_file:
            images = list_images(root)
            if len(images) < 2 or len(images) % 2:
                raise ValueError(f'{root} holds {len(images)} images, which make no pairs.')
            return [
                dict(image0_path=str(first), image1_path=str(second))
                for first, second in zip(images[::2], images[1::2])
            ]
        path = Path(self.ann_file)
        if not path.is_file():
            raise ValueError(f'There is no list of pairs at {path}; set ann_file.')
        lines = io.StringIO(path.read_text())
        return [
            self._parse(number, line.split(), root)
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.startswith('#')
        ]

    def _parse(self, number: int, words: list[str], root: Path) -> dict:
        sample: dict = {
            f'image{side}_path': str(root / word) for side, word in enumerate(words[:2])
        }
        try:
            numbers = np.array([float(word) for word in words[2:]], np.float64)
        except ValueError:
            numbers = np.zeros(1)
        if len(words) < 2 or len(numbers) not in (0, 9, 34):
            raise ValueError(
                f'Line {number} of {self.ann_file} must hold two images, and perhaps 9 numbers of '
                'a homography or 34 of intrinsics and pose.'
            )
        if len(numbers) == 9:
            sample['homography'] = numbers.reshape(3, 3)
        elif len(numbers) == 34:
            sample['intrinsics0'] = numbers[:9].reshape(3, 3)
            sample['intrinsics1'] = numbers[9:18].reshape(3, 3)
            sample['pose'] = numbers[18:].reshape(4, 4)
        return sample
