"""Cross-validated scores and CPU seconds of K-FAC's estimators and of scikit-learn's networks."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from kfac_ref.data.files import write_text
from kfac_ref.estimators import KFACClassifier, KFACRegressor
from validation.estimators.problems import Problem

FOLDS = 5


def _network(classes: bool, seed: int, **options: Any) -> Any:
    """scikit-learn's network with inputs, and targets that are numbers, standardised as K-FAC's estimators do."""
    if classes:
        return make_pipeline(StandardScaler(), MLPClassifier(random_state=seed, **options))
    inner = make_pipeline(StandardScaler(), MLPRegressor(random_state=seed, **options))
    return TransformedTargetRegressor(inner, transformer=StandardScaler())


METHODS: dict[str, Callable[[bool, int], Any]] = {
    "K-FAC": lambda classes, seed: (KFACClassifier if classes else KFACRegressor)(random_state=seed),
    "adam": lambda classes, seed: _network(classes, seed),
    "lbfgs": lambda classes, seed: _network(classes, seed, solver="lbfgs", alpha=1.0),
}
"""The two others with the settings that scikit-learn gives them, but alpha = 1 for lbfgs, which is better with it."""


@dataclass(frozen=True)
class Result:
    """A method's on a problem: fold by fold, in the same order for all methods."""

    scores: list[float]
    """Accuracy, or R²."""
    seconds: list[float]
    """Of the process, all threads together, for the fit."""

    @property
    def score(self) -> float:
        return float(np.mean(self.scores))

    @property
    def time(self) -> float:
        return float(np.mean(self.seconds))


def measure(problem: Problem, repeats: int, threads: int) -> dict[str, Result]:
    """Each method on each of FOLDS folds, `repeats` times with other folds; the methods take turns."""
    X, y = problem.make()
    scores: dict[str, list[float]] = {name: [] for name in METHODS}
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    stratified = problem.classes and y.ndim == 1
    number = 0
    for repeat in range(repeats):
        split = (StratifiedKFold if stratified else KFold)(FOLDS, shuffle=True, random_state=repeat)
        for train, test in split.split(X, y):
            names = list(METHODS)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                estimator = METHODS[name](problem.classes, number)
                with warnings.catch_warnings(), threadpool_limits(threads, user_api="blas"):
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    start = time.process_time()
                    estimator.fit(X[train], y[train])
                    seconds[name].append(time.process_time() - start)
                    scores[name].append(float(estimator.score(X[test], y[test])))
            number += 1
    return {name: Result(scores[name], seconds[name]) for name in METHODS}


@dataclass(frozen=True)
class Comparison:
    """K-FAC beside another method."""

    difference: float
    """Of the mean scores; above 0 where K-FAC's is higher."""
    error: float
    """Standard error of that: of the differences fold by fold."""
    ratio: float
    """Of the CPU seconds; below 1 where K-FAC takes fewer."""

    @property
    def verdict(self) -> str:
        """ "higher", "within" a standard error, or "lower" by more than one."""
        if abs(self.difference) <= self.error:
            return "within"
        return "higher" if self.difference > 0 else "lower"


def compare(results: dict[str, Result], other: str) -> Comparison:
    """K-FAC beside `other`."""
    ours, theirs = results["K-FAC"], results[other]
    differences = np.asarray(ours.scores) - np.asarray(theirs.scores)
    error = float(differences.std(ddof=1) / math.sqrt(len(differences)))
    return Comparison(float(differences.mean()), error, ours.time / theirs.time)


def kept(path: Path) -> dict[str, dict[str, Result]]:
    """The results in `path`, by problem and method; none if it is not there."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {p: {m: Result(r["scores"], r["seconds"]) for m, r in methods.items()} for p, methods in found.items()}


def keep(path: Path, results: dict[str, dict[str, Result]]) -> None:
    """Write all results to `path`."""
    plain = {p: {m: vars(r) for m, r in methods.items()} for p, methods in results.items()}
    write_text(path, json.dumps(plain, indent=1) + "\n")
