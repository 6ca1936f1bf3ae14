"""Verdicts on preconditioned gradients: where and how much damping, which factors, which gradient."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import Case, check
from tests.conftest import sampled_targets
from tests.dense import (
    case_forward,
    dense_diagonal_inverse,
    dense_exact_G,
    dense_factors,
    dense_fisher,
    dense_gradient,
    dense_pi,
    dense_tridiagonal_inverse,
    flatten,
    unflatten,
)
from tests.kfac_ref.oracle.test_truth import make_case

SIZES, N, C = (4, 5, 3), 40, 3
LAMBDA, ETA = 0.2, 0.03
BOTH = LAMBDA + ETA
GAMMA = BOTH**0.5


@pytest.fixture
def case(rng):
    """Whose γ is sqrt(λ+η)."""
    return make_case(rng, SIZES, likelihood="bernoulli", cases=N, V=False, sampled=False, lam=LAMBDA, eta=ETA)


@pytest.fixture
def undamped(case):
    return Case(case.network, case.parameters, case.X, case.Y, eta=ETA)


def factors(case, kind: str = "exact") -> list[tuple[np.ndarray, np.ndarray]]:
    """Ā_{i−1,i−1} and G_{i,i} of each layer."""
    A, G = dense_factors(case.network, case.parameters, case.X, case.Y)
    if kind == "exact":
        G = dense_exact_G(case.network, case.parameters, case.X)
    return [(A[i - 1, i - 1], np.eye(len(G[i, i])) if kind == "identity" else G[i, i]) for i in (1, 2)]


def gradient(case, scale: float = 1.0, eta: float = ETA) -> list[np.ndarray]:
    """`scale` times the gradient of the mean loss, and ηθ."""
    g = scale * dense_gradient(case.network, case.parameters, case.X, case.Y, 0.0)
    return unflatten(g + eta * flatten(case.parameters), case.network)


def solve(V, A, G, a: float = 0.0, g: float = 0.0) -> np.ndarray:
    """(G + gI)⁻¹ V (A + aI)⁻¹."""
    return np.linalg.inv(G + g * np.eye(len(G))) @ V @ np.linalg.inv(A + a * np.eye(len(A)))


def solve_product(V, A, G, lam: float) -> np.ndarray:
    """(A ⊗ G + λI)⁻¹ vec V."""
    return np.linalg.solve(np.kron(A, G) + lam * np.eye(V.size), V.flatten(order="F")).reshape(V.shape, order="F")


def own(case, kind: str = "exact", V=None) -> list[np.ndarray]:
    """The project's own way: π γ and γ/π, π by traces."""
    V = gradient(case) if V is None else V
    pairs = zip(V, factors(case, kind), strict=True)
    return [solve(v, A, G, dense_pi(A, G) * GAMMA, GAMMA / dense_pi(A, G)) for v, (A, G) in pairs]


def said(case, arrays, part: str = "", **more) -> list[dict]:
    """The verdicts on the layers' preconditioned gradients."""
    theirs = {f"preconditioned_{part}{i}": x for i, x in enumerate(arrays, start=1)}
    quantities = check(theirs | more, case).as_dict()["quantities"]
    return [quantities[name] for name in theirs]


def test_the_project_s_own_matches(case):
    A, _ = dense_factors(case.network, case.parameters, case.X, case.Y)
    h = dense_gradient(case.network, case.parameters, case.X, case.Y, ETA)
    U = dense_diagonal_inverse(A, dense_exact_G(case.network, case.parameters, case.X), GAMMA) @ h
    for v in said(case, unflatten(U, case.network)):
        assert (v["verdict"], v["scale"], v["fisher"], v["bias"]) == ("match", 1.0, "exact", "last")
        assert v["damping"] == "sqrt(lambda+eta) with pi (trace)"


def test_without_damping_where_the_case_has_none(undamped):
    U = [solve(V, A, G) for V, (A, G) in zip(gradient(undamped), factors(undamped), strict=True)]
    assert [(v["verdict"], v["damping"]) for v in said(undamped, U)] == [("match", "none")] * 2


def test_without_damping_where_the_case_has_some(case):
    U = [solve(V, A, G) for V, (A, G) in zip(gradient(case), factors(case), strict=True)]
    assert [(v["verdict"], v["damping"]) for v in said(case, U)] == [("match-under", "none")] * 2


