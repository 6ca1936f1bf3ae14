"""What many processes do together: `mpiexec -n P python -m tests.kfac_ref.machine.many [CHECK …]`.

Each check is called by all processes and returns a number: a relative difference from one process, or 0 if all is well.
The first process prints them, as one JSON object.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from autodiff import Network
from autodiff.arrays import from_numpy, to_numpy
from kfac_ref import KFAC, Batch, Settings, preset
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.machine import ALONE, processes_found
from kfac_ref.machine.processes import SMALL, Processes
from tests.autodiff.layers.networks import made, parameters
from tests.conftest import make_like, random_parameters, random_targets

TRACES = Path(__file__).parents[2] / "traces"
SHORT = {"T1": 2, "T2": 3, "T3": 5, "lambda0": 2.0, "eta": 0.01, "tau1": 0.3, "tau2": 0.6}
"""Periods so short that every rule is used within a few iterations."""
ITERATIONS = 30


class Current:
    """The processes that the calling thread is one of: MPI's, or threads' (see `threaded`)."""

    threads = threading.local()

    def __getattr__(self, name):
        if not hasattr(self.threads, "processes"):
            self.threads.processes = processes_found()
        return getattr(self.threads.processes, name)


PROCESSES = Current()


def problem(name: str, likelihood: str, cases: int = 60):
    """A network, initial parameters and data."""
    rng = np.random.default_rng(5)
    sizes = {"mlp": [4, 20, 9, 3], "wide": [4, SMALL + 20, SMALL + 9, 3]}
    if name == "recurrent":
        layers = [{"kind": "recurrent", "out": 5, "activation": "tanh", "returns": "all"}, {"kind": "dense", "out": 3}]
        network = Network.of(layers, (4, 2), likelihood)
    else:
        network = Network(sizes[name], "tanh", likelihood) if name in sizes else made(name, likelihood)
    W = random_parameters(rng, network) if name in sizes else parameters(network)
    T, d = math.prod(network.output[:-1]), network.output[-1]
    X = rng.standard_normal((cases, *network.input))
    return network, W, X, random_targets(rng, likelihood, cases * T, d).reshape(cases, -1)


def places(processes: Processes, m: int, k: int, how: str) -> np.ndarray | None:
    """Whose cases are whose: `dealt`, at random (unequal shares), or all in the last process."""
    if processes.alone or how == "dealt":
        return None
    owners = np.random.default_rng([9, k]).integers(processes.number, size=m)
    if how == "last":
        owners[:] = processes.number - 1
    return np.flatnonzero(owners == processes.index)


def trained(
    processes,
    network,
    W,
    X,
    Y,
    settings,
    how="dealt",
    weighted=False,
    with_lengths=False,
    like=None,
    iterations=ITERATIONS,
):
    """θ, h and ρ of a run with growing mini-batches."""
    like = np.zeros(0) if like is None else like
    optimizer = (SGD if isinstance(settings, SGDSettings) else KFAC)(network, settings, processes)
    state = optimizer.init([from_numpy(w, like) for w in W], 3)
    weights = np.random.default_rng(8).integers(0, 3, size=len(X)) + 0.25
    lengths = np.random.default_rng(7).integers(1, X.shape[1] + 1, size=len(X))
    records = []
    for k in range(iterations):
        m = min(settings.m1 + 2 * k, len(X))
        rows = np.random.default_rng([4, k]).choice(len(X), m, replace=False)
        at = places(processes, m, k, how)
        here = rows[processes.dealt(m) if at is None else at]
        w = from_numpy(weights[here], like) if weighted else None
        state, record = optimizer.step(
            state,
            Batch(from_numpy(X[here], like), from_numpy(Y[here], like), w, lengths[here] if with_lengths else None, at),
        )
        records.append([record.h, record.error, record.m, getattr(record, "rho", 0.0)])
    return state, np.concatenate([to_numpy(x).ravel() for x in state.parameters]), np.asarray(records)


def difference(network, W, X, Y, settings, **options) -> float:
    """Of θ and of the records from one process's, relative; infinite if processes are not bit for bit alike."""
    _, theta, records = trained(PROCESSES, network, W, X, Y, settings, **options)
    _, expected, recorded = trained(
        ALONE, network, W, X, Y, settings, **{k: v for k, v in options.items() if k != "how"}
    )
    first = PROCESSES.tell((theta, records))
    alike = np.array_equal(first[0], theta) and np.array_equal(first[1], records, equal_nan=True)
    if not all(PROCESSES.gather(bool(alike))):
        return math.inf
    off = [np.linalg.norm(theta - expected) / np.linalg.norm(expected)]
    # ρ is a quotient of small differences
    for column, scale in ((0, 1.0), (1, 1.0), (2, 1.0), (3, 1e-4)):
        x, y = (np.nan_to_num(r[:, column]) for r in (records, recorded))
        off.append(scale * np.max(np.abs(x - y)) / max(np.max(np.abs(y)), 1e-300))
    return float(max(off))


