"""Networks from noisy to clean: Uformer for images, the UniFormer U-Net for clips."""

from .uformer import SkipUformer, Uformer
from .uniformer import SkipUniFormerUNet, UniFormerUNet

__all__ = ['SkipUformer', 'SkipUniFormerUNet', 'Uformer', 'UniFormerUNet']
