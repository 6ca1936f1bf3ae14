"""How near each treatment of time is to the exact block of a recurrent layer, while it is trained (RNN §3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from autodiff.passes import ForwardPass
from kfac_ref import KFAC
from kfac_ref.curvature import damping, factors, fisher, recurrent
from kfac_ref.curvature.factors import TIMES, Kinds
from kfac_ref.settings import preset
from kfac_ref.training import loop, networks
from validation.figures.drawn import Drawn, Row
from validation.figures.matrices import relative_error
from validation.figures.palette import COLOURS, INDEPENDENT, STATIONARY, SYMMETRIC
from validation.figures.recurrent_tasks import Task, adding_problem, rows_of_images
from validation.work import Work

TITLE = "The block of a recurrent layer and its three approximations"
SECONDS = {"quick": 5, "full": 10}

LABELS = {"independent": INDEPENDENT, "symmetric": SYMMETRIC, "stationary": STATIONARY}
UNITS = 12
"""Of the recurrent layer, so that its block is small enough to be computed."""
LENGTHS = {True: (4, 8), False: (2, 4, 8, 16, 32)}
"""Steps T of the adding problem; quick and not."""
TRAINED = {True: (0, 10), False: (0, 50, 200)}
"""Iterations of K-FAC after which blocks are looked at."""
CASES = 500
"""Of which the exact block is the mean, and the factors."""
GAMMA = 1e-3
"""With which the factors are damped, so that Ψ exists, in units of the root of the mean diagonal of Ā ⊗ G."""


def draw(work: Work) -> Drawn:
    """The figure "recurrent-blocks"."""
    tasks = [adding_problem(T, 2000, UNITS) for T in LENGTHS[work.quick]]
    tasks.append(_small_images(rows_of_images(True, UNITS)))
    rows = [row for task in tasks for row in measured(work, task)]
    caption = (
        f"‖approximation − F_1,1‖_F/‖F_1,1‖_F for the block F_1,1 of a recurrent layer of {UNITS} tanh units, before "
        f"and in the course of training by K-FAC (stationary), mini-batches of {CASES} cases, float64; the exact block "
        f"and the factors are means over the first {CASES} cases and the model's own targets, nothing sampled; factors "
        f"damped with γ = {GAMMA:g} times the root of the mean diagonal of Ā ⊗ G, as Ψ needs Ā_0⁻¹ and G_0⁻¹. Tasks: "
        "the adding problem with T steps (left, after training), and images of fashion16 row by row, T = 16."
    )
    return Drawn(_figure(rows), caption, rows, {"errors": rows})


def _small_images(task: Task) -> Task:
    """As images have many pixels in a row, and blocks (d·p)² numbers, every second pixel alone."""
    network = task.network
    layers = [{"kind": "recurrent", "out": UNITS}, {"kind": "dense", "out": network.outputs}]
    T, d = network.input
    X = task.data.X.reshape(-1, T, d)[:, :, ::2]
    small = type(network).of(layers, (T, d // 2), network.likelihood)
    return replace(task, network=small, data=loop.Data(X, task.data.Y))


def measured(work: Work, task: Task) -> list[Row]:
    """The relative errors after each number of iterations."""
    constants = networks.SUITED | {"m1": CASES, "eta": 1e-5} | dict(task.constants)
    kfac = KFAC(task.network, preset("authors", time="stationary", **constants))
    data = loop.Data(task.data.X.astype(np.float64), task.data.Y.astype(np.float64))
    state: Any = kfac.init([W.astype(np.float64) for W in task.start()])
    steps = loop.iterate(kfac, state, data)
    rows: list[Row] = []
    for k in TRAINED[work.quick]:
        while state.k < k:
            state, _, _ = next(steps)
        forward_pass = ForwardPass(task.network, state.parameters, data.X[:CASES])
        row: dict[str, Any] = {"task": task.name, "T": task.network.input[0], "iterations": k}
        errors = block_errors(forward_pass)
        row |= {LABELS[time]: error for time, error in errors.items()}
        rows.append(row | {"nearest": LABELS[min(errors, key=lambda time: errors[time])]})
    return rows


def block_errors(forward_pass: ForwardPass) -> dict[str, float]:
    """The relative error of each treatment of time, for the first layer."""
    exact = factors.exact(forward_pass, Kinds(time="stationary"))
    A, G = exact.A[0, 0], exact.G[1, 1]
    gamma = GAMMA * float(np.sqrt(np.trace(A) / len(A) * np.trace(G) / len(G)))
    damped, F = damping.damp(exact, gamma), fisher.block(forward_pass, 1, 1)
    return {
        time: relative_error(recurrent.dense(damped.A[0, 0], damped.G[1, 1], exact.lagged[1, 1], time), F)
        for time in TIMES
    }


def _figure(rows: list[Row]) -> Figure:
    last = max(row["iterations"] for row in rows)
    figure = Figure(figsize=(9, 4), layout="constrained")
    by_T, course = figure.subplots(1, 2, sharey=True)
    adding = [row for row in rows if row["task"] == "adding" and row["iterations"] == last]
    images = [row for row in rows if row["task"] == "rows"]
    for label in LABELS.values():
        by_T.plot([row["T"] for row in adding], [row[label] for row in adding], "o-", color=COLOURS[label], label=label)
        course.plot([row["iterations"] for row in images], [row[label] for row in images], "o-", color=COLOURS[label])
    by_T.set(xlabel="steps T, the adding problem", ylabel="relative error of the block")
    course.set(xlabel="iterations of K-FAC, images row by row")
    by_T.set_xscale("log")
    by_T.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    by_T.xaxis.set_minor_formatter(NullFormatter())
    by_T.set_xticks([row["T"] for row in adding])
    by_T.set_ylim(0)
    by_T.legend(fontsize=8, frameon=False)
    for ax in (by_T, course):
        ax.spines[["top", "right"]].set_visible(False)
    return figure
