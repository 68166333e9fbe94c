"""Fused loops for CPUs. Imported only when used, because they bring numba."""
