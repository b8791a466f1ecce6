from __future__ import annotations

from ...layers import EncoderReuse, SkipAttention
from .protocol import AttentionMap, explain


@explain.register(SkipAttention)
@explain.register(EncoderReuse)
def explain_reuse(layer: SkipAttention | EncoderReuse, *args, **kwargs) -> list[AttentionMap]:
    """Return no map: an earlier layer's attention is reused."""
    return []
