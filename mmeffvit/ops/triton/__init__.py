"""Triton kernels, one module per op; imported by :mod:`mmeffvit.ops.dispatch` on first use.

They were run in Triton's interpreter and compiled for sm_80, sm_90 and sm_100; no GPU was at hand.
"""