@pytest.mark.parametrize("name", ["lambda", "lambda+eta"])
def test_each_factor(case, name):
    x = {"lambda": LAMBDA, "lambda+eta": BOTH}[name]
    for value, text in ((x, name), (x**0.5, f"sqrt({name})")):
        U = [solve(V, A, G, value, value) for V, (A, G) in zip(gradient(case), factors(case), strict=True)]
        for v in said(case, U):
            assert (v["verdict"], v["expression"], v["damping"]) == ("match-under", "1", f"{text} on each factor")
            assert v["damping_values"] == pytest.approx([value, value], rel=1e-6)


@pytest.mark.parametrize("name", ["lambda", "lambda+eta"])
def test_the_product(case, name):
    x = {"lambda": LAMBDA, "lambda+eta": BOTH}[name]
    U = [solve_product(V, A, G, x) for V, (A, G) in zip(gradient(case), factors(case), strict=True)]
    for v in said(case, U):
        assert (v["verdict"], v["expression"], v["damping"]) == ("match-under", "1", f"{name} on the product")


def test_pi_by_traces_without_eta(case):
    U = []
    for V, (A, G) in zip(gradient(case), factors(case), strict=True):
        p = dense_pi(A, G)
        U.append(solve(V, A, G, p * LAMBDA**0.5, LAMBDA**0.5 / p))
    for v in said(case, U):
        assert (v["verdict"], v["damping"]) == ("match-under", "sqrt(lambda) with pi (trace)")


def test_pi_by_frobenius_norms(case):
    U = []
    for V, (A, G) in zip(gradient(case), factors(case), strict=True):
        p = np.sqrt(np.linalg.norm(A) / len(A) ** 0.5 / (np.linalg.norm(G) / len(G) ** 0.5))
        U.append(solve(V, A, G, p * GAMMA, GAMMA / p))
    for v in said(case, U):
        assert (v["verdict"], v["damping"]) == ("match-under", "sqrt(lambda+eta) with pi (frobenius)")


def test_a_strength_that_is_not_the_case_s_is_a_number(case):
    U = [solve(V, A, G, 0.777, 0.777) for V, (A, G) in zip(gradient(case), factors(case), strict=True)]
    assert [v["damping"] for v in said(case, U)] == ["0.777 on each factor"] * 2
    U = [solve_product(V, A, G, 0.777) for V, (A, G) in zip(gradient(case), factors(case), strict=True)]
    assert [v["damping"] for v in said(case, U)] == ["0.777 on the product"] * 2


@pytest.mark.parametrize(
    ("scale", "text"), [(N, "N"), (1 / N, "1/N"), (-1, "-1"), (1 / C, "1/C"), (2, "2"), (0.5, "1/2"), (-N, "-N")]
)
def test_the_gradient_rescaled(case, scale, text):
    for v in said(case, own(case, V=[scale * V for V in gradient(case)])):
        assert (v["verdict"], v["expression"], v["damping"]) == (
            "match-under",
            text,
            "sqrt(lambda+eta) with pi (trace)",
        )


def test_eta_theta_left_out(case):
    for v in said(case, own(case, V=gradient(case, eta=0.0))):
        assert (v["verdict"], v["expression"]) == ("match-under", "1")
        assert v["notes"] == ["eta*theta left out of the gradient"]


def test_the_loss_summed_and_eta_theta_not(case):
    for v in said(case, own(case, V=gradient(case, scale=N))):
        assert (v["verdict"], v["expression"]) == ("match-under", "N")
        assert v["notes"] == ["the loss scaled, eta*theta not"]


@pytest.mark.parametrize("kind", ["empirical", "identity"])
def test_which_g(case, kind):
    for v in said(case, own(case, kind)):
        assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", kind, "1")


def test_factors_summed_before_they_were_damped(case):
    U = [solve(V, A, N * G, BOTH, BOTH) for V, (A, G) in zip(gradient(case), factors(case), strict=True)]
    for v in said(case, U):
        assert (v["verdict"], v["expression"], v["damping"]) == ("match-under", "1", "lambda+eta on each factor")
        assert v["notes"] == ["G scaled by N"]


def test_factors_of_their_own(case, rng):
    """Sampled, with one target a case: the factors that came along explain what was done with them."""
    z = np.array([case_forward(case.network, case.parameters, x)[2] for x in case.X])
    A, G = dense_factors(case.network, case.parameters, case.X, sampled_targets(rng, "bernoulli", z))
    U = [solve(V, A[i, i], G[i + 1, i + 1], GAMMA, GAMMA) for i, V in enumerate(gradient(case))]
    theirs = {f"A_{i}": A[i, i] for i in (0, 1)} | {f"G_{i}": G[i, i] for i in (1, 2)}
    for v in said(case, U, **theirs):
        assert (v["verdict"], v["expression"]) == ("match-under", "1")
        assert v["damping"] == "sqrt(lambda+eta) on each factor"
        assert v["notes"] == ["with their own factors"]


