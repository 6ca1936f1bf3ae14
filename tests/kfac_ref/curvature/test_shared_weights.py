"""Curvature of layers with shared weights, or without rows, against dense algebra over cases and locations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import block_diag

from autodiff import Network
from autodiff.arrays import to_numpy
from autodiff.passes import ForwardPass
from kfac_ref import KFAC, Batch, Settings
from kfac_ref.curvature import (
    block_diagonal,
    block_tridiagonal,
    cumulants,
    damping,
    ekfac,
    factors,
    fisher,
    inverses,
    kronecker_fisher,
    quadratic,
)
from kfac_ref.curvature.block_tridiagonal import BlockTridiagonalInverse
from kfac_ref.curvature.factors import Factors, Kinds
from kfac_ref.curvature.full_block import FullBlockInverse
from kfac_ref.curvature.inverses import PartitionedInverse
from kfac_ref.oracle import Case, truth
from tests.autodiff.layers.networks import EXAMPLES, made, parameters
from tests.conftest import assert_all_close, assert_close, random_targets, sampled_targets, to
from tests.dense import case_F_R, case_mean, flatten, unflatten

N = 7
NAMES = [name for name in EXAMPLES if name not in ("relu", "max pools")]
LIKELIHOODS = ("gaussian", "categorical", "bernoulli")


@dataclass(frozen=True)
class Dense:
    """A network's quantities at a point, case by case in NumPy."""

    network: Network
    W: list[np.ndarray]
    X: np.ndarray
    Y: np.ndarray
    sampled: np.ndarray

    @classmethod
    def of(cls, name: str, likelihood: str) -> Dense:
        network, rng = made(name, likelihood), np.random.default_rng(11)
        W, X = parameters(network), rng.standard_normal((N, *network.input))
        T, d = math.prod(network.output[:-1]), network.output[-1]
        Y = random_targets(rng, likelihood, N * T, d).reshape(N, -1)
        z = ForwardPass(network, W, X)
        ((_, activities),) = z.chunks()
        drawn = sampled_targets(rng, likelihood, activities.z.reshape(N * T, d)).reshape(N, -1)
        return cls(network, W, X, Y, drawn)

    def there(self, like) -> ForwardPass:
        return ForwardPass(self.network, to(like, self.W), to(like, self.X))

    @property
    def passed(self):
        forward_pass = ForwardPass(self.network, self.W, self.X)
        ((_, activities),) = forward_pass.chunks()
        C = self.network.outputs
        g = forward_pass.backward(activities, np.broadcast_to(np.eye(C)[:, None, :], (C, N, C)))
        return activities, g

    def jacobians(self) -> np.ndarray:
        """dz/dθ of each case, (N, C, P): 𝒟W of each case is checked against differences by itself."""
        activities, g = self.passed
        parts = []
        for (layer, tape), g_i in zip(activities.weighted(), g, strict=True):
            D = layer.case_gradients(tape, g_i)
            parts.append(np.swapaxes(D, -1, -2).reshape(*D.shape[:2], -1))
        return np.swapaxes(np.concatenate(parts, axis=-1), 0, 1)

    def F_R(self, z: np.ndarray) -> np.ndarray:
        """Of one case: a block for each position."""
        T = math.prod(self.network.output[:-1])
        return block_diag(*(case_F_R(self.network.likelihood.name, part) for part in z.reshape(T, -1)))

    def moments(self, targets: np.ndarray | None) -> np.ndarray:
        """E[𝒟z 𝒟zᵀ | x] of each case, under the model or with targets, (N, C, C)."""
        z = self.passed[0].z
        if targets is None:
            return np.array([self.F_R(row) for row in z])
        T = math.prod(self.network.output[:-1])
        means = [[case_mean(self.network.likelihood.name, part) for part in row.reshape(T, -1)] for row in z]
        Dz = np.array(means).reshape(N, -1) - targets
        return Dz[:, :, None] * Dz[:, None, :]

    def fisher(self, targets: np.ndarray | None = None) -> np.ndarray:
        return sum(J.T @ M @ J for J, M in zip(self.jacobians(), self.moments(targets), strict=True)) / N

    def block(self, i: int, j: int, targets: np.ndarray | None = None) -> np.ndarray:
        ends = np.cumsum([0, *(p * q for p, q in self.network.shapes)])
        return self.fisher(targets)[ends[i - 1] : ends[i], ends[j - 1] : ends[j]]

    def factors(self, sharing: str, targets: np.ndarray | None = None) -> Factors:
        """By sums over cases, locations and pairs of outputs."""
        activities, g = self.passed
        A, G, full = {}, {}, {}
        M = self.moments(targets)
        rows = {}
        for i, (layer, _) in enumerate(activities.weighted(), start=1):
            if not layer.kronecker:
                full[i, i] = self.block(i, i, targets)
                continue
            T = layer.locations
            rows[i] = activities.rows(i).reshape(N, T, -1), g[i - 1].reshape(-1, N, T, layer.shape[0])
        for i, (a, ga) in rows.items():
            for j, (b, gb) in rows.items():
                if i != j and not (a.shape[1] == b.shape[1] == 1):
                    continue
                if sharing == "expand" or i != j:
                    A[i - 1, j - 1] = np.einsum("ntp,ntq->pq", a, b) / (N * a.shape[1])
                    G[i, j] = np.einsum("ncd,cnti,dntj->ij", M, ga, gb) / N
                else:
                    A[i - 1, i - 1] = np.einsum("np,nq->pq", a.mean(1), a.mean(1)) / N
                    G[i, i] = np.einsum("ncd,cni,dnj->ij", M, ga.sum(2), ga.sum(2)) / N
        return Factors(A, G, full=full)


