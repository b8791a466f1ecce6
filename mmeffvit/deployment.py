"""Export to ONNX with dynamic shapes, and verification with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn

from .utils.atomic import atomic_group
from .utils.requirements import require

#: Largest difference to PyTorch, relative to the largest output where that is over 1.
TOLERANCE = 1e-4


class Exportable(nn.Module):
    """One method of a model as a module from images to a tuple of tensors.

    Args:
        model (nn.Module): The model.
        run (Callable): ``run(model, images)``.
    """

    def __init__(self, model: nn.Module, run: Callable) -> None:
        super().__init__()
        self.model = model
        self.run = run

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images ``(B, 3, H, W)``, or clips ``(B, 3, T, H, W)``."""
        out = self.run(self.model, images)
        return (out,) if isinstance(out, Tensor) else tuple(out)


def _network(model: Any, images: Tensor) -> Tensor:
    return model(images, mode='tensor')


def _features(model: Any, images: Tensor) -> Tensor:
    return model.extract_feat(images)


def _scores(model: Any, images: Tensor) -> Tensor:
    return model(images, mode='tensor').softmax(-1)


#: Framework -> the part of its models that is exported.
_PARTS = dict(mmdet=_features, mmseg=_network, mmpretrain=_scores, mmeffvit=_network)


def exportable(model: nn.Module, scope: str | None = None) -> Exportable:
    """Prepare a model for export: eval mode, layers fused, a forward from images to tensors.

    Args:
        model (nn.Module): A backbone or a whole model; changed in place, irreversibly.
        scope (str, optional): Framework of a whole model. Of a detector, backbone and neck are
            exported; of a segmentor the logits of its head, at the head's stride; of a classifier
            the scores; of a denoiser the denoised image, not clamped.

    Raises:
        ValueError: If the framework is unknown.
    """
    if scope is not None and scope not in _PARTS:
        raise ValueError(f'default_scope={scope!r} must be one of {", ".join(_PARTS)}.')
    model = revert_sync_batchnorm(model).eval()
    backbone: Any = getattr(model, 'backbone', model)
    if hasattr(backbone, 'switch_to_deploy'):
        backbone.switch_to_deploy()
    if scope == 'mmseg':
        _open_upsampling(model)
    run = _PARTS[scope] if scope else lambda model, images: model(images)
    return Exportable(model, run).eval()


def _open_upsampling(model: nn.Module) -> None:
    """Replace mmseg's upsampling, whose ``int(...)`` would fix the size of the example."""
    from mmseg.models.utils import Upsample

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Upsample) and not child.size:
                plain = nn.Upsample(None, child.scale_factor, child.mode, child.align_corners)
                setattr(module, name, plain)


def export_onnx(
    model: nn.Module, images: Tensor, out: str | Path, fixed_size: bool = False
) -> None:
    """Write an ONNX file with dynamic batch, height and width.

    Args:
        model (nn.Module): What :func:`exportable` returns.
        images (Tensor): Example to trace. If its sides are no multiples of patches and windows, the
            graph contains every padding and is valid for multiples too.
        out (str | Path): The file; weights of more than 1.5 GB are written beside it.
        fixed_size (bool): Keep height and width as in the example.

    Raises:
        MissingLibraryError: If the libraries of ``mmeffvit[deploy]`` are absent.
        ValueError: With the reason, if PyTorch cannot express the model in ONNX.
    """
    require('onnx', 'onnxscript')
    open_axes = [0] if fixed_size else [0, images.ndim - 2, images.ndim - 1]
    shape = {axis: torch.export.Dim.DYNAMIC for axis in open_axes}
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                input_names=['images'],
                dynamic_shapes=(shape,),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f'This model cannot be exported: {_reason(error)}') from error
    assert program is not None  # it always is with dynamo=True
    with atomic_group(out) as partial:
        program.save(str(partial))


def _reason(error: BaseException) -> str:
    """First line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition('\n')[0] or type(error).__name__


def check_onnx(path: str | Path, model: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Compare an ONNX file, run by ONNX Runtime on the CPU, with the model it was made from.

    Args:
        path (str | Path): The file.
        model (nn.Module): What :func:`exportable` returned.
        inputs (Sequence[Tensor]): Images of several sizes.

    Returns:
        float: The largest difference, relative to the largest output where that is over 1.

    Raises:
        MissingLibraryError: If ONNX Runtime is absent.
        ValueError: If an input does not run, or the difference is over ``TOLERANCE``.
    """
    require('onnxruntime')
    import onnxruntime

    name = Path(path).name
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    largest = 0.0
    for images in inputs:
        size = 'x'.join(map(str, images.shape))
        try:
            found = session.run(None, {'images': images.numpy()})
        except Exception as error:  # ONNX Runtime raises classes of its C++ module
            raise ValueError(f'{name} does not run on {size}: {error}') from error
        with torch.no_grad():
            expected = model(images)
        for array, tensor in zip(found, expected, strict=True):
            scale = max(1.0, tensor.abs().max().item())
            difference = (torch.from_numpy(array) - tensor).abs().max().item() / scale
            if not difference <= TOLERANCE:
                raise ValueError(
                    f'{name} differs from PyTorch by {difference:.1e} on {size}; '
                    'export for one size with --fixed-size.'
                )
            largest = max(largest, difference)
    return largest
