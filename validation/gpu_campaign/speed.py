"""Seconds an iteration on MNIST's network: the bare gradient, SGD and K-FAC, and PyTorch and JAX beside.

Both inverses, the presets `paper` and `authors`, mini-batches of 1000 and 8000. K-FAC's seconds are of a whole cycle of
20 iterations, after the first 20; the stages are told apart, and transfers counted, in a cycle of their own, as the
device must be waited for after each stage. FLOP are counted from shapes, as the benchmark does; "of matmul" is their
rate over that of a float32 product of large matrices in the same process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from autodiff import arrays
from autodiff.arrays import is_numpy, read_scalars, to_numpy
from autodiff.objective import loss
from autodiff.passes import ForwardPass
from kfac_ref.machine import at_full_speed
from kfac_ref.settings import INVERSES, Settings
from validation.benchmark import flops, methods, problems, rounds
from validation.benchmark.methods import Method, Row
from validation.benchmark.problems import Problem
from validation.benchmark.rounds import CYCLE, PIECE, Measured
from validation.figures.drawn import as_text
from validation.gpu_campaign import device, frameworks, part
from validation.gpu_campaign.part import Clock
from validation.gpu_campaign.transfers import counted

MINIBATCHES = (1000, 8000)
PRESETS = ("paper", "authors")
TF32_TOO = (methods.GRADIENT, rounds.name("authors", "block-tridiagonal"))
"""What is measured once more with products rounded to TF32."""
FRAMEWORK_SECONDS = 40.0
"""What PyTorch or JAX may take."""
MODEST = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""The environment in which JAX does not take most of the device's memory at once."""
SAME_H = 1e-3
"""How much a framework's h may differ from ours, relatively: in TF32 numbers have 10 bits of mantissa."""
HEADING = (
    f"{'':6}  {'':36}  {'median, ms':>10}  {'mean, ms':>10}  {'/ gradient':>10}  {'GFLOP':>8}  {'of matmul':>9}"
    f"  {'reads':>6}  {'uploads':>7}"
)


class Bench:
    """Measures, and prints a line for each measurement when it is made."""

    def __init__(self, problem: Problem, clock: Clock) -> None:
        self.problem, self.clock = problem, clock
        self.like = problem.data.X
        self.rate = device.rate(self.like, device.SIDE["numpy" if is_numpy(self.like) else "cupy"])
        self.gradients: dict[int, float] = {}
        """Seconds of the bare gradient, by m."""
        self.stages: list[dict[str, Any]] = []

    def line(
        self, m: int, name: str, seconds: Sequence[float], flop: float | None, counts: Sequence[float] = ()
    ) -> None:
        """Print a measurement; `counts` are reads and uploads an iteration."""
        mean = fmean(seconds)
        over = f"{mean / self.gradients[m]:.2f}" if m in self.gradients else "–"
        work = (f"{flop / 1e9:.1f}", f"{flop / mean / self.rate:.3f}") if flop else ("–", "–")
        passed = [f"{count:.2f}" for count in counts] or ["–", "–"]
        print(
            f"{m:>6}  {name:<36}  {1e3 * median(seconds):>10.3f}  {1e3 * mean:>10.3f}  {over:>10}  {work[0]:>8}"
            f"  {work[1]:>9}  {passed[0]:>6}  {passed[1]:>7}",
            flush=True,
        )

    def repeated(self, method: Method, count: int, split: bool = False) -> list[Row]:
        """So many repetitions; TimeIsUp in between."""
        rows: list[Row] = []
        for _ in range(0, count, PIECE):
            # one piece takes what the last one took, about
            self.clock.check(sum(row["seconds"] for row in rows[-PIECE:]))
            rows += method(PIECE, split)
        return rows

    def plain(self, m: int, name: str, method: Method, flop: float) -> bool:
        """Measure what has no stages."""
        self.repeated(method, PIECE)
        seconds = [row["seconds"] for row in self.repeated(method, CYCLE)]
        if name == methods.GRADIENT:
            self.gradients[m] = median(seconds)
        self.line(m, name, seconds, flop)
        return True

    def kfac(self, m: int, name: str, settings: Settings) -> bool:
        """Measure K-FAC: seconds, then stages and transfers."""
        method = methods.kfac(self.problem, settings)
        counts = flops.mean_over_cycle(self.problem.network.sizes, m, settings)
        self.repeated(method, CYCLE)
        rows = self.repeated(method, CYCLE)
        self.line(m, name, [row["seconds"] for row in rows], sum(counts.values()))
        with counted(self.like) as passed:
            split = self.repeated(method, CYCLE, split=True)
        of_stages = Measured(rows, split, counts).stages()
        self.stages.append(
            {"m": m, "method": name}
            | {stage: 1e3 * value for stage, value in of_stages.items()}
            | {"reads": passed.reads / CYCLE, "uploads": passed.uploads / CYCLE}
        )
        return True

    def framework(self, which: str) -> bool:
        """PyTorch or JAX, in a process of its own."""
        self.clock.check(1)
        with tempfile.TemporaryDirectory() as folder:
            problem, answers = Path(folder, "problem.npz"), Path(folder, "answers.txt")
            write_problem(self.problem, max(MINIBATCHES), problem)
            command = [sys.executable, frameworks.__file__, which, str(problem), *map(str, MINIBATCHES)]
            well = self._asked(command, answers, min(FRAMEWORK_SECONDS, self.clock.left), which)
            for answer in map(json.loads, answers.read_text(encoding="utf-8").splitlines()):
                well = self._same_network(answer) and well
                name = f"{answer['name']}, {answer['what']}, {answer['precision']}"
                name += f" ({answer['device']})" if answer["device"] == "cpu" and not is_numpy(self.like) else ""
                self.line(answer["m"], name, answer["seconds"], None)
        return well

    def _same_network(self, answer: dict[str, Any]) -> bool:
        """Whether a framework's h, if it says one, is what it is here."""
        if answer["h"] is None:
            return True
        X = self.problem.data.X[: answer["m"], :]
        value = loss(ForwardPass(self.problem.network, self.problem.parameters, X), X, Settings().eta)
        h = float(read_scalars(value.h)[0])
        if abs(answer["h"] - h) <= SAME_H * abs(h):
            return True
        print(f"{answer['name']}: h = {answer['h']:g}, but here {h:g}", flush=True)
        return False

    def _asked(self, command: Sequence[str], answers: Path, seconds: float, which: str) -> bool:
        with open(answers, "wb") as file:
            try:
                code = subprocess.run(command, stdout=file, timeout=seconds, check=False, env=MODEST).returncode
            except subprocess.TimeoutExpired:
                print(f"{which}: cut after {seconds:.0f} s", flush=True)
                return True
        if code == frameworks.MISSING:
            print(f"{which}: not there", flush=True)
            return True
        return code == 0