def steps(name="mlp", likelihood="gaussian", inverse="block-tridiagonal", cases=60, constants=None, **options) -> float:
    settings = Settings(**SHORT | {"m1": 11, "inverse": inverse} | (constants or {}))
    return difference(*problem(name, likelihood, cases), settings, **options)


def said(run) -> tuple[list[str], bool]:
    """What each process's error says, and whether all are of one type."""
    try:
        run()
        error: Exception = AssertionError("nothing raised")
    except Exception as raised:
        error = raised
    return PROCESSES.gather(str(error)), len(set(PROCESSES.gather(type(error).__name__))) == 1


def stopped(batch_of, settings=None, expected: str = "") -> float:
    """0 if all processes stop with the same message, which holds `expected`."""
    network, W, X, Y = problem("mlp", "gaussian", 20)
    kfac = KFAC(network, settings or Settings(**SHORT), PROCESSES)
    messages, alike = said(lambda: kfac.step(kfac.init(W), batch_of(X, Y)))
    good = alike and len(set(messages)) == 1 and expected in messages[0]
    if not good and PROCESSES.first:
        print(messages, file=sys.stderr)
    return 0.0 if good else 1.0


def own(x):
    return x[PROCESSES.dealt(len(x))]


def with_nan(X, Y):
    X = own(X).copy()
    if PROCESSES.index == PROCESSES.number - 1:
        X[1, 2] = np.nan
    return Batch(X, own(Y))


def with_integers(X, Y):
    return Batch(own(X) if PROCESSES.first else own(X).astype(int), own(Y))


def weights_of_first(X, Y):
    return Batch(own(X), own(Y), np.ones(len(own(X))) if PROCESSES.first else None)


def zero_weights(X, Y):
    return Batch(own(X), own(Y), own((np.arange(len(X)) > 7) * 1.0))


def wrong_shares(X, Y):
    return Batch(X, Y) if PROCESSES.first else Batch(X[:1], Y[:1])


def diverging() -> float:
    network, W, X, Y = problem("mlp", "gaussian", 20)
    kfac = KFAC(network, Settings(**SHORT), PROCESSES)
    messages, alike = said(lambda: kfac.step(kfac.init([1e200 * w for w in W]), Batch(own(X), own(Y))))
    return 0.0 if alike and len(set(messages)) == 1 and "objective h is" in messages[0] else 1.0


def resumed() -> float:
    """A state of many processes goes on in one, and one of one process in many."""
    network, W, X, Y = problem("mlp", "bernoulli")
    settings = preset("authors", **SHORT | {"m1": 60})
    many, one = KFAC(network, settings, PROCESSES), KFAC(network, settings)
    state, expected = many.init(W), one.init(W)
    for k in range(14):
        expected, _ = one.step(expected, Batch(X, Y))
        if k == 4:
            state = many.gathered(state)
        if 4 <= k < 9:
            state, _ = one.step(state, Batch(X, Y))
            continue
        if k == 9:
            state = many.told(state if PROCESSES.first else replace(state, parameters=[0 * w for w in W]))
        state, _ = many.step(state, Batch(own(X), own(Y)))
    theta, right = (np.concatenate([x.ravel() for x in s.parameters]) for s in (state, expected))
    return float(np.linalg.norm(theta - right) / np.linalg.norm(right))


def replayed(name: str) -> float:
    """0 if the trace replays within its tolerances."""
    from validation.replay import replay

    return 0.0 if replay(TRACES / f"{name}.npz", processes=PROCESSES).passed else 1.0


def verbs() -> float:
    """Sums, gathering, telling and dealing, of trees with arrays of several dtypes and with symmetric ones."""
    from autodiff.trees import Symmetric

    p, P = PROCESSES.index, PROCESSES.number
    S = np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T
    tree = {"a": [np.float32(p), np.arange(4.0) * p], "s": Symmetric(S * p), "none": None}
    found, times = PROCESSES.sum(tree), P * (P - 1) / 2
    good = found["a"][0].dtype == np.float32 and float(found["a"][0]) == times and found["none"] is None
    good &= np.array_equal(found["a"][1], np.arange(4.0) * times) and np.array_equal(found["s"].matrix, S * times)
    gathered = PROCESSES.gather([np.full(p, p, dtype=np.float32), f"text {p}", Symmetric(S + p)])
    good &= all(np.array_equal(x, np.full(q, q)) and t == f"text {q}" for q, (x, t, _) in enumerate(gathered))
    good &= all(np.array_equal(s.matrix, S + q) for q, (_, _, s) in enumerate(gathered))
    good &= PROCESSES.tell(p) == 0 and PROCESSES.by_first(lambda: p) == 0 and PROCESSES.deal(None) is None
    dealt = PROCESSES.deal(np.arange(14).reshape(7, 2) if p == 0 else None)
    good &= np.array_equal(dealt, np.arange(14).reshape(7, 2)[p::P])
    n = PROCESSES.dealt(7)
    good &= PROCESSES.mean([float(np.mean(n))] if len(n) else [0.0], len(n)) == [3.0]
    blocks = [S, 2 * S, 3 * S[:2, :2]]
    squares = PROCESSES.divide(lambda x: (p, x @ x), S, blocks, costs=[3000, 4000, 2])
    good &= all(np.array_equal(x, y @ y) for (_, x), y in zip(squares, blocks, strict=True))
    good &= [by for by, _ in squares] == [1, 0, p]
    return 0.0 if good else 1.0


