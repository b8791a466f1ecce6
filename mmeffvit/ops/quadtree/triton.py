"""The finer levels of QuadTree attention in Triton, forward and backward.

Forward and the gradient of the queries run one program per parent: the children of its ``K``
candidates against its four queries. Products are laid out with the candidates as rows and the
queries as columns, since matrix units take 16 rows and 8 columns: four queries fill half of those,
and a quarter of the rows. Scores, softmax and sums stay in registers in float32; only the messages,
a log-sum-exp per query and, where the next level needs a top-k, the ``4K`` weights per query are
written.

The gradients of keys and values run one program per parent of keys. It walks the list of those who
selected that parent (one stable sort of the flat node numbers), so there are no atomics, the result
is deterministic, and keys that nobody selected get their zeros. What a list holds beyond
:data:`LIST_LENGTH` goes to programs of its own, whose sums the first one adds in order.

Backward keeps ``q, k, v``, the nodes and, in kind ``'B'``, the log-sum-exp. In kind ``'A'``, whose
softmax is over four siblings, it keeps the scores of the parents and the kept places instead.

Checked on an NVIDIA H200 and in Triton's interpreter, compiled for sm_80, sm_90 and sm_100.
"""

# The arguments of kernels are not what their signatures say: tl.constexpr takes plain numbers.

# Triton compiles the kernels from this source; their types are not those of Python.
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dispatch import triton_interpreted
from ..numerics import accurate
from .nodes import flat_nodes, kept_nodes

#: Entries of a parent's list that one program takes.
LIST_LENGTH = 1024
_LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


