"""How good probabilities are: calibration, and whether unknown images are told from known ones; before and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from kfac_ref import posterior
from kfac_ref.data import datasets
from kfac_ref.data.fetching import FetchError
from kfac_ref.posterior import Posterior
from kfac_ref.training import loop
from kfac_ref.training.experiment import Experiment, prepare
from validation.work import Arrays, Work, first_to_be_had

BINS = 15
"""Of confidence, equally wide, in the reliability diagram and the ECE."""
BEFORE = "without posterior"
METHODS = {
    BEFORE: ("exact", "none"),
    "exact damping, λ₀ by evidence": ("exact", "evidence"),
    "exact damping, λ₀ by held-out cases": ("exact", "held out"),
    "factored damping, λ₀ by evidence": ("factored", "evidence"),
    "factored damping, λ₀ by held-out cases": ("factored", "held out"),
}
"""Damping of the posterior, and how its prior precision is chosen."""
GRID = np.geomspace(1e-1, 1e5, 25)
"""The prior precisions among which held-out cases choose, by their log-likelihood."""


@dataclass(frozen=True)
class Amount:
    """How much is trained, on what."""

    data: tuple[str, ...]
    unknown: str
    hidden: int
    iterations: int
    held: int
    """Training cases held out, the last."""


FULL = Amount(("fashion", "fashion16"), "mnist", 100, 300, 5000)
QUICK = Amount(("fashion16",), "mnist16", 50, 40, 500)


def measured(work: Work) -> Arrays:
    """Probabilities p{number of the method} of the test cases and u{number} of unknown images, labels, and λ₀ of each
    method; computed once."""
    amount = QUICK if work.quick else FULL
    data = first_to_be_had(*amount.data)
    unknown = _images(amount.unknown if data.name == amount.data[0] else QUICK.unknown)
    described: dict[str, Any] = {"data": data.crc32(), "unknown": unknown is not None, "amount": str(amount)}
    described |= {"methods": METHODS, "grid": [float(x) for x in GRID]}
    return work.kept("posterior-classifier", described, lambda: _measured(data.name, amount, unknown))


def _images(name: str) -> np.ndarray | None:
    """Test images of that set, or None if it cannot be had."""
    try:
        return datasets.load(name).X_test
    except FetchError:
        return None


def _measured(name: str, amount: Amount, unknown: np.ndarray | None) -> dict[str, Any]:
    inputs, labels = datasets.load(name).X.shape[1], 10
    constants = {"eta": 1e-5, "lambda0": 1.0, "m1": 1000, "full_batch_at": None, "inverse": "block-diagonal"}
    p = prepare(
        Experiment(
            data=name,
            network=(inputs, amount.hidden, labels),
            likelihood="categorical",
            preset="authors",
            constants=constants | {"average_from": 1},
        )
    )
    X, Y, held = p.data.X[: -amount.held], p.data.Y[: -amount.held], (p.data.X, p.data.Y)
    X_held, Y_held = (x[-amount.held :] for x in held)
    assert p.data.X_test is not None and p.data.Y_test is not None
    with threadpool_limits(1):
        steps = loop.iterate(p.optimizer, p.first_state(), loop.Data(X, Y))
        for _ in range(amount.iterations):
            state, _, _ = next(steps)
        W = state.averaged
        made = posterior.fit(p.network, W, X, Y, p.optimizer.settings.eta * len(X))
        best = posterior.most_evident(made)
        found: dict[str, Any] = {"labels": p.data.Y_test.argmax(1), "cases": len(X), "network": str(p.network)}
        chosen = []
        for number, (damping, how) in enumerate(METHODS.values()):
            q = replace(best, damping=damping)
            if how == "held out":
                q = max((q.with_prior(float(x)) for x in GRID), key=lambda q: _log_likelihood(q, X_held, Y_held))
            chosen.append(np.nan if how == "none" else q.prior_precision)
            for key, cases in (("p", p.data.X_test), ("u", unknown)):
                if cases is not None:
                    found[f"{key}{number}"] = _probabilities(q, cases, how == "none")
    return found | {"prior_precision": chosen}


def _probabilities(q: Posterior, X: np.ndarray, plain: bool) -> np.ndarray:
    predicted = posterior.outputs(q, X)
    if plain:
        return q.network.likelihood.mean(predicted.z)
    return posterior.probit(q, predicted)


def _log_likelihood(q: Posterior, X: np.ndarray, Y: np.ndarray) -> float:
    return float(np.mean(np.log(np.sum(Y * _probabilities(q, X, False), axis=1))))


# --- measures --------------------------------------------------------------------------------------------------------


def reliability(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin of confidence the mean confidence, the fraction that is right, and the cases' number; NaN of none."""
    confidence, right = p.max(1), p.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    number = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return np.bincount(bins, confidence, BINS) / number, np.bincount(bins, right, BINS) / number, number


def expected_calibration_error(p: np.ndarray, labels: np.ndarray) -> float:
    """Σ over bins of their part of the cases times |confidence − accuracy| (Guo et al. 2017)."""
    confidence, accuracy, number = reliability(p, labels)
    return float(np.nansum(number * np.abs(confidence - accuracy)) / len(labels))


def entropy(p: np.ndarray) -> np.ndarray:
    """−Σ p log p of each case, in nats."""
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often an unknown case's score is above a known one's; ties count half."""
    ranks = rankdata(np.concatenate([known, unknown]))
    m, n = len(unknown), len(known)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (m * n))


def rows(found: Arrays) -> list[dict[str, Any]]:
    """A row for each method."""
    table = []
    for number, name in enumerate(METHODS):
        p, labels = found[f"p{number}"], found["labels"]
        chosen = float(found["prior_precision"][number])
        row: dict[str, Any] = {
            "probabilities": name,
            "λ₀": None if np.isnan(chosen) else chosen,
            "misclassified": float(np.mean(p.argmax(1) != labels)),
            "NLL": float(-np.mean(np.log(p[np.arange(len(labels)), labels]))),
            "ECE": expected_calibration_error(p, labels),
        }
        if f"u{number}" in found:
            row["AUROC"] = auroc(entropy(p), entropy(found[f"u{number}"]))
        table.append(row)
    return table