def compare(found: Factors, expected: Factors, like, tol=None) -> None:
    for ours, theirs in ((found.A, expected.A), (found.G, expected.G), (found.full, expected.full)):
        assert ours.keys() == theirs.keys()
        for index in ours:
            assert_close(ours[index], theirs[index], like, tol)


@pytest.fixture(params=[(name, LIKELIHOODS[i % 3]) for i, name in enumerate(NAMES)], ids=lambda p: f"{p[0]}, {p[1]}")
def case(request) -> Dense:
    return Dense.of(*request.param)


# --- the Fisher ------------------------------------------------------------------------------------------------------


def test_fisher_three_ways(case, like64):
    F, F_empirical = case.fisher(), case.fisher(case.Y)
    forward_pass, P = case.there(like64), len(F)
    assert_close(fisher.dense(forward_pass), F, like64)
    assert_close(fisher.dense_empirical(forward_pass, to(like64, case.Y)), F_empirical, like64)
    assert_close(fisher.block(forward_pass, 1, case.network.layers), case.block(1, case.network.layers), like64)
    v = np.random.default_rng(1).standard_normal((P, 2))
    V = [to(like64, unflatten(column, case.network)) for column in v.T]
    assert_close(fisher.quadratic_forms(forward_pass, V), v.T @ F @ v, like64, dtype="float64")
    ours = fisher.product(forward_pass, V[0])
    assert_all_close(ours, unflatten(F @ v[:, 0], case.network), like64)
    assert_close(fisher.matmat(forward_pass, to(like64, v), to(like64, case.Y)), F_empirical @ v, like64)


@pytest.mark.parametrize("name", ["sequence of outputs", "two convolutions", "norms of an image"])
def test_monte_carlo_is_near(name):
    case = Dense.of(name, "categorical")
    found = fisher.monte_carlo(case.there(np.zeros(0)), 2000, (1, 2))
    F = case.fisher()
    off = np.abs(found.value - F) > 5 * found.standard_error + 1e-12
    assert off.mean() < 1e-3


def test_operator(case):
    A = fisher.operator(case.there(np.zeros(0)), damping=0.1)
    F = case.fisher()
    v = np.random.default_rng(1).standard_normal(len(F))
    np.testing.assert_allclose(A @ v, F @ v + 0.1 * v, atol=1e-10)


# --- factors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_factors(case, like64, sharing):
    kinds, forward_pass = Kinds(sharing), case.there(like64)
    compare(factors.exact(forward_pass, kinds), case.factors(sharing), like64)
    compare(factors.empirical(forward_pass, to(like64, case.Y), kinds), case.factors(sharing, case.Y), like64)


def test_estimates_are_the_factors_of_the_first_cases(case):
    first = 4
    part = Dense(case.network, case.W, case.X[:first], case.Y[:first], case.sampled[:first])
    drawn = case.sampled
    for tridiagonal in (False, True):
        found = factors.estimate(case.there(np.zeros(0)), lambda rows, z: drawn[rows], first, tridiagonal)
        whole = factors.empirical(part.there(np.zeros(0)), part.sampled)
        reach = 1 if tridiagonal else 0
        assert found.G.keys() == {(i, j) for i, j in whole.G if 0 <= j - i <= reach}
        assert found.full.keys() == whole.full.keys()
        for index, block in found.G.items():
            np.testing.assert_allclose(block, whole.G[index], atol=1e-12)


