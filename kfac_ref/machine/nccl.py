"""Sums over processes that stay on their GPUs: NCCL's all-reduce, where CuPy has it."""

from __future__ import annotations

from collections.abc import Callable

import array_api_compat

from autodiff.arrays import Array


def device_sum(like: Array, index: int, number: int) -> Callable[[Array], None] | None:
    """What sums an array of CuPy over processes in place, each with a device of its own, which is chosen already.

    None for arrays of other libraries, and where CuPy has no NCCL: sums then go by the host.
    """
    if not array_api_compat.is_cupy_array(like):
        return None
    try:
        from cupy.cuda import nccl
        from cupyx.distributed import init_process_group
    except ImportError:
        return None
    if not getattr(nccl, "available", False):
        return None
    group = init_process_group(number, index, backend="nccl", use_mpi=True)
    return lambda x: group.all_reduce(x, x, "sum")
