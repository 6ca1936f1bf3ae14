"""The loop around an optimizer: the mini-batch schedule, drawing mini-batches, evaluating (§13)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from autodiff.arrays import Array, device, namespace
from autodiff.network import Network, Parameters
from autodiff.objective import Evaluation, evaluate
from kfac_ref.baselines import SGDRecord, SGDState
from kfac_ref.machine import ALONE, Processes, suit_threads
from kfac_ref.optimizer import Batch, Record, State

AnyState = State | SGDState
AnyRecord = Record | SGDRecord

MINIBATCHES = 1
"""Purpose of a random key (seed, purpose, iteration); see `optimizer.SAMPLED_TARGETS`."""


@dataclass(frozen=True)
class Data:
    """Inputs X (N, d_0) or (N, *input) and targets Y (N, d_ℓ) on the device, and the same of test cases; for an
    autoencoder Y is the same array as X, and Y_test as X_test."""

    X: Array
    Y: Array
    X_test: Array | None = None
    Y_test: Array | None = None
    of_all: tuple[int, int] | None = field(default=None, kw_only=True)
    """Where each of several processes has a part of the cases, those `dealt` to it: how many training and test cases
    all have together."""

    @property
    def cases(self) -> int:
        """Training cases, of all processes."""
        return self.X.shape[0] if self.of_all is None else self.of_all[0]

    @property
    def test_cases(self) -> int | None:
        """Test cases, of all processes, if there are any."""
        if self.X_test is None:
            return None
        return self.X_test.shape[0] if self.of_all is None else self.of_all[1]


def minibatch_size(k: int, m1: int, cases: int, full_batch_at: int | None) -> int:
    """m_k = ⌊m₁ 2^((k−1)/c)⌋, at most |S| = `cases`, with c such that m = |S| at k = `full_batch_at` (§13).

    It stays at m₁ if `full_batch_at` is None.
    """
    if full_batch_at is None or m1 >= cases:
        return min(m1, cases)
    if k >= full_batch_at:
        return cases
    c = (full_batch_at - 1) / math.log2(cases / m1)
    return min(math.floor(m1 * 2 ** ((k - 1) / c)), cases)


def minibatch(data: Data, seed: int, k: int, m: int, processes: Processes = ALONE) -> Batch:
    """The mini-batch of iteration k: m cases without replacement, in random order, determined by `seed` and k (§13). Of
    several processes each gets those of them that it has."""
    xp = namespace(data.X)
    rows, places = minibatch_rows(data.cases, seed, k, m), None
    if data.of_all is not None:
        places = np.flatnonzero(rows % processes.number == processes.index)
        rows = rows[places] // processes.number
    index = xp.asarray(rows, device=device(data.X))
    X = xp.take(data.X, index, axis=0)
    return Batch(X, X if data.Y is data.X else xp.take(data.Y, index, axis=0), rows=places)


def minibatch_rows(cases: int, seed: int, k: int, m: int) -> np.ndarray:
    """Which of so many cases `minibatch` takes, (m,) (§13, Algorithm 2)."""
    return np.random.default_rng([seed, MINIBATCHES, k]).choice(cases, m, replace=False)


def iterate(optimizer: Any, state: AnyState, data: Data) -> Iterator[tuple[AnyState, AnyRecord, float]]:
    """State, record and seconds of iteration after iteration, without end (Algorithm 2).

    Raises what the optimizer's `step` raises.
    """
    s = optimizer.settings
    while True:
        start = time.perf_counter()
        suit_threads()
        m = minibatch_size(state.k + 1, s.m1, data.cases, s.full_batch_at)
        state, record = optimizer.step(state, minibatch(data, state.seed, state.k + 1, m, optimizer.processes))
        yield state, record, time.perf_counter() - start
        # its gradient and Δ are not held while the next iteration computes its own
        del record


def evaluate_all(
    network: Network, state: AnyState, data: Data, eta: float, chunk_size: int, processes: Processes = ALONE
) -> dict[str, float | None]:
    """h, error and, for classes, the misclassified fraction, on all training and all test cases (§13).

    Keys are `train_h`, `test_error` and so on for θ, and with `_averaged` behind for θ̄ where it is not θ itself. NaN
    and infinities are None.
    """
    values = {}
    for suffix, parameters in (("", state.parameters), ("_averaged", state.averaged)):
        if suffix and parameters[0] is state.parameters[0]:
            continue
        for part, X, Y in (("train", data.X, data.Y), ("test", data.X_test, data.Y_test)):
            if X is None or Y is None:
                continue
            result = _evaluation(network, parameters, X, Y, eta, chunk_size, processes)
            for f in fields(result):
                if getattr(result, f.name) is not None:
                    values[f"{part}_{f.name}{suffix}"] = getattr(result, f.name)
    return _finite(values)


def _evaluation(
    network: Network, parameters: Parameters, X: Array, Y: Array, eta: float, chunk_size: int, processes: Processes
) -> Evaluation:
    """Means over the cases of all processes."""
    if processes.alone:
        return evaluate(network, parameters, X, Y, eta, chunk_size)

    def of_here() -> Evaluation:
        if X.shape[0]:
            return evaluate(network, parameters, X, Y, eta, chunk_size)
        return Evaluation(0.0, 0.0, None if network.likelihood.mistakes is None else 0.0)

    here = processes.agree(of_here)
    wrong = [] if here.misclassified is None else [here.misclassified]
    h, error, *wrong = processes.mean([here.h, here.error, *wrong], X.shape[0])
    return Evaluation(h, error, wrong[0] if wrong else None)


def scalars(record: AnyRecord) -> dict[str, float | None]:
    """The numbers in a record, by name; NaN and infinities are None, for JSON has neither."""
    return _finite({f.name: getattr(record, f.name) for f in fields(record) if f.type in ("int", "float")})


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