def test_chunks_change_no_factor(case, monkeypatch):
    whole = factors.exact(case.there(np.zeros(0)))
    monkeypatch.setattr("autodiff.passes.KEPT", 2 * case.network.kept)
    compare(factors.exact(case.there(np.zeros(0))), whole, np.zeros(0), tol=1e-12)


def test_kfc_has_the_same_products(case):
    """Ω ⊗ Γ is the product of expand's factors, and π takes up T, so that damped inverses of the product agree too."""
    expand = factors.exact(case.there(np.zeros(0)))
    kfc = factors.kfc(expand, case.network)
    for i in expand.kronecker:
        T = case.network.weighted[i - 1].locations
        np.testing.assert_allclose(kfc.A[i - 1, i - 1], T * expand.A[i - 1, i - 1])
        np.testing.assert_allclose(kfc.G[i, i] * T, expand.G[i, i])
    a, b = (kronecker_fisher.dense(block_diagonal.approximate(damping.damp(f, 0.3))) for f in (expand, kfc))
    np.testing.assert_allclose(a, b, atol=1e-12 * np.abs(a).max())


def test_the_diagonal_of_a_full_block_alone():
    case = Dense.of("norms of an image", "gaussian")
    kinds = Kinds(full="diagonal")
    full, diagonal = (factors.exact(case.there(np.zeros(0)), k).full for k in (Kinds(), kinds))
    assert full.keys() == {(1, 1), (3, 3)}
    for index, block in full.items():
        np.testing.assert_array_equal(diagonal[index], np.diag(np.diag(block)))


def test_running_averages_of_all_blocks(case):
    old, new = (case.factors("expand", y) for y in (case.Y, case.sampled))
    found = factors.running_average(old, new, 0.3)
    for name in ("A", "G", "full"):
        for index, block in getattr(found, name).items():
            np.testing.assert_allclose(block, 0.3 * getattr(old, name)[index] + 0.7 * getattr(new, name)[index])


def test_unknown_kinds():
    with pytest.raises(ValueError, match='unknown way to share weights "expnd"; did you mean "expand"'):
        Kinds("expnd")
    with pytest.raises(ValueError, match='unknown kind of full blocks "diag"'):
        Kinds(full="diag")


# --- inverses --------------------------------------------------------------------------------------------------------


def dense_inverse(network: Network, damped: Factors, tridiagonal: bool) -> np.ndarray:
    """F̆⁻¹ or F̂⁻¹ of all layers as a matrix: F̂ by its definition, Ψ = F̃_{i,i+1} F̃_{i+1,i+1}⁻¹ on the links, Ξᵀ Λ Ξ."""
    layers = range(1, network.layers + 1)
    sizes = [p * q for p, q in network.shapes]
    ends = np.cumsum([0, *sizes])

    def block(i: int, j: int) -> np.ndarray:
        if (i, j) in damped.full:
            return damped.full[i, j]
        return np.kron(damped.A[i - 1, j - 1], damped.G[i, j])

    Lambda, Xi = np.zeros((ends[-1], ends[-1])), np.eye(ends[-1])
    for i in layers:
        own, sigma = slice(ends[i - 1], ends[i]), block(i, i)
        if tridiagonal and (i, i + 1) in damped.G:
            Psi = block(i, i + 1) @ np.linalg.inv(block(i + 1, i + 1))
            sigma = sigma - Psi @ block(i + 1, i + 1) @ Psi.T
            Xi[own, ends[i] : ends[i + 1]] = -Psi
        Lambda[own, own] = np.linalg.inv(sigma)
    return Xi.T @ Lambda @ Xi


@pytest.mark.parametrize("tridiagonal", [False, True])
def test_inverses(case, like64, tridiagonal):
    gamma = 0.5
    exact = case.factors("expand")
    A, G, full = ({i: to(like64, b) for i, b in x.items()} for x in (exact.A, exact.G, exact.full))
    there = Factors(A, G, full=full)
    inverse = inverses.invert(there, damping.factorise(there, gamma), tridiagonal)
    expected = dense_inverse(case.network, damping.damp(exact, gamma), tridiagonal)
    v = np.random.default_rng(2).standard_normal(len(expected))
    U = inverse.apply(to(like64, unflatten(v, case.network)))
    assert_all_close(U, unflatten(expected @ v, case.network), like64, tol=1e-9)


