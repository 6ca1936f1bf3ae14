"""Sequences of different lengths: all is what each sequence at its own length gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from autodiff import Network
from autodiff.objective import evaluate, loss, loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Settings
from kfac_ref.baselines import SGD, NaturalGradient
from kfac_ref.curvature import ekfac, factors, fisher
from kfac_ref.curvature.factors import Kinds
from tests.autodiff.layers.networks import MEAN, norm, parameters
from tests.conftest import assert_all_close, assert_close, random_targets, to
from tests.dense import flatten, unflatten
from validation.theorems.stacks import dense

T, D = 4, 3
LENGTHS = np.array([4, 1, 3, 2, 4, 2])
N = len(LENGTHS)


def steps(out: int, **keys):
    return {"kind": "recurrent", "out": out, **keys}


STACKS = {
    "last": [steps(3, returns="all", activation="logistic"), norm("tanh"), steps(4, bias=False), dense(3)],
    "all": [dense(2, "softplus"), steps(3, returns="all"), {"kind": "residual", "layers": [dense(3)]}],
    "mean": [steps(2, returns="all", bias=False), dense(3, "tanh"), MEAN, dense(3)],
    "norm last": [dense(3, "tanh"), norm()],
}
KINDS = [
    ("last", "categorical"),
    ("all", "bernoulli"),
    ("all", "categorical"),
    ("mean", "gaussian"),
    ("norm last", "gaussian"),
]


@dataclass
class Each:
    """A padded batch, and each of its sequences at its own length."""

    layers: list
    network: Network
    W: list[np.ndarray]
    X: np.ndarray
    Y: np.ndarray

    @classmethod
    def of(cls, name: str, likelihood: str) -> Each:
        """What lies behind a sequence's end is large and means nothing."""
        layers, rng = STACKS[name], np.random.default_rng(7)
        network = Network.of(layers, (T, D), likelihood)
        X, W = rng.standard_normal((N, T, D)), parameters(network)
        places = math.prod(network.output[:-1])
        Y = random_targets(rng, likelihood, N * places, 3).reshape(N, places, 3)
        for n, length in enumerate(LENGTHS):
            X[n, length:] = 50.0
            Y[n, length if places > 1 else 1 :] = -9.0
        return cls(layers, network, W, X, Y.reshape(N, -1))

    def padded(self, like=None, chunk_size: int = 5000, weights=None) -> ForwardPass:
        like = np.zeros(0) if like is None else like
        w = None if weights is None else to(like, weights)
        return ForwardPass(self.network, to(like, self.W), to(like, self.X), chunk_size, w, LENGTHS)

    def alone(self, n: int) -> tuple[ForwardPass, np.ndarray]:
        """Sequence n, and its targets."""
        length = LENGTHS[n]
        network = Network.of(self.layers, (int(length), D), self.network.likelihood.name)
        return ForwardPass(network, self.W, self.X[n : n + 1, :length]), self.Y[n : n + 1, : network.outputs]

    def mean(self, f, weights=None) -> np.ndarray:
        """Of f(pass, targets) of each sequence alone."""
        return np.average([f(*self.alone(n)) for n in range(N)], axis=0, weights=weights)


@pytest.fixture(params=KINDS, ids=", ".join)
def each(request) -> Each:
    return Each.of(*request.param)


@pytest.mark.parametrize("chunk_size", [5000, 4])
def test_objective(each, like64, chunk_size):
    value, gradient = loss_and_gradient(each.padded(like64, chunk_size), to(like64, each.Y), 0.0)
    assert float(value.h) == pytest.approx(each.mean(lambda p, y: loss(p, y, 0.0).h), rel=1e-12)
    assert float(value.error) == pytest.approx(each.mean(lambda p, y: loss(p, y, 0.0).error), rel=1e-12)
    assert float(value.excess) < 1e-12
    expected = each.mean(lambda p, y: flatten(loss_and_gradient(p, y, 0.0)[1]))
    assert_all_close(gradient, unflatten(expected, each.network), like64)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0, 2, 1, 3, 1])])
def test_evaluation(each, weights):
    found = evaluate(each.network, each.W, each.X, each.Y, chunk_size=4, weights=weights, lengths=LENGTHS)
    one = [evaluate(p.network, p.parameters, p.X, y) for p, y in map(each.alone, range(N))]
    for name in ("h", "error", "misclassified"):
        values = [getattr(e, name) for e in one]
        if values[0] is None:
            assert getattr(found, name) is None
        else:
            assert getattr(found, name) == pytest.approx(np.average(values, weights=weights), rel=1e-12)


