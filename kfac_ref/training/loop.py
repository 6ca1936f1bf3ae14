"""The loop around an optimizer: the mini-batch schedule, drawing mini-batches, evaluating (§13)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from autodiff.arrays import Array, device, namespace
from autodiff.network import Network
from autodiff.objective import Evaluation, evaluate
from kfac_ref.baselines import SGDRecord, SGDState
from kfac_ref.machine import suit_threads
from kfac_ref.optimizer import Batch, Record, State

AnyState = State | SGDState
AnyRecord = Record | SGDRecord

MINIBATCHES = 1
"""Purpose of a random key (seed, purpose, iteration); see `optimizer.SAMPLED_TARGETS`."""


@dataclass(frozen=True)
class Data:
    """Inputs and targets on the device; for an autoencoder Y is the same array as X, and Y_test as X_test."""

    X: Array
    Y: Array
    X_test: Array | None = None
    Y_test: Array | None = None


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


def minibatch(data: Data, seed: int, k: int, m: int) -> Batch:
    """The mini-batch of iteration k: m cases without replacement, in random order, determined by `seed` and k."""
    xp = namespace(data.X)
    index = xp.asarray(minibatch_rows(data.X.shape[0], seed, k, m), device=device(data.X))
    X = xp.take(data.X, index, axis=0)
    return Batch(X, X if data.Y is data.X else xp.take(data.Y, index, axis=0))


def minibatch_rows(cases: int, seed: int, k: int, m: int) -> np.ndarray:
    """Which of so many cases `minibatch` takes, (m,)."""
    return np.random.default_rng([seed, MINIBATCHES, k]).choice(cases, m, replace=False)


def iterate(optimizer: Any, state: AnyState, data: Data) -> Iterator[tuple[AnyState, AnyRecord, float]]:
    """State, record and seconds of iteration after iteration, without end.

    Raises what the optimizer's `step` raises.
    """
    s = optimizer.settings
    while True:
        start = time.perf_counter()
        suit_threads()
        m = minibatch_size(state.k + 1, s.m1, data.X.shape[0], s.full_batch_at)
        state, record = optimizer.step(state, minibatch(data, state.seed, state.k + 1, m))
        yield state, record, time.perf_counter() - start
        # its gradient and Δ are not held while the next iteration computes its own
        del record


def evaluate_all(network: Network, state: AnyState, data: Data, eta: float, chunk_size: int) -> dict[str, float | None]:
    """h, error and, for classes, the misclassified fraction, on all training and all test cases.

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
            result: Evaluation = evaluate(network, parameters, X, Y, eta, chunk_size)
            for f in fields(result):
                if getattr(result, f.name) is not None:
                    values[f"{part}_{f.name}{suffix}"] = getattr(result, f.name)
    return _finite(values)


def scalars(record: AnyRecord) -> dict[str, float | None]:
    """The numbers in a record, by name; NaN and infinities are None, for JSON has neither."""
    return _finite({f.name: getattr(record, f.name) for f in fields(record) if f.type in ("int", "float")})


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
