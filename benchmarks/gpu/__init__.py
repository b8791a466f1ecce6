"""Correctness and speed on a GPU; ``benchmarks/gpu_check.sh`` runs it."""
