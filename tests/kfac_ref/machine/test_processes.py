"""Many processes: the same numbers as one, the same errors in all. By threads, and where there is MPI by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kfac_ref.machine import ALONE, mpi, processes
from kfac_ref.machine.processes import divided
from tests.kfac_ref.machine import many
from tests.kfac_ref.machine.threaded import together

TOLERANCE = 1e-12
FEW = ("verbs", "bernoulli block-tridiagonal", "unequal shares", "more processes than cases", "NaN", "resumed")
"""What is checked with five processes too, on machines that have fewer cores."""
ROOT = Path(__file__).parents[3]


def mpiexec(number: int, *command: str, **options) -> subprocess.CompletedProcess[str]:
    """`command` by so many processes; skips the test where there is no MPI."""
    return subprocess.run(launched(number, *command), capture_output=True, text=True, timeout=240, **options)


def launched(number: int, *command: str) -> list[str]:
    pytest.importorskip("mpi4py")
    program = shutil.which("mpiexec") or shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("there is no mpiexec")
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    flags = ["--allow-run-as-root", "--oversubscribe"] if "Open MPI" in said or "OpenRTE" in said else []
    return [program, *flags, "-n", str(number), sys.executable, *command]


def assert_small(numbers: dict[str, float]) -> None:
    assert numbers and {name: x for name, x in numbers.items() if not x <= TOLERANCE} == {}


def test_as_one_process():
    """θ, h, the error and ρ after 30 iterations, and the traces, of one process, to rounding, and all bit for bit
    alike; and errors that all raise."""

    def checked(own):
        many.Current.threads.processes = own
        return many.found()

    first, *others = together(3, checked)
    assert_small(first)
    assert all(numbers == first for numbers in others)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_by_mpi(number):
    done = mpiexec(number, "-m", "tests.kfac_ref.machine.many", *(FEW if number > 2 else ()), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert_small(json.loads(done.stdout))


def test_a_process_that_raises_ends_all():
    done = mpiexec(3, "-m", "tests.kfac_ref.machine.many", "raise", cwd=ROOT)
    assert done.returncode != 0
    assert "process 1 of 0 … 2 ends all:" in done.stderr and "RuntimeError: this one has had enough" in done.stderr


def test_a_plain_start_does_not_import_mpi():
    code = "import sys, kfac_ref.command.cli; kfac_ref.machine.processes_found(); print('mpi4py' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k not in mpi.SIZES}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", mpi.SIZES)
def test_being_one_of_many_is_seen_in_the_environment(name, monkeypatch, capsys):
    for other in (*mpi.SIZES, *mpi.RANKS):
        monkeypatch.delenv(other, raising=False)
    assert mpi.started_alone() and mpi.started_first() and mpi.found() is ALONE
    monkeypatch.setenv(name, "4")
    assert mpi.launched() == 4 and not mpi.started_alone() and mpi.started_first()
    monkeypatch.setenv("PMI_RANK", "2")
    assert not mpi.started_first()
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ValueError, match=r"one of 4 processes, but mpi4py is not installed .pip install"):
        mpi.found()
    monkeypatch.setattr(mpi, "MOMENT", 0.0)
    mpi.end_all("words", 2)
    assert capsys.readouterr().err == "process 2 of 0 … 3 ends all: words\n"


def test_one_process_hands_on_what_it_is_given():
    x = np.ones(3)
    assert ALONE.sum(x) is x and ALONE.tell(x) is x and ALONE.deal(x) is x
    assert ALONE.gather(x)[0] is x and ALONE.by_first(lambda: x) is x and ALONE.mean([2.0], 5) == [2.0]
    assert ALONE.first and ALONE.alone and ALONE.once(3.0) == 3.0 and ALONE.dealt(4).tolist() == [0, 1, 2, 3]
    with pytest.raises(KeyError):
        ALONE.agree(lambda: {}["x"])


def test_work_is_divided_largest_first():
    work = [5.0, 1.0, 4.0, 3.0, 3.0, 2.0]
    owners = divided(work, 2)
    assert [sum(w for w, owner in zip(work, owners, strict=True) if owner == p) for p in range(2)] == [9.0, 9.0]
    assert divided([2.0, 3.0], 4) == [1, 0]
    assert set(divided([1.0] * 7, 3)) == {0, 1, 2}


class Awkward(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_error_that_cannot_be_made_again_keeps_its_words():
    def act(own):
        def fail():
            if own.index == 1:
                raise Awkward("this", "that")

        with pytest.raises(ValueError, match="Awkward: process 1 of 0 … 1: this and that") as caught:
            own.agree(fail)
        return processes.agreed(caught.value)

    assert together(2, act) == [True, True]
    assert not processes.agreed(ValueError()) and not processes.agreed(None)
