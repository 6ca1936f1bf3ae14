"""Many processes on MPI, which is imported only where a program was started by `mpiexec`, `srun` or the like."""

from __future__ import annotations

import functools
import os
import sys
import time
import traceback
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from autodiff import trees
from autodiff.arrays import Array, from_numpy, namespace, to_numpy
from kfac_ref.machine import cores
from kfac_ref.machine.nccl import device_sum
from kfac_ref.machine.processes import ALONE, Processes, Traffic

T = TypeVar("T")

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PALS_SIZE", "SLURM_STEP_NUM_TASKS")
"""In the environment of a process that was started as one of many: how many, as MPICH (and what is made from it),
Open MPI, MPICH on one machine, Cray's PALS and Slurm's srun say."""


RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "SLURM_PROCID")
"""Likewise which one."""
MOMENT = 1.0
"""Seconds that other processes than the first wait before they say what ends all."""


def started_alone() -> bool:
    """Whether this process was started alone."""
    return launched() == 1


def started_first() -> bool:
    """Whether this process was started as the first of many, or alone, as the environment says."""
    return launched() == 1 or rank() == 0


def rank() -> int:
    """Which of the processes that it was started with this one is, as the environment says."""
    return max(int(value) for name in RANKS if (value := os.environ.get(name, "0")).isdigit())


def launched() -> int:
    """How many processes this one was started as one of, as the environment says; 1 for a plain start."""
    return max((int(value) for name in SIZES if (value := os.environ.get(name, "")).isdigit()), default=1)


def found() -> Processes:
    """The processes that this one was started with: `ALONE` for a plain start, which never imports MPI.

    ValueError if there are several and mpi4py is not installed.
    """
    if launched() == 1:
        return ALONE
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ValueError(
            f'started as one of {launched()} processes, but mpi4py is not installed (pip install "kfac-ref[mpi]")'
        ) from error
    return _world() if MPI.COMM_WORLD.size > 1 else ALONE


@functools.cache
def _world() -> MPIProcesses:
    from mpi4py import MPI

    return MPIProcesses(MPI.COMM_WORLD)


def end_all(message: str, code: int) -> None:
    """Say why, and end all processes that this one was started with.

    The first process does so at once and the others after a moment, so that what all have to say is said once.
    """
    if not started_first():
        time.sleep(MOMENT)
        message = f"process {rank()} of 0 … {launched() - 1} ends all: {message}"
    print(message, file=sys.stderr, flush=True)
    try:
        from mpi4py import MPI
    except ImportError:
        return
    MPI.COMM_WORLD.Abort(code)