def write_problem(problem: Problem, cases: int, path: Path) -> None:
    """What `frameworks` reads."""
    network = problem.network
    settings = {
        "activations": [phi.name for phi in network.activations],
        "likelihood": network.likelihood.name,
        "eta": Settings().eta,
    }
    parameters: dict[str, Any] = {f"W_{i}": to_numpy(W) for i, W in enumerate(problem.parameters, start=1)}
    np.savez(path, settings=json.dumps(settings), X=to_numpy(problem.data.X[:cases, :]), **parameters)


def measurements(bench: Bench, m: int) -> list[tuple[str, Callable[[], bool]]]:
    """What is measured with mini-batches of m cases, in turn."""
    problem, flop = bench.problem, flops.gradient(bench.problem.network.sizes, m)
    todo: list[tuple[str, Callable[[], bool]]] = [
        (methods.GRADIENT, lambda: bench.plain(m, methods.GRADIENT, methods.gradient(problem, m), flop)),
        (methods.SGD_STEP, lambda: bench.plain(m, methods.SGD_STEP, methods.sgd(problem, m), flop)),
    ]
    for name in PRESETS:
        for inverse in INVERSES:
            label, settings = rounds.name(name, inverse), problems.settings(name, inverse, m)
            todo.append((label, partial(bench.kfac, m, label, settings)))
    if not is_numpy(bench.like):
        for label, measure in [one for one in todo if one[0] in TF32_TOO]:
            todo.append((f"{label}, TF32", partial(in_tf32, measure)))
    return [(f"m = {m}, {label}", measure) for label, measure in todo]


def in_tf32(measure: Callable[[], bool]) -> bool:
    """Measure with the operands of products rounded to TF32; the line below the word is of that."""
    arrays.backend("cupy-tf32")
    print("in TF32:", flush=True)
    try:
        return measure()
    finally:
        arrays.backend("cupy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each measurement, and the stages in the end."""
    options = part.options(__doc__, arguments)
    start = time.perf_counter()
    problem = problems.load("mnist", options.backend)
    made_up = ", on random cases, as the data cannot be had" * problem.made_up
    print(f"{problem.network}{made_up}; loaded in {time.perf_counter() - start:.1f} s", flush=True)
    # the BLAS has nothing to do for arrays that are not on the host
    with at_full_speed(problem.network.widest if is_numpy(problem.data.X) else 1):
        bench = Bench(problem, options.clock)
        print(f"float32 matmul: {bench.rate / 1e12:.3f} TFLOP/s\n\n{HEADING}", flush=True)
        first, *others = MINIBATCHES
        todo = measurements(bench, first)
        todo += [(which, partial(bench.framework, which)) for which in frameworks.FRAMEWORKS]
        todo += [one for m in others for one in measurements(bench, m)]
        code = part.one_by_one(options.clock, todo, still_there=lambda: to_numpy(bench.like[:1, :]))
    if bench.stages:
        print(f"\nMilliseconds an iteration by stage, and transfers an iteration\n\n{as_text(bench.stages)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
