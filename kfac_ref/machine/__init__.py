"""How a run uses the machine: BLAS threads and kernel, cores that runs share, memory that is kept, subnormals."""

from kfac_ref.machine.blas import NARROW, at_full_speed, blas_warning, suit_threads
from kfac_ref.machine.mpi import end_all, started_alone, started_first
from kfac_ref.machine.mpi import found as processes_found
from kfac_ref.machine.processes import ALONE, Processes, agreed
from kfac_ref.machine.shared import at_shared_speed

__all__ = [
    "ALONE",
    "NARROW",
    "Processes",
    "agreed",
    "at_full_speed",
    "at_shared_speed",
    "blas_warning",
    "end_all",
    "processes_found",
    "started_alone",
    "started_first",
    "suit_threads",
]