@pytest.mark.parametrize(
    ("change", "bias", "layout"),
    [
        (np.transpose, "last", "transposed"),
        (lambda U: np.roll(U, 1, axis=1), "first", None),
        (lambda U: U.flatten(order="F"), "last", "flat, column-major"),
        (lambda U: U.flatten(order="C"), "last", "flat, row-major"),
    ],
)
def test_layouts(case, change, bias, layout):
    for v in said(case, [change(U) for U in own(case)]):
        assert (v["verdict"], v["bias"], v["layout"], v["expression"]) == ("match-under", bias, layout, "1")


def test_the_weights_alone(case):
    """Ā without the ones, and no bias."""
    U = []
    for V, (A, G) in zip(gradient(case), factors(case), strict=True):
        U.append(solve(V[:, :-1], A[:-1, :-1], G, GAMMA, GAMMA))
    for v in said(case, U):
        assert (v["verdict"], v["bias"], v["damping"]) == ("match-under", "absent", "sqrt(lambda+eta) on each factor")


def test_the_bias_in_a_block_of_its_own(case):
    weights, biases = [], []
    for V, (A, G) in zip(gradient(case), factors(case), strict=True):
        weights.append(solve(V[:, :-1], A[:-1, :-1], G, GAMMA, GAMMA))
        biases.append(solve(V[:, -1:], np.eye(1), G, GAMMA, GAMMA)[:, 0])
    more = {f"preconditioned_bias_{i}": x for i, x in enumerate(biases, start=1)}
    for v in said(case, weights, "weight_", **more) + said(case, biases, "bias_"):
        assert (v["verdict"], v["bias"], v["damping"]) == ("match-under", "separate", "sqrt(lambda+eta) on each factor")


def test_ekfac(case):
    F, U = dense_fisher(case.network, case.parameters, case.X), []
    starts = np.cumsum([0, *(p * q for p, q in case.network.shapes)])
    for i, (V, (A, G)) in enumerate(zip(gradient(case), factors(case), strict=True)):
        block = F[starts[i] : starts[i + 1], starts[i] : starts[i + 1]]
        K = np.kron(np.linalg.eigh(A)[1], np.linalg.eigh(G)[1])
        u = K @ (K.T @ V.flatten(order="F") / (np.diag(K.T @ block @ K) + BOTH))
        U.append(u.reshape(V.shape, order="F"))
    for v in said(case, U):
        assert (v["verdict"], v["expression"], v["damping"]) == ("match-under", "1", "lambda+eta on the product")
        assert v["notes"] == ["EKFAC's diagonal (exact Fisher)"]


def test_the_dense_natural_gradient(case):
    F = dense_fisher(case.network, case.parameters, case.X)
    U = unflatten(np.linalg.solve(F + BOTH * np.eye(len(F)), flatten(gradient(case))), case.network)
    for v in said(case, U):
        assert (v["verdict"], v["expression"], v["damping"]) == ("match-under", "1", "lambda+eta on the product")
        assert v["notes"] == ["the exact inverse of the whole Fisher"]


def test_the_block_tridiagonal_inverse(case):
    A, _ = dense_factors(case.network, case.parameters, case.X, case.Y)
    inverse = dense_tridiagonal_inverse(A, dense_exact_G(case.network, case.parameters, case.X), GAMMA)
    for v in said(case, unflatten(inverse @ flatten(gradient(case)), case.network)):
        assert (v["expression"], v["matrix"]) == ("1", "block-tridiagonal inverse")
        assert v["damping"] == "sqrt(lambda+eta) with pi (trace)"


def test_another_direction_is_not_explained(case, rng):
    for v in said(case, [rng.standard_normal(U.shape) for U in own(case)]):
        assert (v["verdict"], v["damping"], v["scale"], v["fisher"]) == ("no-match", None, None, None)
        assert v["residual"] > 0.01


def test_nor_is_one_that_is_nearly_the_project_s(case, rng):
    for v in said(case, [U * (1 + 1e-4 * rng.standard_normal(U.shape)) for U in own(case)]):
        assert v["verdict"] == "no-match"
        assert 1e-6 < v["residual"] < 1e-3


def test_float32(case):
    assert [v["verdict"] for v in said(case, [U.astype(np.float32) for U in own(case)])] == ["match"] * 2
