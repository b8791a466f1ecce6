from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..utils.atomic import atomic


def write_weights(state: Mapping[str, Tensor], path: str | Path, meta: dict) -> None:
    """Write ``{'state_dict', 'meta'}`` as ``.pth``, or tensors and metadata as ``.safetensors``.

    Args:
        state (Mapping[str, Tensor]): The weights.
        path (str | Path): The file; its suffix decides.
        meta (dict): What to note beside them, JSON-like.
    """
    with atomic(path, sync=True) as partial:
        if partial.suffix == '.safetensors':
            # The format knows no shared storage, and heads of public detectors share weights.
            contiguous = torch.contiguous_format
            tensors = {key: value.clone(memory_format=contiguous) for key, value in state.items()}
            save_file(tensors, partial, metadata={'meta': json.dumps(meta)})
        else:
            torch.save(dict(state_dict=dict(state), meta=meta), partial)