def test_fisher(each, like64):
    F, F_empirical = each.mean(lambda p, y: fisher.dense(p)), each.mean(fisher.dense_empirical)
    padded, Y = each.padded(like64), to(like64, each.Y)
    assert_close(fisher.dense(padded), F, like64)
    assert_close(fisher.dense_empirical(padded, Y), F_empirical, like64)
    v = np.random.default_rng(1).standard_normal((len(F), 2))
    V = [to(like64, unflatten(column, each.network)) for column in v.T]
    assert_close(fisher.quadratic_forms(padded, V), v.T @ F @ v, like64, dtype="float64")
    assert_close(fisher.matmat(padded, to(like64, v)), F @ v, like64)
    assert_close(fisher.matmat(padded, to(like64, v), Y), F_empirical @ v, like64)
    found = fisher.monte_carlo(each.padded(), 300, (1, 2))
    assert np.mean(np.abs(found.value - F) > 5 * found.standard_error + 1e-12) < 0.01


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0, 2, 1, 3, 1])])
@pytest.mark.parametrize("kinds", [Kinds("expand", time="symmetric"), Kinds("reduce")], ids=["expand", "reduce"])
def test_factors(each, like64, kinds, weights):
    """In expand Ā is a mean over all steps of all cases, which the expected length T divides."""
    found = factors.exact(each.padded(like64, weights=weights), kinds)
    one = [factors.exact(p, kinds) for p, _ in map(each.alone, range(N))]
    w = np.ones(N) if weights is None else weights
    w = w / w.sum()
    for i, layer in enumerate(each.network.weighted, start=1):
        if not layer.kronecker:
            expected = sum(a * f.full[i, i] for a, f in zip(w, one, strict=True))
            assert_close(found.full[i, i], expected, like64)
            continue
        by_length = w * LENGTHS / (w @ LENGTHS) if layer.locations > 1 and kinds.sharing == "expand" else w
        assert_close(
            found.A[i - 1, i - 1], sum(a * f.A[i - 1, i - 1] for a, f in zip(by_length, one, strict=True)), like64
        )
        assert_close(found.G[i, i], sum(a * f.G[i, i] for a, f in zip(w, one, strict=True)), like64)
        if (i, i) not in found.lagged:
            assert not (layer.recurrent and kinds.sharing == "expand")
            continue
        lagged, several = found.lagged[i, i], [n for n in range(N) if LENGTHS[n] > 1]
        assert_close(lagged.A, sum(by_length[n] * one[n].lagged[i, i].A for n in several), like64)
        assert_close(lagged.G, sum(w[n] * one[n].lagged[i, i].G for n in several), like64)
        pairs = [sum(max(length - k, 0) * a for a, length in zip(w, LENGTHS, strict=True)) for k in range(T)]
        assert_close(lagged.pairs, np.array(pairs), like64)


def test_ekfac(each):
    basis = ekfac.eigenbasis(factors.exact(each.padded()))
    expected = [each.mean(lambda p, y, i=i: ekfac.diagonal(p, basis)[i]) for i in range(each.network.layers)]
    assert_all_close(ekfac.diagonal(each.padded(), basis), expected, np.zeros(0))


@pytest.mark.parametrize("time", ["independent", "symmetric", "stationary"])
def test_full_lengths_change_nothing(time):
    """Nor does a step of SGD or of the exact natural gradient see the padding."""
    each = Each.of("last", "categorical")
    kfac = KFAC(each.network, Settings(time=time, lambda0=0.5, tau1=1.0))
    X, Y = np.random.default_rng(3).standard_normal(each.X.shape), each.Y
    (with_lengths, _), (without, _) = (
        kfac.step(kfac.init(each.W), Batch(X, Y, lengths=lengths)) for lengths in (np.full(N, T), None)
    )
    assert_all_close(with_lengths.parameters, without.parameters, np.zeros(0))


@pytest.mark.parametrize("optimizer", [KFAC, SGD, NaturalGradient])
def test_what_the_padding_holds_is_of_no_matter(optimizer):
    each = Each.of("all", "categorical")
    made, states = optimizer(each.network), []
    other = each.X.copy()
    for n, length in enumerate(LENGTHS):
        other[n, length:] = -3.0
    for X in (each.X, other):
        state = made.init(each.W)
        for _ in range(5):
            state, record = made.step(state, Batch(X, each.Y, lengths=LENGTHS))
        states.append((state, record))
    (a, first), (b, second) = states
    assert_all_close(a.parameters, b.parameters, np.zeros(0), tol=1e-9)
    assert first.h == pytest.approx(second.h, rel=1e-9) and first.h < each.mean(lambda p, y: loss(p, y, 0.0).h)


@pytest.mark.parametrize(
    ("lengths", "error", "said"),
    [
        ([4] * N, TypeError, r"lengths is \[4, .*expected a NumPy array of whole numbers"),
        (np.full(N, 4.0), TypeError, "expected a NumPy array of whole numbers"),
        (np.full(N - 1, 4), ValueError, r"lengths has shape \(5,\), expected \(6,\)"),
        (np.array([4, 4, 0, 5, 4, 4]), ValueError, r"lengths\[2\] is 0, expected from 1 to 4"),
    ],
)
def test_lengths_that_do_not_fit(lengths, error, said):
    each = Each.of("last", "categorical")
    kfac = KFAC(each.network)
    with pytest.raises(error, match=said):
        kfac.step(kfac.init(each.W), Batch(each.X, each.Y, lengths=lengths))
    with pytest.raises(error, match=said):
        evaluate(each.network, each.W, each.X, each.Y, lengths=lengths)


def test_networks_that_lengths_do_not_go_with():
    flat = Network.of([dense(2), {"kind": "flatten"}, dense(2)], (T, D), "gaussian")
    with pytest.raises(ValueError, match="flatten takes sequences of one length"):
        loss(ForwardPass(flat, parameters(flat), np.zeros((2, T, D)), lengths=np.array([1, 2])), np.zeros((2, 2)), 0.0)
    vector = Network([3, 2], [], "gaussian")
    with pytest.raises(ValueError, match=r"lengths are of sequences \(T, d\), and the network 3-2 .* takes \(3,\)"):
        evaluate(vector, parameters(vector), np.zeros((2, 3)), np.zeros((2, 2)), lengths=np.array([1, 1]))


def test_targets_out_of_range_at_steps_that_there_are():
    each = Each.of("all", "categorical")
    each.Y[0, 0] = 7.0
    kfac = KFAC(each.network)
    with pytest.raises(ValueError, match=r"Y\[0, 0\] = 7"):
        kfac.step(kfac.init(each.W), Batch(each.X, each.Y, lengths=LENGTHS))
