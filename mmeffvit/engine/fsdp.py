from __future__ import annotations

from mmengine._strategy import FSDPStrategy as _FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from ..registry import STRATEGIES


@STRATEGIES.register_module()
class FSDPStrategy(_FSDPStrategy):
    """mmengine's strategy for sharded training, able to resume.

    mmengine calls torch with the order of arguments that it had before 2.1.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load this process's part of the optimizer's state.

        Args:
            state_dict (dict): State of the whole optimizer, as it was saved.
        """
        own = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, self.optim_wrapper.optimizer, state_dict
        )
        self.optim_wrapper.load_state_dict(own)
