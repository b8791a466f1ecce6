"""Registration of fast paths with ``torch.library``, so that ``torch.compile`` keeps them.

The tracer cannot follow an implementation that works in chunks or launches kernels. As an operator
of the namespace ``mmeffvit`` it is one node of the graph, with a formula for the shapes of its
results (a *fake* implementation), one for the gradients and one for the arithmetic (torch's
``FlopCounterMode``). Exporters are given the readable reference, that is standard operators.

Eager calls do not go through these operators: the dispatcher and the gradient formula of a
registered operator cost more Python time than an attention on a small map.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import register_flop_formula

NAMESPACE = 'mmeffvit'
_library = torch.library.Library(NAMESPACE, 'FRAGMENT')
_STRIDES = getattr(torch.Tag, 'needs_exact_strides', torch.Tag.needs_fixed_stride_order)
_HAS_FLAG = hasattr(torch.compiler, '_is_exporting_flag')
if not _HAS_FLAG:  # before torch 2.7; the import takes a second and imports Triton
    import torch.export._trace


def exporting() -> bool:
    """Whether ``torch.export`` is tracing, with or without the compiler's tracer."""
    # The tracer takes torch.compiler.is_exporting() for True in torch.compile too.
    if _HAS_FLAG:
        return torch.compiler._is_exporting_flag
    return torch.export._trace._EXPORT_FLAGS is not None


def register(
    schema: str,
    kernel: Callable,
    fake: Callable,
    *,
    flops: Callable[..., int],
    backward: Callable | None = None,
    setup_context: Callable | None = None,
) -> Callable:
    """Register an operator for every device.

    Args:
        schema (str): ``'name(Tensor x, ...) -> Tensor'``.
        kernel (Callable): The implementation; it returns new tensors and changes none.
        fake (Callable): The same signature; returns empty tensors of the right shape, dtype and
            strides, whatever the arguments hold.
        flops (Callable): ``flops(*args, out_shape, **kwargs)``, with shapes in place of tensors:
            two per multiply-add.
        backward (Callable, optional): ``backward(ctx, *grads)``; without one, gradients of the
            operator's results are refused.
        setup_context (Callable, optional): ``setup_context(ctx, inputs, output)``.

    Returns:
        Callable: The operator, ``torch.ops.mmeffvit.name``.
    """
    name, rest = schema.split('(', 1)
    qualified = f'{NAMESPACE}::{name}'
    torch.library.define(qualified, f'({rest}', tags=(torch.Tag.pt2_compliant_tag, _STRIDES))
    torch.library.impl(qualified, 'default', kernel)
    torch.library.register_fake(qualified, fake)
    torch.library.register_autograd(
        qualified, backward or _refuse(qualified), setup_context=setup_context
    )
    torch.library.register_vmap(qualified, _refuse_vmap(qualified))
    operator = getattr(getattr(torch.ops, NAMESPACE), name)
    register_flop_formula(operator)(flops)
    return operator


def register_composite(schema: str, function: Callable) -> Callable:
    """Register an operator that is a composition of standard ones.

    Compilers take it apart, so that everything else (shapes, gradients, vmap, counts) is that of
    its parts.

    Args:
        schema (str): ``'name(Tensor x, ...) -> Tensor'``.
        function (Callable): The composition.

    Returns:
        Callable: The operator, ``torch.ops.mmeffvit.name``.
    """
    name = _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,)).split('::')[-1]
    _library.impl(name, function, 'CompositeImplicitAutograd')
    return getattr(getattr(torch.ops, NAMESPACE), name)


def _refuse(name: str) -> Callable:
    def backward(ctx, *grads):
        raise RuntimeError(
            f'{name} has no second derivatives; compute them inside '
            "mmeffvit.ops.use_backend('reference')."
        )

    return backward


def _refuse_vmap(name: str) -> Callable:
    def vmap(info, in_dims, *args):
        raise RuntimeError(
            f"{name} cannot run under torch.vmap; use mmeffvit.ops.use_backend('reference')."
        )

    return vmap