def checks():
    yield "verbs", verbs
    for likelihood in ("gaussian", "bernoulli", "categorical"):
        for inverse in ("block-diagonal", "block-tridiagonal"):
            yield f"{likelihood} {inverse}", lambda n=likelihood, i=inverse: steps(likelihood=n, inverse=i)
    with_large = {"cases": 20, "constants": {"m1": 8}, "iterations": 6}
    yield "inverses divided", lambda: steps("wide", "bernoulli", **with_large)
    yield "inverses divided, block-diagonal", lambda: steps("wide", "bernoulli", "block-diagonal", **with_large)
    yield "convolutions", lambda: steps("two convolutions", "categorical", "block-diagonal")
    yield "convolutions, tridiagonal", lambda: steps("two convolutions", "categorical", iterations=8)
    yield "layer norm", lambda: steps("layer norm", "categorical", "block-diagonal")
    for time in ("symmetric", "stationary"):
        about = {"constants": {"time": time}, "iterations": 10}
        yield f"recurrent, {time}", lambda about=about: steps("recurrent", "gaussian", **about)
    yield "lengths", lambda: steps("recurrent", "gaussian", with_lengths=True, weighted=True, iterations=10)
    about = {"cases": 3, "constants": {"m1": 1, "time": "stationary"}, "iterations": 6}
    yield "lengths, few cases", lambda: steps("recurrent", "gaussian", with_lengths=True, **about)
    yield "weights", lambda: steps("mlp", "categorical", weighted=True)
    yield "weights, convolutions", lambda: steps("two convolutions", "categorical", weighted=True, iterations=8)
    yield "unequal shares", lambda: steps(how="random")
    yield "all cases in one process", lambda: steps(how="last", weighted=True, iterations=8)
    yield "more processes than cases", lambda: steps(cases=2, constants={"m1": 2})
    convolutions = {"cases": 2, "constants": {"m1": 2}, "iterations": 8}
    yield "more processes than cases, convolutions", lambda: steps("two convolutions", "categorical", **convolutions)
    yield "no case of the first ⌈τ₁m⌉", lambda: steps(constants={"tau1": 1e-3, "tau2": 1e-3})
    yield "small chunks", lambda: steps("mlp", "bernoulli", constants={"chunk_size": 4})
    paper = {"candidates_inverted": True, "T3": 6, "T2": 3}
    yield "candidates between inversions", lambda: steps("mlp", "bernoulli", constants=paper)
    yield "SGD", lambda: difference(*problem("mlp", "gaussian"), SGDSettings(m1=11, learning_rate=1e-3, eta=0.01))
    like = make_like("strict-float64")
    yield "another library", lambda: steps("mlp", "categorical", like=like, iterations=6)
    single = make_like("numpy-float32")
    yield "float32", lambda: 1e-8 * steps("mlp", "bernoulli", like=single, iterations=6)
    yield "resumed", resumed
    for name in ("regression_gaussian_tridiagonal", "classifier_categorical_diagonal"):
        yield f"trace {name}", lambda name=name: replayed(name)
    number = PROCESSES.number - 1
    yield "NaN", lambda: stopped(with_nan, expected=f"process {number} of 0 … {number}: X[1, 2] is nan")
    yield "integers", lambda: stopped(with_integers, expected="process 1 of 0")
    yield (
        "weights in one alone",
        lambda: stopped(weights_of_first, expected=f"1 of {number + 1} processes have weights"),
    )
    yield "weights of 0", lambda: stopped(zero_weights, expected="those of the first 6 cases")
    yield "shares that do not fit", lambda: stopped(wrong_shares, expected="cases of a mini-batch of")
    singular = Settings(**SHORT | {"lambda0": 0.0, "eta": 0.0, "tau1": 1e-3})
    yield "singular factors", lambda: stopped(lambda X, Y: Batch(own(0 * X), own(Y)), singular, "not positive definite")
    yield "diverging", diverging


def found(wanted=None) -> dict[str, float]:
    """The numbers of the checks, all or those that are `wanted`."""
    with np.errstate(all="ignore"):
        return {name: check() for name, check in checks() if wanted is None or name in wanted}


def main() -> None:
    if sys.argv[1:] == ["raise"] and PROCESSES.index == 1:
        raise RuntimeError("this one has had enough")
    numbers = found(sys.argv[1:] or None)
    PROCESSES.sum(np.zeros(1))
    if PROCESSES.first:
        print(json.dumps(numbers))


if __name__ == "__main__":
    main()
