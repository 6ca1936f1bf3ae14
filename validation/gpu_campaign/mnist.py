"""MNIST trained as the authors did until time is up: preset `authors`, block-tridiagonal, to iteration 1500 at most.

Beside the errors, every 50 iterations, are those of the authors' program and those of this project's runs on a CPU, the
least and the largest of their seeds. Seconds are those of training, without evaluations. The target is the authors'
training error at iteration 150, looked for at each iteration whose mini-batch comes near it.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodiff import arrays
from kfac_ref.machine import at_full_speed
from kfac_ref.training import loop
from kfac_ref.training.experiment import prepare
from validation import reference_run
from validation.gpu_campaign import part
from validation.race import TARGET
from validation.reference_run import EVERY

ON_A_CPU = Path(__file__).parents[1] / "results" / "reference-run-mnist-block-tridiagonal.txt"
ITERATIONS = 1500
NEAR = 1.1
"""How many times the target the error on the mini-batch is at most when all training cases are looked at."""
FIRST = 5
"""Iterations told apart, as kernels are compiled in them."""
HEADING = (
    f"{'':>9}  {'':>8}  {'training error':^34}  {'test error':^34}\n"
    f"{'iteration':>9}  {'seconds':>8}" + f"  {'here':>8}  {'authors':>8}  {'on a CPU':>14}" * 2
)


def on_a_cpu(text: str) -> dict[int, list[tuple[float, float]]]:
    """Training and test errors of each seed, by iteration, from what `reference-run` printed."""
    found: dict[int, list[tuple[float, float]]] = {}
    for row in re.findall(r"^ +(\d+(?: +[\d.–]+){8})$", text, re.M):
        k, _, train, _, _, test, *_ = row.split()
        found.setdefault(int(k), []).append((float(train), float(test)))
    return found


def between(values: Sequence[float]) -> str:
    """The least and the largest."""
    return f"{min(values):.3f}–{max(values):.3f}" if values else "–"


def line(k: int, seconds: float, ours: Mapping[str, Any], authors: Mapping[str, Any], cpu: Sequence[Any]) -> str:
    """A row of the table; a row of the authors or of a CPU may be empty."""
    cells = []
    for number, error in enumerate(("train_error", "test_error")):
        theirs = f"{authors[error]:.4f}" if authors else "–"
        cells.append(f"  {ours[error]:>8.4f}  {theirs:>8}  {between([row[number] for row in cpu]):>14}")
    return f"{k:>9}  {seconds:>8.2f}{''.join(cells)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line every 50 iterations, and one when the target is reached."""
    options = part.options(__doc__, arguments)
    start = time.perf_counter()
    constants = {"inverse": "block-tridiagonal"}
    prepared = prepare(reference_run.experiment("mnist", backend=options.backend, constants=constants))
    print(
        f"{prepared.network}, float32 on {options.backend}; loaded in {time.perf_counter() - start:.1f} s", flush=True
    )
    authors = {row["k"]: row for row in reference_run.authors_run("mnist").rows}
    cpu = on_a_cpu(ON_A_CPU.read_text(encoding="utf-8"))
    settings, data, like = prepared.optimizer.settings, prepared.data, prepared.data.X
    print(f"target: a training error of {TARGET}\n\n{HEADING}", flush=True)
    reached, total, k, m = False, 0.0, 0, 0
    with at_full_speed(prepared.network.widest if arrays.is_numpy(like) else 1):
        steps = loop.iterate(prepared.optimizer, prepared.first_state(), data)
        while k < ITERATIONS and options.clock.left > 0:
            begin = time.perf_counter()
            state, record, _ = next(steps)
            arrays.wait(like)
            total += time.perf_counter() - begin
            k, m = record.k, record.m
            near = not reached and record.error < NEAR * TARGET
            if k == FIRST:
                print(f"first {FIRST} iterations: {total:.2f} s", flush=True)
            if k % EVERY and not near:
                continue
            values = loop.evaluate_all(prepared.network, state, data, settings.eta, settings.chunk_size)
            at_target = not reached and (values["train_error"] or float("inf")) <= TARGET
            if k % EVERY == 0 or at_target:
                print(line(k, total, values, authors.get(k, {}), cpu.get(k, ())), flush=True)
            if at_target:
                reached = True
                print(f"target reached: {total:.2f} s, iteration {k}", flush=True)
    print(f"\n{k} of {ITERATIONS} iterations in {total:.2f} s of training; mini-batches of {m} cases at the end")
    print("" if reached else f"the target, a training error of {TARGET}, was not reached")
    return part.DONE


if __name__ == "__main__":
    sys.exit(main())
