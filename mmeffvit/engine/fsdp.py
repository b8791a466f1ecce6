from __future__ import annotations

from mmengine._strategy import FSDPStrategy as _FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from ..registry import STRATEGIES


@STRATEGIES.register_module()
class FSDPStrategy(_FSDPStrategy):
    """mmengine's FSDP strategy, corrected so that the optimizer's state can be loaded.

    mmengine passes the arguments of ``optim_state_dict_to_load`` in the order of torch before 2.1.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load this rank's shard of the optimizer's state.

        Args:
            state_dict (dict): State of the whole optimizer, as it was saved.
        """
        own = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, self.optim_wrapper.optimizer, state_dict
        )
        self.optim_wrapper.load_state_dict(own)
