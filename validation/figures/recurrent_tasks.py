"""Tasks for recurrent networks, and training runs on them by any optimizer and the processor's clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from autodiff import Network, glorot_initialisation
from autodiff.arrays import combination
from autodiff.objective import evaluate
from kfac_ref.curvature.factors import averaging_weight
from kfac_ref.optimizer import Diverged, State
from kfac_ref.training import loop
from validation.work import Arrays, Work, first_to_be_had

EVALUATED = 5000
"""Training cases that are evaluated, at most: the first."""
XI_MAX = 0.95
"""Bound of the weight ξ with which iterates are averaged, where they are."""
COLUMNS = ("k", "seconds", "train", "test")


@dataclass(frozen=True)
class Task:
    """What is to be learned, by which network."""

    name: str
    network: Network
    data: loop.Data
    about: str
    """For captions."""
    measure: str
    """What the errors are: of `Evaluation`, "misclassified" or "error"."""
    averaged: bool
    """Whether the errors are those of averaged iterates, for all optimizers alike."""
    constants: Mapping[str, Any]
    """K-FAC's, in place of the preset's."""
    levels: Sequence[float]
    """Training errors that the table asks for."""

    def start(self) -> list[np.ndarray]:
        """Initial parameters: Glorot's, float32."""
        return [W.astype(np.float32) for W in glorot_initialisation(self.network, 0)]


def rows_of_images(quick: bool, units: int) -> Task:
    """A class from an image's rows, one after the other, of Fashion-MNIST; quickly, and without it, of fashion16."""
    dataset = first_to_be_had("fashion16") if quick else first_to_be_had("fashion", "fashion16")
    assert dataset.image_shape is not None and dataset.Y is not None
    assert dataset.X_test is not None and dataset.Y_test is not None
    arrays = (dataset.X, dataset.Y, dataset.X_test, dataset.Y_test)
    data = loop.Data(*(x.astype(np.float32) for x in arrays))
    layers = [{"kind": "recurrent", "out": units}, {"kind": "dense", "out": dataset.Y.shape[1]}]
    network = Network.of(layers, dataset.image_shape, "categorical")
    T, d = dataset.image_shape
    about = f"a class from the {T} rows of {d} pixels of an image of {dataset.name}, {len(dataset.X)} training cases"
    constants = {"lambda0": 0.1, "lambda_min": 0.02, "tau2": 0.5}
    return Task(
        "rows", network, data, about, "misclassified", True, constants, (0.3, 0.25, 0.2, 0.17, 0.15, 0.13, 0.12, 0.11)
    )


def adding_problem(T: int, cases: int, units: int) -> Task:
    """The sum of the two marked ones of T numbers (Hochreiter & Schmidhuber 1997)."""
    data = loop.Data(*(x.astype(np.float32) for seed, n in ((0, cases), (1, 1000)) for x in sums(T, n, seed)))
    network = Network.of([{"kind": "recurrent", "out": units}, {"kind": "dense", "out": 1}], (T, 2), "gaussian")
    about = (
        f"the adding problem, the sum of two of {T} uniform numbers, one marked in each half, {cases} training "
        "sequences; the best constant has an error of 0.167"
    )
    constants = {"lambda0": 1.0, "lambda_min": 0.0}
    return Task("adding", network, data, about, "error", False, constants, (0.1, 0.03, 0.01, 0.003, 0.001))


def sums(T: int, cases: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """X (cases, T, 2), numbers and marks, and Y (cases, 1)."""
    rng = np.random.default_rng([seed, T])
    X = np.stack([rng.random((cases, T)), np.zeros((cases, T))], axis=2)
    marked = np.stack([rng.integers(0, T // 2, cases), rng.integers(T // 2, T, cases)], axis=1)
    every = np.arange(cases)[:, None]
    X[every, marked, 1] = 1.0
    return X, X[every, marked, 0].sum(1, keepdims=True)


def run(work: Work, task: Task, optimizer: Any, name: str, at: Sequence[int]) -> Arrays:
    """Train, or take what the folder keeps.

    Seconds are the processor's, in one BLAS thread, without those of evaluation.

    Parameters
    ----------
    optimizer : with `settings`, `network`, `init` and `step`, as K-FAC and SGD are.
    name : of what is kept.
    at : the iterations after which there is an evaluation, increasing; the last is the last.

    Returns
    -------
    Arrays k, seconds, train and test (errors); and diverged, whether the objective was not finite any more, which ends
    a run.
    """
    described = {
        "task": [task.name, str(task.network), task.about, task.measure, task.averaged],
        "optimizer": type(optimizer).__name__,
        "settings": {key: str(value) for key, value in asdict(optimizer.settings).items()},
        "at": list(at),
        "xi_max": XI_MAX,
    }
    return work.kept(f"recurrent-{task.name}-{name}", described, lambda: _course(task, optimizer, name, at))


def _course(task: Task, optimizer: Any, name: str, at: Sequence[int]) -> dict[str, Any]:
    state = optimizer.init(task.start())
    average, spent, diverged, rows = state.parameters, 0.0, False, []
    with (
        threadpool_limits(1),
        np.errstate(over="ignore", invalid="ignore"),
        tqdm(total=at[-1], desc=f"{task.name}, {name}", unit="it", leave=False, disable=None) as bar,
    ):
        steps = loop.iterate(optimizer, state, task.data)
        while state.k < at[-1]:
            start = time.process_time()
            try:
                state, _, _ = next(steps)
            except Diverged:
                diverged = True
                break
            spent += time.process_time() - start
            bar.update()
            average = _averaged(state, average) if task.averaged else state.parameters
            if state.k in at:
                rows.append((state.k, spent, *_errors(task, average)))
    columns = np.array(rows).reshape(-1, len(COLUMNS)).T
    return dict(zip(COLUMNS, columns, strict=True)) | {"diverged": diverged}


def _averaged(state: Any, average: list[np.ndarray]) -> list[np.ndarray]:
    """By the rule of §13, for all optimizers, as the state of most has no average."""
    if isinstance(state, State):
        return state.averaged
    xi = averaging_weight(state.k, XI_MAX)
    return [combination(xi, a, 1 - xi, W) for a, W in zip(average, state.parameters, strict=True)]


def _errors(task: Task, parameters: list[np.ndarray]) -> tuple[float, float]:
    """Of training and test cases."""
    data = task.data
    parts = ((data.X[:EVALUATED], data.Y[:EVALUATED]), (data.X_test, data.Y_test))
    train, test = (getattr(evaluate(task.network, parameters, X, Y), task.measure) for X, Y in parts)
    return float(train), float(test)
