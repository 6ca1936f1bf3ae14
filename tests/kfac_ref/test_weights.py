"""Weights of cases: whole numbers are repetitions, equal ones change nothing, zero leaves out."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.objective import evaluate, loss_and_gradient
from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Settings
from kfac_ref.baselines import SGD, NaturalGradient, SGDSettings
from kfac_ref.curvature import cumulants, ekfac, factors, fisher
from kfac_ref.curvature.factors import Factors, Kinds
from kfac_ref.oracle import Case, check, truth
from tests.autodiff.layers.networks import made, parameters
from tests.conftest import assert_all_close, assert_close, random_targets, sampled_targets, to

N = 7
LIKE = np.zeros(0)
COUNTS = np.array([2, 1, 0, 3, 1, 0, 2])
NAMES = ("mlp", "two convolutions", "layer norm")


def network_of(name: str, likelihood: str) -> Network:
    return Network([4, 6, 5, 3], "tanh", likelihood) if name == "mlp" else made(name, likelihood)


@dataclasses.dataclass
class Twice:
    """A network with data once with weights and once with cases repeated as often."""

    network: Network
    W: list[np.ndarray]
    X: np.ndarray
    Y: np.ndarray
    sampled: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, name: str, likelihood: str = "categorical", weights: np.ndarray = COUNTS) -> Twice:
        network, rng = network_of(name, likelihood), np.random.default_rng(5)
        W, X = parameters(network), rng.standard_normal((N, *network.input))
        T, d = math.prod(network.output[:-1]), network.output[-1]
        ((_, activities),) = ForwardPass(network, W, X).chunks()
        drawn = sampled_targets(rng, likelihood, activities.z.reshape(N * T, d)).reshape(N, -1)
        Y = random_targets(rng, likelihood, N * T, d).reshape(N, -1)
        return cls(network, W, X, Y, drawn, weights.astype(float))

    def repeated(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(x, COUNTS, axis=0)

    def weighted_pass(self, like=LIKE, chunk_size: int = 5000) -> ForwardPass:
        return ForwardPass(self.network, to(like, self.W), to(like, self.X), chunk_size, to(like, self.weights))

    @property
    def repeated_pass(self) -> ForwardPass:
        return ForwardPass(self.network, self.W, self.repeated(self.X))

    @property
    def plain_pass(self) -> ForwardPass:
        return ForwardPass(self.network, self.W, self.X)

    def direction(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [rng.standard_normal(W.shape) for W in self.W]


def assert_same_factors(left: Factors, right: Factors) -> None:
    for a, b in ((left.A, right.A), (left.G, right.G), (left.full, right.full)):
        assert set(a) == set(b)
        for index in a:
            assert_close(a[index], to_numpy(b[index]), LIKE, 1e-12)


@pytest.mark.parametrize("chunk_size", [5000, 3])
@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "gaussian"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_and_forms(name, likelihood, chunk_size, like64):
    """Whole numbers equal repeating the cases: h, the error, ∇h, forms and products."""
    both = Twice.of(name, likelihood)
    once, often = both.weighted_pass(like64, chunk_size), both.repeated_pass
    value, gradient = loss_and_gradient(once, to(like64, both.Y), 0.1)
    expected, right = loss_and_gradient(often, both.repeated(both.Y), 0.1)
    assert float(value.h) == pytest.approx(float(expected.h), rel=1e-12)
    assert float(value.error) == pytest.approx(float(expected.error), rel=1e-12)
    assert_all_close(gradient, right, like64, 1e-11)
    U = [both.direction(1), both.direction(2)]
    forms = fisher.quadratic_forms(once, [to(like64, u) for u in U])
    assert_close(forms, fisher.quadratic_forms(often, U), like64, 1e-11)
    assert_all_close(fisher.product(once, to(like64, U[0])), fisher.product(often, U[0]), like64, 1e-11)
    first = int(COUNTS[:4].sum())
    assert_close(
        fisher.quadratic_forms(once, [to(like64, U[0])], 4), fisher.quadratic_forms(often, U[:1], first), like64, 1e-11
    )


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("name", NAMES)
def test_factors(name, sharing):
    both, kinds = Twice.of(name), Kinds(sharing)
    once, often = both.weighted_pass(chunk_size=4), both.repeated_pass
    assert_same_factors(factors.exact(once, kinds), factors.exact(often, kinds))
    Y = both.repeated(both.Y)
    assert_same_factors(factors.empirical(once, both.Y, kinds), factors.empirical(often, Y, kinds))
    drawn = both.repeated(both.sampled)
    first = int(COUNTS[:4].sum())
    assert_same_factors(
        factors.estimate(once, lambda rows, z: both.sampled[rows], 4, True, kinds),
        factors.estimate(often, lambda rows, z: drawn[rows], first, True, kinds),
    )


@pytest.mark.parametrize("name", NAMES)
def test_dense(name):
    both = Twice.of(name)
    once, often = both.weighted_pass(), both.repeated_pass
    assert_close(fisher.dense(once), fisher.dense(often), LIKE, 1e-11)
    Y = both.repeated(both.Y)
    assert_close(fisher.dense_empirical(once, both.Y), fisher.dense_empirical(often, Y), LIKE, 1e-11)
    basis = ekfac.eigenbasis(factors.exact(often))
    assert_all_close(ekfac.diagonal(once, basis), ekfac.diagonal(often, basis), LIKE, 1e-11)
    if name == "mlp":
        left, right = cumulants.kronecker_error(once, 1, 2), cumulants.kronecker_error(often, 1, 2)
        for field in dataclasses.fields(left):
            assert_close(getattr(left, field.name), getattr(right, field.name), LIKE, 1e-11)


def test_monte_carlo_is_the_weighted_mean_of_the_cases_own():
    both = Twice.of("mlp")
    found = fisher.monte_carlo(both.weighted_pass(), 50, (3,))
    p = both.weights / both.weights.sum()
    value, squares = 0.0, 0.0
    for n in range(N):
        alone = np.zeros(N)
        alone[n] = 1.0
        one = fisher.monte_carlo(
            ForwardPass(both.network, both.W, both.X, weights=alone), 50, (3,)
        )  # the same draws, as these do not depend on weights
        value, squares = value + p[n] * one.value, squares + (p[n] * one.standard_error) ** 2
    assert_close(found.value, value, LIKE, 1e-11)
    assert_close(found.standard_error, np.sqrt(squares), LIKE, 1e-11)


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize("name", NAMES)
def test_steps(name, inverse, like64):
    """Some steps of Algorithm 2 with all cases equal those with cases repeated; the rows kept of factors too."""
    both = Twice.of(name)
    kfac = KFAC(both.network, Settings(inverse=inverse, tau1=1.0, tau2=1.0, T3=5, eta=1e-3, lambda0=1.0, T1=2))
    once, often = kfac.init(to(like64, both.W)), kfac.init(both.W)
    batch = Batch(to(like64, both.X), to(like64, both.Y), to(like64, both.weights))
    repeated = Batch(both.repeated(both.X), both.repeated(both.Y))
    for _ in range(6):
        once, left = kfac.step(once, batch, to(like64, both.sampled))
        often, right = kfac.step(often, repeated, both.repeated(both.sampled))
        assert_all_close(once.parameters, often.parameters, like64, 1e-8)
        assert (left.h, left.error) == pytest.approx((right.h, right.error), rel=1e-9)
        assert left.rho == pytest.approx(right.rho, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_equal_weights_change_nothing(name):
    both = Twice.of(name, weights=np.full(N, 0.3))
    kfac = KFAC(both.network, Settings(tau1=0.5, tau2=0.5, eta=1e-3, lambda0=1.0))
    state, plain = kfac.init(both.W), kfac.init(both.W)
    for _ in range(2):
        state, _ = kfac.step(state, Batch(both.X, both.Y, both.weights))
        plain, _ = kfac.step(plain, Batch(both.X, both.Y))
    assert_all_close(state.parameters, plain.parameters, LIKE, 1e-11)
    assert_same_factors(factors.exact(both.weighted_pass()), factors.exact(ForwardPass(both.network, both.W, both.X)))


def test_baselines_and_evaluate():
    both = Twice.of("mlp")
    batch = Batch(both.X, both.Y, both.weights)
    repeated = Batch(both.repeated(both.X), both.repeated(both.Y))
    for optimizer in (SGD(both.network, SGDSettings()), NaturalGradient(both.network)):
        once, _ = optimizer.step(optimizer.init(both.W), batch)
        often, _ = optimizer.step(optimizer.init(both.W), repeated)
        assert_all_close(once.parameters, often.parameters, LIKE, 1e-10)
    left = evaluate(both.network, both.W, both.X, both.Y, 0.1, weights=both.weights)
    right = evaluate(both.network, both.W, repeated.X, repeated.Y, 0.1)
    assert dataclasses.astuple(left) == pytest.approx(dataclasses.astuple(right), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_truth(name, tmp_path):
    """All that the oracle says, but z, which has a row for each case; through the file."""
    both = Twice.of(name)
    given = {"gamma": 0.5, "lam": 0.2, "eta": 0.01, "V": both.direction(3)}
    case = Case(both.network, both.W, both.X, both.Y, sampled=both.sampled, weights=both.weights, **given)  # type: ignore[arg-type]
    case.save(tmp_path / "case.npz")
    once = truth(Case.load(tmp_path / "case.npz"))
    drawn = both.repeated(both.sampled)
    often = truth(Case(both.network, both.W, both.repeated(both.X), both.repeated(both.Y), sampled=drawn, **given))
    assert set(once) == set(often)
    for key in set(once) - {"z"}:
        assert_close(once[key], often[key], LIKE, 1e-8)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones((N, 1)), ValueError, r"weights has shape \(7, 1\), expected \(7,\)"),
        (np.ones(N + 1), ValueError, r"weights has shape \(8,\)"),
        (np.zeros(N), ValueError, "weights: all are 0"),
        (np.array([0.0, 0, 0, 0, 1, 1, 1]), ValueError, "weights: those of the first 2 cases"),
        (np.array([1.0, -1, 1, 1, 1, 1, 1]), ValueError, r"weights\[1\] is -1\.0, expected finite numbers"),
        (np.array([1.0, 1, math.nan, 1, 1, 1, 1]), ValueError, r"weights\[2\] is nan"),
        (np.array([1.0, 1, math.inf, 1, 1, 1, 1]), ValueError, r"weights\[2\] is inf"),
        (np.ones(N, dtype=np.float32), TypeError, "weights"),
        ([1.0] * N, TypeError, "weights"),
    ],
)
def test_bad_weights(weights, error, message):
    both = Twice.of("mlp")
    kfac = KFAC(both.network, Settings(tau1=0.25))
    with pytest.raises(error, match=message):
        kfac.step(kfac.init(both.W), Batch(both.X, both.Y, weights))
    if "first" not in message:
        with pytest.raises(error, match="weights"):
            Case(both.network, both.W, both.X, both.Y, weights=weights)


def test_the_oracle_judges_weighted_factors():
    """Of a case with weights: the truth, exact and sampled, matches; without them it does not."""
    both = Twice.of("mlp")
    case = Case(both.network, both.W, both.X, both.Y, weights=both.weights)
    once = case.forward_pass
    exact, sampled = factors.exact(once), factors.sampled(once, 20, (1, 2))
    for given, matches in ((exact, True), (sampled, True), (factors.exact(both.plain_pass), False)):
        found = check({f"G_{i}": given.G[i, i] for i in (1, 2, 3)}, case)
        assert [v.explanation is not None for v in found.quantities.values()] == [matches] * 3
