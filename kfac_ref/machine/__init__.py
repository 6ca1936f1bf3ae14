"""How a run uses the machine: BLAS threads and kernel, cores that runs share, memory that is kept, subnormals."""

from kfac_ref.machine.blas import NARROW, at_full_speed, blas_warning, suit_threads

__all__ = ["NARROW", "at_full_speed", "blas_warning", "suit_threads"]
