from __future__ import annotations

from collections.abc import Iterator

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ...registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class PerSubsetSampler(Sampler):
    """Draw as many samples of every scene, with replacement.

    Samples of a dataset say in ``subset`` which scene they are of.

    Args:
        dataset (BaseDataset): The dataset.
        per_subset (int): Samples of each subset in an epoch.
        seed (int, optional): Seed of all processes; a common random one by default.

    Source: the training of LoFTR, section 4 of its paper.
    """

    def __init__(self, dataset: BaseDataset, per_subset: int, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.per_subset = per_subset
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        members: dict[int, list[int]] = {}
        for index in range(len(dataset)):
            subset = BaseDataset.get_data_info(dataset, index).get('subset', 0)
            members.setdefault(subset, []).append(index)
        self.members = [torch.tensor(members[subset]) for subset in sorted(members)]

    def __iter__(self) -> Iterator[int]:
        """Indices of this process."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = torch.cat(
            [
                own[torch.randint(len(own), (self.per_subset,), generator=generator)]
                for own in self.members
            ]
        )
        drawn = drawn[torch.randperm(len(drawn), generator=generator)]
        return iter(drawn[self.rank :: self.world_size][: len(self)].tolist())

    def __len__(self) -> int:
        """Samples of this process in an epoch."""
        return self.per_subset * len(self.members) // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Draw others in the next epoch."""
        self.epoch = epoch
