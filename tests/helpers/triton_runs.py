"""Running Triton kernels in tests: on a GPU where there is one, else in Triton's interpreter.

``conftest.py`` turns the interpreter on, since Triton decides when it is imported.
"""

import pytest
import torch

from mmeffvit.ops import available_backends

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'

needs_triton = pytest.mark.skipif(
    'triton' not in available_backends(),
    reason='triton is not installed, or has neither a GPU nor TRITON_INTERPRET=1',
)