def _query_launch(K: int, D: int, dtype: torch.dtype) -> dict:
    """Blocks and warps of a program for the four queries of a parent.

    These choices are those that keep the compiled kernels within 128 registers without spilling;
    products of float32 operands take three times the registers of half precision, hence the small
    blocks of columns (``BLOCK_D``) and of candidates that are summed at once (``BLOCK_C``). Where
    ``maxnreg`` is given, the assembler would otherwise aim lower and spill some bytes. For up to
    8 candidates in half precision one warp, which waits at no barrier, was fastest in a sweep on an
    H200 (``benchmarks/gpu/tune.py``).
    """
    block_k, width = max(4, triton.next_power_of_2(K)), max(16, triton.next_power_of_2(D))
    options = dict(BLOCK_K=block_k, num_stages=1)
    if dtype == torch.float32:
        return dict(options, BLOCK_D=16, BLOCK_C=min(4 * block_k, 32), num_warps=4, maxnreg=128)
    if block_k <= 8 and width <= 64:
        return dict(options, BLOCK_D=min(width, 32), BLOCK_C=4 * block_k, num_warps=1)
    return dict(
        options,
        BLOCK_D=min(width, 64),
        BLOCK_C=4 * block_k,
        num_warps=max(2, block_k // 8, block_k * width // 512),
        maxnreg=96 if block_k == 32 else None,
    )


def _key_launch(D: int, dtype: torch.dtype) -> dict:
    """Blocks and warps of a program for the four keys of a parent, ``BLOCK_G`` entries at once."""
    width = max(16, triton.next_power_of_2(D))
    options = dict(BLOCK_D=min(width, 64), num_stages=1)
    if dtype != torch.float32:
        blocks = dict(BLOCK_G=4, num_warps=1) if width <= 64 else dict(BLOCK_G=8, num_warps=4)
        return dict(options, **blocks)
    options['BLOCK_G'] = 4
    if width == 64:
        return dict(options, num_warps=8)
    if width == 128:
        options['BLOCK_D'] = 16
    return dict(options, num_warps=4, maxnreg=128)


def fine_level(
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
    """Attend on one finer level; see :func:`mmeffvit.ops.quadtree.quadtree_fine`."""
    if not q.dtype == k.dtype == v.dtype:
        q, k, v = accurate(q), accurate(k), accurate(v)
    out, score, location = _FineLevel.apply(q, k, v, index, parent_score, key_mask, scale, topk)
    return out, None if location is None else kept_nodes(index, location), score


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    nodes: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
    scale: float,
    topk: int,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Launch the forward kernel, twice where the kept candidates are left out of the message.

    Args:
        q (Tensor): ``(G, Nq, D)``, contiguous; half precision or float32, like the next two.
        k (Tensor): ``(G, Nk, D)``, contiguous.
        v (Tensor): ``(G, Nk, D)``, contiguous.
        nodes (Tensor): int32 ``(G * Nq / 4, K)`` rows of the ``(G * Nk / 4, 4D)`` tables.
        parent_score (Tensor, optional): float32 ``(G, Nq / 4, K)``, contiguous.
        key_mask (Tensor, optional): Boolean ``(G, Nk)``, contiguous.
        scale (float): Temperature of the logits.
        topk (int): Candidates to keep, or 0.

    Returns:
        tuple: Messages ``(G, Nq, D)`` in float32; for ``topk`` scores ``(G, Nq, k)`` and places
        ``(G * Nq / 4, 4, k)`` of the kept candidates in their parent's list; in kind ``'B'`` the
        log-sum-exp ``(G, Nq)``.
    """
    (G, Nq, D), K = q.shape, nodes.shape[-1]
    parents, topk = G * Nq // 4, min(topk, 4 * K)
    options = dict(_query_launch(K, D, q.dtype), K=K, D=D, WIDEN=triton_interpreted())

    out = torch.empty_like(q, dtype=torch.float32)
    lse = None if parent_score is not None else out.new_empty(G, Nq)
    weights = out.new_empty(parents, 4, 4 * K) if topk else None

    def attend(out: Tensor | None, weights: Tensor | None, dropped: Tensor | None) -> None:
        _attend[(parents,)](
            q, k, v, nodes, parent_score, key_mask, dropped, out, lse, weights, scale, **options
        )

    if weights is None:
        attend(out, None, None)
        return out, None, None, lse
    if parent_score is None:
        attend(out, weights, None)
        score, location = weights.topk(topk, dim=-1)
    else:
        attend(None, weights, None)
        score, location = weights.topk(topk, dim=-1)
        attend(out, None, _dropped(location, K))
    return out, score.view(G, Nq, topk), location, lse


def backward(
    grad_out: Tensor,
    grad_score: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    nodes: Tensor,
    parent_score: Tensor | None,
    key_mask: Tensor | None,
    location: Tensor | None,
    lse: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of ``q, k, v`` and ``parent_score``.

    Args:
        grad_out (Tensor): ``(G, Nq, D)``, of the messages.
        grad_score (Tensor, optional): ``(G, Nq, k)``, of the scores, in kind ``'A'``.
        q (Tensor): As in :func:`forward`, as are the next five.
        k (Tensor): Keys.
        v (Tensor): Values.
        nodes (Tensor): Parents of the candidates.
        parent_score (Tensor, optional): Their scores, in kind ``'A'``.
        key_mask (Tensor, optional): Keys that may be seen.
        location (Tensor, optional): Places of the kept candidates, in kind ``'A'``.
        lse (Tensor, optional): What :func:`forward` returned.
        scale (float): As in :func:`forward`.
    """
    (parents, K), D = nodes.shape, q.shape[-1]
    grad_out = grad_out.to(v.dtype).contiguous()
    dropped = grad_weight = None
    if location is not None:
        dropped = _dropped(location, K)
        grad_weight = torch.zeros(dropped.shape, device=q.device)
        if grad_score is not None:
            grad_weight.scatter_(-1, location, grad_score.reshape(location.shape))

    shared = (q, k, v, grad_out, parent_score, key_mask, dropped, grad_weight, lse)
    shape = dict(K=K, D=D, WIDEN=triton_interpreted())
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
    delta = None if lse is None else torch.empty_like(lse)
    grad_parent = None if parent_score is None else torch.empty_like(parent_score)
    _query_gradient[(parents,)](
        *shared,
        nodes,
        delta,
        grad_q,
        grad_parent,
        scale,
        **_query_launch(K, D, q.dtype),
        **shape,
    )

    num_parents = k.shape[0] * k.shape[1] // 4
    entries, first, further, owner = _selections(nodes, num_parents)
    lists = (entries, first, further, owner)
    sums = torch.empty(len(owner), 2, 4, D, device=q.device)
    options = _key_launch(D, q.dtype)
    chunks = triton.cdiv(D, options['BLOCK_D'])
    for further_parts, programs in ((True, len(owner)), (False, num_parents)):
        if programs:
            _key_value_gradient[(programs, chunks)](
                *shared,
                delta,
                *lists,
                sums,
                grad_k,
                grad_v,
                scale,
                num_parents,
                FURTHER=further_parts,
                LIST_LENGTH=LIST_LENGTH,
                **options,
                **shape,
            )
    return grad_q, grad_k, grad_v, grad_parent


class _FineLevel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, index, parent_score, key_mask, scale, topk):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        nodes = flat_nodes(index, k.shape[1] // 4).int()
        if parent_score is not None:
            parent_score = parent_score.contiguous()
        if key_mask is not None:
            key_mask = key_mask.contiguous()
        inputs = q, k, v, nodes, parent_score, key_mask
        out, score, location, lse = forward(*inputs, scale, topk)
        # The places are needed where the kept candidates were left out of the message.
        ctx.save_for_backward(*inputs, None if parent_score is None else location, lse)
        ctx.scale = scale
        if topk:
            ctx.mark_non_differentiable(location, *([score] if parent_score is None else []))
        return out, score, location

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out, grad_score, _):
        *grads, grad_parent = backward(grad_out, grad_score, *ctx.saved_tensors, ctx.scale)
        return *grads, None, grad_parent, *[None] * 3


def _dropped(location: Tensor, K: int) -> Tensor:
    """Bytes ``(parents, 4, 4K)``: 1 where a candidate is kept only for the next level."""
    dropped = torch.zeros(*location.shape[:2], 4 * K, dtype=torch.uint8, device=location.device)
    return dropped.scatter_(-1, location, 1)


def _selections(nodes: Tensor, num_parents: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lists of the places that selected each parent, without waiting for the device.

    Args:
        nodes (Tensor): ``(parents of queries, K)`` numbers of parents of keys.
        num_parents (int): Parents of keys.

    Returns:
        tuple: Places in the flattened ``nodes``, list after list; where each list begins; how many
        parts beyond the first :data:`LIST_LENGTH` places the lists before it have; of each such
        part its parent (``num_parents`` where there are fewer parts).
    """
    device = nodes.device
    ids, entries = nodes.flatten().sort(stable=True)
    ends = torch.arange(num_parents + 1, dtype=torch.int32, device=device)
    first = torch.searchsorted(ids, ends, out_int32=True)
    parts = (first.diff() - 1).clamp(min=0) // LIST_LENGTH
    further = F.pad(parts.cumsum(0, dtype=torch.int32), (1, 0))
    most = torch.arange(nodes.numel() // LIST_LENGTH, dtype=torch.int32, device=device)
    owner = torch.searchsorted(further[1:], most, right=True, out_int32=True)
    return entries.int(), first, further, owner


@triton.jit
def _dot(a, b, WIDEN: tl.constexpr):
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision='tf32x3')


@triton.jit
def _load_rows(base, rows, valid, start, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Columns from ``start`` of rows of a table, ``(n, BLOCK_D)``; zero where not valid."""
    d = start + tl.arange(0, BLOCK_D)
    pointers = base + rows.to(tl.int64)[:, None] * D + d[None, :]
    return tl.load(pointers, mask=valid[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _store_rows(base, rows, valid, start, x, D: tl.constexpr, BLOCK_D: tl.constexpr):
    d = start + tl.arange(0, BLOCK_D)
    pointers = base + rows.to(tl.int64)[:, None] * D + d[None, :]
    tl.store(pointers, x.to(base.dtype.element_ty), mask=valid[:, None] & (d < D)[None, :])


@triton.jit
def _contracted(x, BLOCK_D: tl.constexpr):
    """Rename 32 channels, of both factors, so that a thread's eight neighbours are its operands.

    Then they need not pass through shared memory.
    """
    if BLOCK_D == 32:
        rows: tl.constexpr = x.shape[0]
        x = tl.reshape(x, (rows, 4, 2, 2, 2))
        x = tl.reshape(tl.permute(x, (0, 2, 3, 1, 4)), (rows, 32))
    return x


@triton.jit
def _load_keys(node_ptr, parent, c, K: tl.constexpr):
    """Numbers of candidates ``c`` of a parent of queries, and which of them exist."""
    valid = c < 4 * K
    return tl.load(node_ptr + parent * K + c // 4, mask=valid, other=0) * 4 + c % 4, valid


@triton.jit
def _products(
    rows_ptr,
    columns_ptr,
    keys,
    valid,
    queries,
    real,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Dot products ``(4 BLOCK_K, 8)`` of candidates' rows of one table with queries' of another."""
    total = tl.zeros((4 * BLOCK_K, 8), tl.float32)
    for d in range(0, D, BLOCK_D):
        column = _load_rows(columns_ptr, queries, real, d, D, BLOCK_D)
        row = _load_rows(rows_ptr, keys, valid, d, D, BLOCK_D)
        row, column = _contracted(row, BLOCK_D), _contracted(column, BLOCK_D)
        total += _dot(row, tl.trans(column), WIDEN)
    return total


@triton.jit
def _scores(
    q_ptr,
    k_ptr,
    mask_ptr,
    keys,
    valid,
    queries,
    real,
    scale,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Scaled, masked scores ``(4 BLOCK_K, 8)`` of a parent's candidates, and which are seen."""
    s = _products(k_ptr, q_ptr, keys, valid, queries, real, D, BLOCK_K, BLOCK_D, WIDEN) * scale
    seen = valid
    if mask_ptr is not None:
        seen = tl.load(mask_ptr + keys, mask=valid, other=1) != 0
        s = tl.where(seen[:, None], s, _LOWEST)
    return s, seen


@triton.jit
def _sum_rows(
    base,
    node_ptr,
    parent,
    p,
    start,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Sum the candidates' rows with weights ``p (4 BLOCK_K, 8)``, ``BLOCK_C`` at a time."""
    parts: tl.constexpr = 4 * BLOCK_K // BLOCK_C
    total = tl.zeros((BLOCK_D, 8), tl.float32)
    for part in range(parts):
        keys, valid = _load_keys(node_ptr, parent, part * BLOCK_C + tl.arange(0, BLOCK_C), K)
        x = _load_rows(base, keys, valid, start, D, BLOCK_D)
        weights = p
        if parts > 1:
            chosen = (tl.arange(0, parts) == part)[:, None, None]
            weights = tl.sum(tl.where(chosen, tl.reshape(p, (parts, BLOCK_C, 8)), 0.0), 0)
        total += _dot(tl.trans(x), weights.to(x.dtype), WIDEN)
    return tl.trans(total)


@triton.jit
def _siblings_softmax(s, BLOCK_K: tl.constexpr):
    """Softmax over the four children of each candidate: ``(BLOCK_K, 4, n)``."""
    s = tl.reshape(s, (BLOCK_K, 4, s.shape[1]))
    p = tl.exp(s - tl.max(s, 1)[:, None, :])
    return p / tl.sum(p, 1)[:, None, :]


@triton.jit
def _attend(
    q_ptr,
    k_ptr,
    v_ptr,
    node_ptr,
    parent_ptr,
    mask_ptr,
    dropped_ptr,
    out_ptr,
    lse_ptr,
    weight_ptr,
    scale,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Four queries against their candidates: message, log-sum-exp, weights."""
    parent = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, 8)
    queries, real = parent * 4 + lane, lane < 4
    c = tl.arange(0, 4 * BLOCK_K)
    keys, valid = _load_keys(node_ptr, parent, c, K)
    places = queries[None, :] * (4 * K) + c[:, None]
    inside = real[None, :] & valid[:, None]

    s, _ = _scores(
        q_ptr, k_ptr, mask_ptr, keys, valid, queries, real, scale, D, BLOCK_K, BLOCK_D, WIDEN
    )
    if parent_ptr is None:
        s = tl.where(valid[:, None], s, float('-inf'))
        largest = tl.max(s, 0)
        p = tl.exp(s - largest[None, :])
        total = tl.sum(p, 0)
        p = p / total[None, :]
        tl.store(lse_ptr + queries, largest + tl.log(total), mask=real)
    else:
        slot = tl.arange(0, BLOCK_K)
        above = tl.load(parent_ptr + parent * K + slot, mask=slot < K, other=0.0)
        p = _siblings_softmax(s, BLOCK_K) * above[:, None, None]
        p = tl.reshape(p, (4 * BLOCK_K, 8))
    if weight_ptr is not None:
        tl.store(weight_ptr + places, p, mask=inside)
    if out_ptr is not None:
        if dropped_ptr is not None:
            dropped = tl.load(dropped_ptr + places, mask=inside, other=0)
            p = tl.where(dropped != 0, 0.0, p)
        for d in range(0, D, BLOCK_D):
            out = _sum_rows(v_ptr, node_ptr, parent, p, d, K, D, BLOCK_K, BLOCK_D, BLOCK_C, WIDEN)
            _store_rows(out_ptr, queries, real, d, out, D, BLOCK_D)


@triton.jit
def _query_gradient(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_out_ptr,
    parent_ptr,
    mask_ptr,
    dropped_ptr,
    grad_weight_ptr,
    lse_ptr,
    node_ptr,
    delta_ptr,
    grad_q_ptr,
    grad_parent_ptr,
    scale,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Gradients of four queries, of their candidates' scores, and ``sum(p * dp)`` per query."""
    parent = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, 8)
    queries, real = parent * 4 + lane, lane < 4
    c = tl.arange(0, 4 * BLOCK_K)
    keys, valid = _load_keys(node_ptr, parent, c, K)

    s, seen = _scores(
        q_ptr, k_ptr, mask_ptr, keys, valid, queries, real, scale, D, BLOCK_K, BLOCK_D, WIDEN
    )
    dp = _products(v_ptr, grad_out_ptr, keys, valid, queries, real, D, BLOCK_K, BLOCK_D, WIDEN)
    if parent_ptr is None:
        lse = tl.load(lse_ptr + queries, mask=real, other=0.0)
        p = tl.exp(s - lse[None, :])
        if mask_ptr is not None:  # a query that sees nothing weighs all candidates alike
            p = tl.where((lse > _LOWEST / 2)[None, :], p, 1.0 / (4 * K))
        p = tl.where(valid[:, None], p, 0.0)
        delta = tl.sum(p * dp, 0)
        tl.store(delta_ptr + queries, delta, mask=real)
        ds = p * (dp - delta[None, :])
    else:
        if dropped_ptr is not None:
            places = queries[None, :] * (4 * K) + c[:, None]
            inside = real[None, :] & valid[:, None]
            dropped = tl.load(dropped_ptr + places, mask=inside, other=0)
            grad_weight = tl.load(grad_weight_ptr + places, mask=inside, other=0.0)
            dp = tl.where(dropped != 0, grad_weight, dp)
        slot = tl.arange(0, BLOCK_K)
        above = tl.load(parent_ptr + parent * K + slot, mask=slot < K, other=0.0)
        p = _siblings_softmax(s, BLOCK_K)
        dp = tl.reshape(dp, (BLOCK_K, 4, 8))
        delta = tl.sum(p * dp, 1)
        # Columns beyond the four queries have dp = 0.
        tl.store(grad_parent_ptr + parent * K + slot, tl.sum(delta, 1), mask=slot < K)
        ds = p * (dp - delta[:, None, :]) * above[:, None, None]
        ds = tl.reshape(ds, (4 * BLOCK_K, 8))
    if mask_ptr is not None:
        ds = tl.where(seen[:, None], ds, 0.0)
    ds *= scale
    for d in range(0, D, BLOCK_D):
        grad_q = _sum_rows(k_ptr, node_ptr, parent, ds, d, K, D, BLOCK_K, BLOCK_D, BLOCK_C, WIDEN)
        _store_rows(grad_q_ptr, queries, real, d, grad_q, D, BLOCK_D)


@triton.jit
def _key_value_gradient(
    q_ptr,
    k_ptr,
    v_ptr,
    grad_out_ptr,
    parent_ptr,
    mask_ptr,
    dropped_ptr,
    grad_weight_ptr,
    lse_ptr,
    delta_ptr,
    entry_ptr,
    first_ptr,
    further_ptr,
    owner_ptr,
    sum_ptr,
    grad_k_ptr,
    grad_v_ptr,
    scale,
    num_parents,
    FURTHER: tl.constexpr,
    LIST_LENGTH: tl.constexpr,
    BLOCK_G: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Gradients of ``BLOCK_D`` columns of four sibling keys and values.

    With ``FURTHER`` a program sums a part of a long list beyond its first ``LIST_LENGTH`` entries;
    without, it sums the first ones of a list, adds what its further parts gave, and writes.
    """
    program, own = tl.program_id(0), tl.program_id(1) * BLOCK_D
    part = 0
    parent = program
    if FURTHER:
        parent = tl.load(owner_ptr + program)
        if parent >= num_parents:
            return
        part = program - tl.load(further_ptr + parent) + 1
    begin = tl.load(first_ptr + parent) + part * LIST_LENGTH
    end = tl.minimum(begin + LIST_LENGTH, tl.load(first_ptr + parent + 1))

    child = tl.arange(0, 8)
    keys, real = parent.to(tl.int64) * 4 + child, child < 4
    k = _load_rows(k_ptr, keys, real, own, D, BLOCK_D)
    v = _load_rows(v_ptr, keys, real, own, D, BLOCK_D)
    if mask_ptr is not None:
        seen = tl.load(mask_ptr + keys, mask=real, other=1) != 0
    grad_k = tl.zeros((BLOCK_D, 8), tl.float32)
    grad_v = tl.zeros((BLOCK_D, 8), tl.float32)
    lane = tl.arange(0, 4 * BLOCK_G)
    for start in range(begin, end, BLOCK_G):
        at = start + lane // 4
        listed = at < end
        entry = tl.load(entry_ptr + at, mask=listed, other=0)
        queries = (entry // K).to(tl.int64) * 4 + lane % 4
        q = _load_rows(q_ptr, queries, listed, own, D, BLOCK_D)
        grad_out = _load_rows(grad_out_ptr, queries, listed, own, D, BLOCK_D)
        s = _dot(q, tl.trans(k), WIDEN)
        dp = _dot(grad_out, tl.trans(v), WIDEN)
        for step in range(BLOCK_D, D, BLOCK_D):
            d = (own + step) % (tl.num_programs(1) * BLOCK_D)
            x = _load_rows(q_ptr, queries, listed, d, D, BLOCK_D)
            s += _dot(x, tl.trans(_load_rows(k_ptr, keys, real, d, D, BLOCK_D)), WIDEN)
            x = _load_rows(grad_out_ptr, queries, listed, d, D, BLOCK_D)
            dp += _dot(x, tl.trans(_load_rows(v_ptr, keys, real, d, D, BLOCK_D)), WIDEN)
        s *= scale
        inside = listed[:, None] & real[None, :]
        if mask_ptr is not None:
            s = tl.where(seen[None, :], s, _LOWEST)
        if parent_ptr is None:
            lse = tl.load(lse_ptr + queries, mask=listed, other=0.0)
            delta = tl.load(delta_ptr + queries, mask=listed, other=0.0)
            p = tl.exp(s - lse[:, None])
            if mask_ptr is not None:
                p = tl.where((lse > _LOWEST / 2)[:, None], p, 1.0 / (4 * K))
            p = tl.where(inside, p, 0.0)
            ds = p * (dp - delta[:, None])
        else:
            s = tl.where(real[None, :], s, float('-inf'))
            p = tl.exp(s - tl.max(s, 1)[:, None])
            p = p / tl.sum(p, 1)[:, None]
            above = tl.load(parent_ptr + entry, mask=listed, other=0.0)
            if dropped_ptr is not None:
                places = queries * (4 * K) + (entry % K) * 4
                places = places[:, None] + child[None, :]
                dropped = tl.load(dropped_ptr + places, mask=inside, other=0) != 0
                grad_weight = tl.load(grad_weight_ptr + places, mask=inside, other=0.0)
                dp = tl.where(dropped, grad_weight, dp)
            ds = p * (dp - tl.sum(p * dp, 1)[:, None]) * above[:, None]
            p = p * above[:, None]
            if dropped_ptr is not None:
                p = tl.where(dropped, 0.0, p)
        if mask_ptr is not None:
            ds = tl.where(seen[None, :], ds, 0.0)
        grad_v += _dot(tl.trans(grad_out), p.to(grad_out.dtype), WIDEN)
        grad_k += _dot(tl.trans(q), (ds * scale).to(q.dtype), WIDEN)

    grad_k, grad_v = tl.trans(grad_k), tl.trans(grad_v)
    if FURTHER:
        _store_rows(sum_ptr, program * 8 + child, real, own, grad_k, D, BLOCK_D)
        _store_rows(sum_ptr, program * 8 + 4 + child, real, own, grad_v, D, BLOCK_D)
    else:
        for index in range(tl.load(further_ptr + parent), tl.load(further_ptr + parent + 1)):
            grad_k += _load_rows(sum_ptr, index * 8 + child, real, own, D, BLOCK_D)
            grad_v += _load_rows(sum_ptr, index * 8 + 4 + child, real, own, D, BLOCK_D)
        _store_rows(grad_k_ptr, keys, real, own, grad_k, D, BLOCK_D)
        _store_rows(grad_v_ptr, keys, real, own, grad_v, D, BLOCK_D)


def _case(dtype: torch.dtype, D: int, K: int, kind: str, topk: int, masked: bool) -> None:
    """Run forward and backward once, for :data:`COMPILE_CASES`."""
    q, k, v = torch.zeros(3, 1, 16 * K, D, dtype=dtype).requires_grad_().unbind()
    index = torch.arange(K).expand(1, 4 * K, K)
    parent_score = torch.ones(index.shape) if kind == 'A' else None
    key_mask = torch.ones(k.shape[:2], dtype=torch.bool) if masked else None
    out = fine_level(q, k, v, index, parent_score, key_mask, scale=1.0, topk=topk)[0]
    out.backward(torch.zeros_like(out))


#: Calls whose kernels ``benchmarks/compile_kernels.py`` compiles.
COMPILE_CASES = {
    f'{str(dtype)[6:]} D={D} K={K} kind={kind} topk={topk} masked={masked}': partial(
        _case, dtype, D, K, kind, topk, masked
    )
    for dtype, D, K, kind, topk, masked in (
        (torch.bfloat16, 64, 8, 'B', 8, False),
        (torch.bfloat16, 64, 8, 'A', 8, True),
        (torch.bfloat16, 32, 32, 'B', 0, True),
        (torch.float16, 128, 32, 'A', 32, True),
        (torch.float32, 32, 8, 'B', 8, False),
        (torch.float32, 64, 16, 'A', 0, True),
        (torch.float32, 64, 32, 'B', 0, True),
        (torch.float32, 128, 32, 'A', 32, False),
    )
}
