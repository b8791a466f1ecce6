"""A finer level of QuadTree attention as an operator that compiled graphs keep."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from ..numerics import accurate
from ..operators import register
from . import cpu
from .nodes import flat_nodes, kept_nodes


def fine_level(
    backend: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None = None,
    key_mask: Tensor | None = None,
    *,
    scale: float,
    topk: int,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Call the operator with a backend; see :func:`mmeffvit.ops.quadtree.quadtree_fine`."""
    if backend != 'triton' or not q.dtype == k.dtype == v.dtype:
        q, k, v = accurate(q), accurate(k), accurate(v)
    floats = [x for x in (q, k, v, parent_score) if x is not None]
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in floats)
    out, score, location, _ = torch.ops.mmeffvit.quadtree_fine(
        q, k, v, index, parent_score, key_mask, scale, topk, keep, backend
    )
    if not topk:
        return out, None, None
    return out, kept_nodes(index, location), score if parent_score is not None else score.detach()


def _triton():
    return importlib.import_module(f'{__package__}.triton')


def _kernel_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
) -> tuple[Tensor | None, ...]:
    return (
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        flat_nodes(index, k.shape[1] // 4).int(),
        None if parent_score is None else parent_score.contiguous(),
        None if key_mask is None else key_mask.contiguous(),
    )


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
    scale: float,
    topk: int,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Messages, scores, places, and for backward the weights or the log-sum-exp."""
    inputs = q, k, v, index, parent_score, key_mask
    if backend == 'triton':
        with torch.cuda.device_of(q):
            out, score, location, state = _triton().forward(*_kernel_inputs(*inputs), scale, topk)
        state = out.new_empty(0) if state is None else state
    else:
        out, score, location, state = cpu.forward(*inputs, scale, topk, keep)
        state = state if keep else out.new_empty(0)
    if score is None or location is None:
        return out, out.new_empty(0), index.new_empty(0, dtype=torch.long), state
    return out, score, location, state


def _fake_forward(q, k, v, index, parent_score, key_mask, scale, topk, keep, backend):
    (G, Nq, D), K = q.shape, index.shape[-1]
    dtype = torch.float32 if backend == 'triton' else q.dtype
    out = q.new_empty(G, Nq, D, dtype=dtype)
    parents = G * Nq // 4
    if topk:
        kept = min(topk, 4 * K)
        score, location = (
            out.new_empty(G, Nq, kept),
            index.new_empty(parents, 4, kept, dtype=torch.long),
        )
    else:
        score, location = out.new_empty(0), index.new_empty(0, dtype=torch.long)
    if backend == 'triton':
        state = out.new_empty((G, Nq) if parent_score is None else 0)
    else:
        state = out.new_empty((parents, 4, 4 * K) if keep else 0)
    return out, score, location, state


def _backward(
    grad_out: Tensor,
    grad_score: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    index: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
    location: Tensor | None,
    state: Tensor,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs = q, k, v, index, parent_score, key_mask
    if backend == 'triton':
        lse = state if parent_score is None else None
        with torch.cuda.device_of(q):
            *grads, grad_parent = _triton().backward(
                grad_out, grad_score, *_kernel_inputs(*inputs), location, lse, scale
            )
    else:
        *grads, grad_parent = cpu.backward(grad_out, grad_score, *inputs, location, state, scale)
    grad_q, grad_k, grad_v = grads
    return grad_q, grad_k, grad_v, q.new_empty(0) if grad_parent is None else grad_parent


def _fake_backward(
    grad_out, grad_score, q, k, v, index, parent_score, key_mask, location, state, scale, backend
):
    grads = (x.new_empty(x.shape) for x in (q, k, v))
    return *grads, q.new_empty(0) if parent_score is None else parent_score.new_empty(index.shape)


def _setup_context(ctx, inputs, output) -> None:
    q, k, v, index, parent_score, key_mask, ctx.scale, ctx.topk, _, ctx.backend = inputs
    _, _, location, state = output
    # The places are needed where the kept candidates were left out of the message.
    location = location if ctx.topk and parent_score is not None else None
    ctx.save_for_backward(q, k, v, index, parent_score, key_mask, location, state)


def _differentiate(ctx, grad_out, grad_score, *_):
    q, k, v, index, parent_score, key_mask, location, state = ctx.saved_tensors
    grad_score = None if location is None else grad_score
    *grads, grad_parent = torch.ops.mmeffvit.quadtree_fine_backward(
        grad_out,
        grad_score,
        q,
        k,
        v,
        index,
        parent_score,
        key_mask,
        location,
        state,
        ctx.scale,
        ctx.backend,
    )
    grad_parent = None if parent_score is None else grad_parent
    return *grads, None, grad_parent, *[None] * 5


def _flops(q, k, v, index, *_, out_shape, **__) -> int:
    """Scores and sums over the ``4K`` candidates of every query."""
    G, Nq, D = q
    return 2 * 2 * G * Nq * 4 * index[-1] * D


def _flops_backward(grad_out, grad_score, q, k, v, index, *_, out_shape, **__) -> int:
    return 2 * _flops(q, k, v, index, out_shape=None)


_INPUTS = 'Tensor q, Tensor k, Tensor v, Tensor index, Tensor? parent_score, Tensor? key_mask'
register(
    f'quadtree_fine_backward(Tensor grad_out, Tensor? grad_score, {_INPUTS}, Tensor? location, '
    'Tensor state, float scale, str backend) -> (Tensor, Tensor, Tensor, Tensor)',
    _backward,
    _fake_backward,
    flops=_flops_backward,
)
register(
    f'quadtree_fine({_INPUTS}, float scale, SymInt topk, bool keep, str backend) '
    '-> (Tensor, Tensor, Tensor, Tensor)',
    _forward,
    _fake_forward,
    flops=_flops,
    backward=_differentiate,
    setup_context=_setup_context,
)