def test_parts_of_an_inverse():
    case = Dense.of("residual", "gaussian")
    exact = factors.exact(case.there(np.zeros(0)))
    damped = damping.factorise(exact, 0.5)
    F_hat, F_breve = (inverses.invert(exact, damped, tridiagonal) for tridiagonal in (True, False))
    assert isinstance(F_hat, PartitionedInverse) and F_hat.layers == [1, 1, 3]
    assert isinstance(F_hat.parts[1], FullBlockInverse) and isinstance(F_hat.parts[2], BlockTridiagonalInverse)
    assert isinstance(F_breve, PartitionedInverse) and F_breve.layers == [1, 1, 3]
    only_dense = Dense.of("vector", "gaussian")
    exact = factors.exact(only_dense.there(np.zeros(0)))
    assert isinstance(inverses.invert(exact, damping.factorise(exact, 0.5), True), BlockTridiagonalInverse)


def test_a_full_block_that_is_not_positive_definite_is_named():
    exact = Dense.of("layer norm", "gaussian").factors("expand")
    broken = Factors(exact.A, exact.G, full={(2, 2): -exact.full[2, 2]})
    damped = damping.factorise(broken, 1e-9)
    with pytest.raises(ValueError, match=r"layer 2: .* is not positive definite after damping"):
        damping.require_positive_definite(damped.pivots, 1e-9)


def test_F_hat_itself_with_a_cut_chain(case):
    damped = damping.damp(case.factors("expand"), 0.5)
    F_hat = kronecker_fisher.dense(block_tridiagonal.approximate(damped))
    expected = np.linalg.inv(dense_inverse(case.network, damped, True))
    np.testing.assert_allclose(F_hat, expected, atol=1e-8 * np.abs(expected).max())


def test_F_tilde(case, like64):
    exact = case.factors("expand")
    there = factors.exact(case.there(like64))
    F_tilde = kronecker_fisher.dense(there)
    ends = np.cumsum([0, *(p * q for p, q in case.network.shapes)])
    for i in range(1, case.network.layers + 1):
        own = slice(ends[i - 1], ends[i])
        block = exact.full[i, i] if (i, i) in exact.full else np.kron(exact.A[i - 1, i - 1], exact.G[i, i])
        np.testing.assert_allclose(to_numpy(F_tilde)[own, own], block, atol=1e-10 * max(1, np.abs(block).max()))
    v = np.random.default_rng(2).standard_normal(ends[-1])
    product = kronecker_fisher.product(there, to(like64, unflatten(v, case.network)))
    assert_all_close(product, unflatten(to_numpy(F_tilde) @ v, case.network), like64)


def test_ekfac(case):
    """The diagonal along the eigenvectors, and (block + λI)⁻¹ exactly where a block is whole."""
    forward_pass = case.there(np.zeros(0))
    basis = ekfac.eigenbasis(factors.exact(forward_pass))
    s, F = ekfac.diagonal(forward_pass, basis), case.fisher()
    ends = np.cumsum([0, *(p * q for p, q in case.network.shapes)])
    v = np.random.default_rng(2).standard_normal(ends[-1])
    solved = ekfac.solve(basis, s, unflatten(v, case.network), 0.1)
    for i, (U_A, U_G, s_i) in enumerate(zip(basis.U_A, basis.U_G, s, strict=True)):
        own = slice(ends[i], ends[i + 1])
        U = U_G if U_A is None else np.kron(U_A, U_G)
        diagonal = np.diag(U.T @ F[own, own] @ U)
        np.testing.assert_allclose(s_i if U_A is None else s_i.flatten(order="F"), diagonal, atol=1e-10)
        np.testing.assert_allclose(solved[i].flatten(order="F"), U @ (U.T @ v[own] / (diagonal + 0.1)), atol=1e-9)


def test_cumulants_are_of_layers_with_one_row():
    case = Dense.of("two convolutions", "gaussian")
    with pytest.raises(ValueError, match=r"layer 1 \(conv\) has several rows for a case"):
        cumulants.kronecker_error(case.there(np.zeros(0)), 1, 3)


# --- when the approximation is exact ---------------------------------------------------------------------------------


