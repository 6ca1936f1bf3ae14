"""Measures seconds an iteration, where they go, how much of the machine they use, and how they grow.

K-FAC with each inverse on the networks of §13 and on a convolutional classifier, the bare gradient, a step of SGD and
the machine's own matrix product take turns, round after round, and with --peers JAX and kfac-jax with them. Seconds are
over whole cycles of 20 iterations, after the first 20. Work is counted from shapes (flops.py), of fully connected
networks: a symmetric product half, the inverse of an n×n factor n³, a symmetric eigenproblem 9n³. Settings are the
presets `paper` and `authors`, and `whole` for τ₁ = τ₂ = 1 with T₃ = 20, which is the work that kfac-jax does; the
mini-batch stays as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from autodiff import arrays
from kfac_ref.command import plots
from kfac_ref.data.files import write_text
from kfac_ref.machine import blas_warning
from validation.benchmark import drawing, processes, rounds, scaling, subnormals, tables
from validation.benchmark.peer import Peer
from validation.benchmark.problems import CONV, CONV_MINIBATCHES, MINIBATCHES, NETWORKS, SETTINGS, load
from validation.benchmark.rounds import Group
from validation.benchmark.scaling import Point
from validation.figures.drawn import as_text
from validation.work import machine

MAIN = ("mnist", 1000)
"""The network and mini-batch that have all SETTINGS, and three cycles; the others have `paper`, and one."""
STARTS = 3
"""How often the command is started."""


@dataclass(frozen=True)
class Results:
    """What was measured."""

    groups: list[Group]
    points: list[Point]
    memory: int | None = None
    """Bytes; see `processes`."""
    peer_memory: int | None = None
    start: list[float] | None = None
    """Seconds of each start."""


def measure(only: Sequence[str], minibatches: Sequence[int], backend: str, peers: str | None) -> Results:
    """Measure what `only` names: networks, and scaling."""
    alone: dict[str, Any] = {}
    groups: list[Group] = []
    points: list[Point] = []
    for name in (n for n in NETWORKS if n in only):
        problem = load(name, backend)
        # processes of their own first: at full speed, this one takes all cores
        if name == MAIN[0] and backend == "numpy" and not problem.made_up:
            alone["memory"] = processes.memory(name, "block-diagonal", MAIN[1])
            alone["peer_memory"] = processes.peer_memory(peers, problem, MAIN[1]) if peers else None
            alone["start"] = [processes.start(name) for _ in range(STARTS)]
        for m in CONV_MINIBATCHES if name == CONV else minibatches:
            settings, cycles = (tuple(SETTINGS), 3) if (name, m) == MAIN else (("paper",), 1)
            with (
                Peer(peers) if peers else nullcontext() as peer,
                tqdm(desc=f"{name}, m = {m}", unit="round", disable=None, leave=False) as bar,
            ):
                groups.append(rounds.measure(problem, m, settings, peer, cycles, bar.update))
    if "scaling" in only:
        with tqdm(desc="scaling", unit="case", disable=None, leave=False) as bar:
            points = scaling.measure(backend, bar.update)
    return Results(groups, points, **alone)


def count_subnormals(only: Sequence[str], iterations: int) -> list[tables.Row]:
    """Rows of the subnormal operands of products, of these networks in so many iterations."""
    rows = []
    for name in only:
        with tqdm(desc=f"{name}, subnormals", unit="iteration", disable=None, leave=False) as bar:
            rows += subnormals.measure(load(name, "numpy"), iterations, bar.update)
    return rows


def heading(results: Results, backend: str) -> str:
    """Where, when and on what all was measured."""
    lines = [machine(), f"float32 on {backend}; {datetime.now(UTC):%Y-%m-%d %H:%M UTC}"]
    if warning := blas_warning():
        lines.append(warning)
    threads = sorted({f"{g.network} {g.threads}" for g in results.groups if g.threads})
    if threads:
        lines.append(f"BLAS threads at work: {', '.join(threads)}")
    compiled = [f"{g.network}, m = {g.m}: {g.compile_seconds:.1f} s" for g in results.groups if g.compile_seconds]
    if compiled:
        lines.append(f"kfac-jax's compilation, not counted: {'; '.join(compiled)}")
    for peer in dict.fromkeys(", ".join(f"{x} {y}" for x, y in g.versions.items()) for g in results.groups):
        lines += [f"beside: {peer}"] * bool(peer)
    made_up = sorted({g.network for g in results.groups if g.made_up})
    if made_up:
        lines.append(f"on random cases, as the data cannot be had: {', '.join(made_up)}")
    return "\n".join(lines)


def contents(results: Results) -> dict[str, list[tables.Row]]:
    """All tables, by their titles."""
    groups = results.groups
    titled = {
        "Seconds an iteration": tables.seconds(groups),
        "Milliseconds an iteration by stage, means": tables.stages(groups),
        "Milliseconds of the bare gradient by layer, medians": tables.layers(groups),
        "Counted FLOP/s by stage, over those of the matrix product": tables.rates(groups),
        "How seconds an iteration grow": scaling.exponents(results.points),
        "Ratios": tables.ratios(groups, results.memory, results.peer_memory, results.start),
    }
    return {title: rows for title, rows in titled.items() if rows}


def draw(results: Results, out: Path) -> list[Path]:
    """Draw what was measured in a folder; the pictures."""
    figures = {}
    for name in dict.fromkeys(group.network for group in results.groups):
        figures[f"stages-{name}"] = drawing.stages([g for g in results.groups if g.network == name])
    if results.points:
        figures["scaling"] = drawing.scaling(results.points)
    paths = [out / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        plots.save(figure, path)
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation benchmark [--peers PYTHON] [--json FILE] [--out DIR] [--quick] [--only …]`."""
    parser = argparse.ArgumentParser(prog="python -m validation benchmark", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", help="the Python of an environment with JAX and kfac-jax")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw pictures there")
    parser.add_argument("--backend", choices=arrays.BACKENDS, default="numpy", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="mini-batches of 1000, by default of MNIST alone: minutes")
    parser.add_argument("--only", nargs="+", choices=(*NETWORKS, "scaling"), metavar="WHAT", help="%(choices)s")
    parser.add_argument(
        "--subnormals",
        type=int,
        metavar="N",
        help="instead, count the subnormal operands of products in N iterations of the networks of §13, on NumPy",
    )
    options = parser.parse_args(arguments)
    if options.subnormals is not None:
        if options.subnormals < 1:
            raise ValueError(f"--subnormals must be ≥ 1; got {options.subnormals}")
        print(heading(Results([], []), "numpy"), flush=True)
        print(f"\n{as_text(count_subnormals(options.only or NETWORKS[:-1], options.subnormals))}")
        return 0
    only = options.only or (MAIN[:1] if options.quick else (*NETWORKS, "scaling"))
    minibatches = (MAIN[1],) if options.quick else MINIBATCHES
    results = measure(only, minibatches, options.backend, options.peers)
    above, all_tables = heading(results, options.backend), contents(results)
    print(above)
    for title, rows in all_tables.items():
        print(f"\n{title}\n\n{as_text(rows)}")
    if options.json:
        text = json.dumps({"heading": above, "tables": all_tables, "measured": asdict(results)}, ensure_ascii=False)
        write_text(options.json, text + "\n")
    for path in draw(results, options.out) if options.out else ():
        print(f"\n{path}")
    return 0