class MPIProcesses(Processes):
    """The processes of an MPI communicator.

    An exception that ends one of them ends all, within seconds, and says which it was. Sums are bit for bit the same in
    all processes, as of every MPI known here, although its standard does not promise it.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        `MPI.COMM_WORLD`, say.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        super().__init__()
        self.comm = comm
        self.number, self.index = comm.size, comm.rank
        self._mpi = MPI
        self._device_sum: Any = None
        beside = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.on_machine = beside.rank
        usable = set().union(*beside.allgather(cores.usable()))
        self.threads = max(1, min(len(usable) // beside.size, len(cores.usable())))
        beside.Free()
        sys.excepthook = _end_all

    def sum(self, tree: T, what: str = "") -> T:
        """As of `Processes`. One message for each dtype in `tree`, under way together."""
        emptied, found = trees.apart(tree)
        by_dtype: dict[Any, list[int]] = {}
        for i, x in enumerate(found):
            by_dtype.setdefault(x.dtype, []).append(i)
        start = time.perf_counter()
        messages = [self._flat([found[i] for i in places]) for places in by_dtype.values()]
        self._add(messages)
        self._count(what, len(messages), sum(x.nbytes for x in messages), time.perf_counter() - start)
        for flat, places in zip(messages, by_dtype.values(), strict=True):
            end = 0
            for i in places:
                start_, end = end, end + int(np.prod(found[i].shape, dtype=int))
                found[i] = _as(flat[start_:end].reshape(found[i].shape), found[i])
        return trees.together(emptied, found)

    def gather(self, value: T, what: str = "", like: Array | None = None) -> list[T]:
        """As of `Processes`: what is no array first, then all arrays' bytes as one message."""
        emptied, found = trees.apart(value)
        start = time.perf_counter()
        kinds = [(tuple(x.shape), np.dtype(str(x.dtype).rpartition(".")[2])) for x in found]
        described = self.comm.allgather((emptied, kinds))
        counts = [
            sum(int(np.prod(shape, dtype=int)) * dtype.itemsize for shape, dtype in kinds) for _, kinds in described
        ]
        parts = [np.ascontiguousarray(to_numpy(x)).reshape(-1).view(np.uint8) for x in found]
        flat = np.concatenate(parts) if parts else np.empty(0, np.uint8)
        received = np.empty(sum(counts), np.uint8)
        if len(received):
            self.comm.Allgatherv(flat, [received, counts])
        self._count(what, 2, received.nbytes, time.perf_counter() - start)
        end, values = 0, []
        for emptied_, kinds_ in described:
            arrays: list[Array] = []
            for shape, dtype in kinds_:
                start_, end = end, end + int(np.prod(shape, dtype=int)) * dtype.itemsize
                x = received[start_:end].copy().view(dtype).reshape(shape)
                arrays.append(x if like is None else from_numpy(x, like))
            values.append(trees.together(emptied_, arrays))
        return values

    def tell(self, value: T, what: str = "") -> T:
        """As of `Processes`. Arrays of other libraries are to be brought to the host first."""
        start = time.perf_counter()
        told = self.comm.bcast(value if self.first else None, root=0)
        self._count(what, 1, 0, time.perf_counter() - start)
        return told

    def deal(self, x: np.ndarray | None) -> np.ndarray | None:
        """As of `Processes.deal`: the rows of one process after the other, so that no other ever holds all."""
        if not self.first:
            described = self.comm.recv(source=0)
            if described is None:
                return None
            shape, dtype = described
            mine = np.empty(shape, dtype)
            self.comm.Recv(mine, source=0)
            return mine
        for p in range(1, self.number):
            part = None if x is None else np.ascontiguousarray(x[p :: self.number])
            self.comm.send(None if part is None else (part.shape, part.dtype), dest=p)
            if part is not None:
                self.comm.Send(part, dest=p)
        return None if x is None else np.ascontiguousarray(x[:: self.number])

    def _flat(self, found: list[Array]) -> Array:
        if _on_host(found[0]):
            return np.concatenate([np.ravel(x) for x in found])
        xp = namespace(found[0])
        flat = xp.concat([xp.reshape(x, (-1,)) for x in found])
        if self._device_sum is None:
            self._device_sum = device_sum(flat, self.index, self.number) or False
        return flat if self._device_sum else np.array(to_numpy(flat))

    def _add(self, messages: list[Array]) -> None:
        on_host = [x for x in messages if _on_host(x)]
        waiting = [self.comm.Iallreduce(self._mpi.IN_PLACE, x) for x in on_host]
        for x in messages:
            if not _on_host(x):
                self._device_sum(x)
        self._mpi.Request.Waitall(waiting)

    def _count(self, what: str, messages: int, size: int, seconds: float) -> None:
        traffic = self.traffic.setdefault(what or "other", Traffic())
        traffic.messages += messages
        traffic.bytes += size
        traffic.seconds += seconds


def _end_all(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    end_all("".join(traceback.format_exception(kind, error, where)), 1)


def _as(x: Array, like: Array) -> Array:
    """x, on the host or where `like` is, in the library of `like`."""
    return from_numpy(x, like) if _on_host(x) and not _on_host(like) else x


def _on_host(x: Array) -> bool:
    return isinstance(x, (np.ndarray, np.generic))