def linear(*layers) -> Network:
    return Network.of([*layers, {"kind": "dense", "out": 2}], (4, 3), "gaussian")


def relative_errors(network: Network, sharing: str) -> list[float]:
    rng = np.random.default_rng(3)
    W = [rng.standard_normal(shape) for shape in network.shapes]
    forward_pass = ForwardPass(network, W, rng.standard_normal((50, *network.input)))
    exact = factors.exact(forward_pass, Kinds(sharing))
    errors = []
    for i in range(1, network.layers + 1):
        block = fisher.block(forward_pass, i, i)
        difference = np.kron(exact.A[i - 1, i - 1], exact.G[i, i]) - block
        errors.append(np.linalg.norm(difference) / np.linalg.norm(block))
    return errors


def test_expand_is_exact_where_positions_have_outputs_of_their_own():
    network = linear({"kind": "dense", "out": 4})
    assert max(relative_errors(network, "expand")) < 1e-12
    assert max(relative_errors(network, "reduce")) > 0.1


def test_reduce_is_exact_where_positions_are_averaged():
    network = linear({"kind": "dense", "out": 4}, {"kind": "mean-over-positions"})
    assert max(relative_errors(network, "reduce")) < 1e-12
    assert max(relative_errors(network, "expand")) > 0.1


# --- Algorithm 2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inverse", ["block-diagonal", "block-tridiagonal"])
@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize("name", ["two convolutions", "residual", "recurrent, all steps", "norms of an image"])
def test_two_iterations_against_dense_algebra(name, sharing, inverse):
    """Δ by the dense inverse, α and μ from the dense F, the averages of the factors by hand."""
    case = Dense.of(name, "categorical")
    s = Settings(sharing=sharing, inverse=inverse, tau1=1.0, tau2=1.0, lambda0=0.5, eta=1e-3)
    kfac = KFAC(case.network, s)
    state = kfac.init(case.W)
    gamma, average, delta = math.sqrt(s.lambda0 + s.eta), None, None
    for epsilon in (0.0, 0.5):
        here = Dense(case.network, state.parameters, case.X, case.Y, case.sampled)
        whole = here.factors(sharing, case.sampled)
        average = whole if average is None else factors.running_average(average, whole, epsilon)
        F, theta = here.fisher(), flatten(state.parameters)
        F_0 = dense_inverse(case.network, damping.damp(average, gamma), s.tridiagonal)
        state, record = kfac.step(state, Batch(case.X, case.Y), sampled=case.sampled)
        gradient = flatten(record.gradient)
        direction = -F_0 @ gradient
        np.testing.assert_allclose(flatten(record.direction), direction, atol=1e-8 * np.abs(direction).max())
        basis = np.stack([direction] if delta is None else [direction, delta], axis=1)
        B = basis.T @ (F + (s.lambda0 + s.eta) * np.eye(len(F))) @ basis
        coefficients = -np.linalg.solve(B, basis.T @ gradient)
        np.testing.assert_allclose((record.alpha, record.mu)[: len(coefficients)], coefficients, rtol=1e-6)
        delta = basis @ coefficients
        np.testing.assert_allclose(flatten(state.parameters), theta + delta, atol=1e-8)
        model = quadratic.minimise(
            quadratic.InnerProducts(basis.T @ F @ basis, basis.T @ basis, basis.T @ gradient),
            s.lambda0 + s.eta,
            range(basis.shape[1]),
        )
        assert record.model_change == pytest.approx(model.change, rel=1e-6)


# --- recorded --------------------------------------------------------------------------------------------------------

FILES = sorted((Path(__file__).parents[2] / "layers").glob("*.npz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_truth_of_recorded_networks(path):
    """Every array that PyTorch's Jacobians gave, by the names of the files' format."""
    with np.load(path) as file:
        recorded = dict(file)
    case = Case.load(path)
    found = truth(case)
    inputs = {"settings", "X", "Y", "gradient", *(f"W_{i}" for i in range(1, 9))}
    expected = {name for name in recorded if name not in inputs and name[:2] not in ("a_", "g_", "T_")}
    assert expected <= found.keys() and len(expected) >= 21
    for name in expected:
        np.testing.assert_allclose(found[name], recorded[name], atol=1e-12 * np.abs(recorded[name]).max(), err_msg=name)
    gradient = flatten([found[f"gradient_{i}"] for i in range(1, case.network.layers + 1)])
    np.testing.assert_allclose(gradient, recorded["gradient"], atol=1e-12)
