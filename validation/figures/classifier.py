"""A classifier's training run by the processor's clock: what fraction it misclassifies after how many seconds."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from autodiff.arrays import combination
from autodiff.network import Parameters
from autodiff.objective import evaluate
from kfac_ref.baselines import SGDState
from kfac_ref.curvature.factors import averaging_weight
from kfac_ref.optimizer import Diverged
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, Prepared, prepare
from validation.work import Arrays, Work

CASES = 5000
"""Training cases that are evaluated, at most: the first."""
XI_MAX = 0.99
"""Bound of the weight ξ with which SGD's iterates are averaged."""
FIRST, GROWTH = 2.0, 1.4
"""Seconds of training before the first evaluation, and by how much more each next one has."""
COLUMNS = ("k", "seconds", "train", "test", "train_last", "test_last")


def run(work: Work, name: str, experiment: Experiment, seconds: float, iterations: int | None = None) -> Arrays:
    """Train for so many seconds or iterations, or take what the folder keeps.

    Seconds are the processor's, in one BLAS thread, without those of evaluation: what else the machine does matters
    least then. SGD's iterates are averaged here by the rule of §13, as its state has no average.

    Returns
    -------
    Arrays k, seconds, train and test (misclassified fractions) of the averaged iterate θ̄, train_last and test_last of
    θ itself; and diverged, whether the objective was not finite any more, which ends a run.
    """
    plan: dict[str, Any] = {"seconds": None if iterations else seconds, "iterations": iterations, "cases": CASES}
    plan |= {"xi_max": XI_MAX, "evaluate": [FIRST, GROWTH]}
    described = {"experiment": experiment.asdict()} | plan
    return work.kept(name, described, lambda: _course(experiment, seconds, iterations or math.inf))


def _course(experiment: Experiment, seconds: float, iterations: float) -> dict[str, Any]:
    p = prepare(experiment)
    state = p.first_state()
    average, spent, due, diverged = state.parameters, 0.0, FIRST if iterations == math.inf else math.inf, False
    rows: list[tuple[float, ...]] = []
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        steps = loop.iterate(p.optimizer, state, p.data)
        while state.k < iterations and spent < seconds:
            start = time.process_time()
            try:
                state, _, _ = next(steps)
            except Diverged:
                diverged = True
                break
            spent += time.process_time() - start
            if isinstance(state, SGDState):
                xi = averaging_weight(state.k, XI_MAX)
                average = [combination(xi, a, 1 - xi, W) for a, W in zip(average, state.parameters, strict=True)]
            else:
                average = state.averaged
            if spent >= min(due, seconds) or state.k == iterations:
                due = max(due * GROWTH, spent)
                errors = [error for W in (average, state.parameters) for error in _misclassified(p, W)]
                rows.append((state.k, spent, *errors))
    columns = np.array(rows).reshape(-1, 6).T
    return dict(zip(COLUMNS, columns, strict=True)) | {"diverged": diverged}


def _misclassified(p: Prepared, parameters: Parameters) -> list[float]:
    """Of training and test cases."""
    assert p.data.X_test is not None and p.data.Y_test is not None
    errors = []
    for X, Y in ((p.data.X[:CASES], p.data.Y[:CASES]), (p.data.X_test, p.data.Y_test)):
        s = p.optimizer.settings
        found = evaluate(p.network, parameters, X, Y, s.eta, s.chunk_size).misclassified
        assert found is not None
        errors.append(found)
    return errors
