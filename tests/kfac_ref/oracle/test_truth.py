"""The truth of a case, against the tests' own dense mathematics."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autodiff import Network
from autodiff.arrays import to_numpy
from kfac_ref.oracle import Case, truth
from tests.conftest import assert_home, random_parameters, random_targets, to
from tests.kfac_ref.oracle.dense_truth import dense_truth, difference
from tests.strategies import problems

BAR = 1e-9


def make_case(
    rng, sizes=(4, 3, 2), activations="tanh", likelihood="categorical", cases=6, V=True, sampled=True, **more
):
    network = Network(list(sizes), activations, likelihood)
    W = random_parameters(rng, network)
    X = rng.standard_normal((cases, sizes[0]))
    Y = random_targets(rng, likelihood, cases, sizes[-1])
    if V:
        more["V"] = random_parameters(rng, network)
    if sampled:
        more["sampled"] = random_targets(rng, likelihood, cases, sizes[-1])
    return Case(network, W, X, Y, **more)


@st.composite
def cases(draw) -> Case:
    p = draw(problems())
    assume(p.network.likelihood.name != "categorical" or p.network.sizes[-1] > 1)
    gamma, lam = draw(st.sampled_from([(0.1, None), (0.5, None), (2.0, None), (0.3, 0.01), (None, 0.05), (None, 1.0)]))
    return Case(
        p.network,
        p.W,
        p.X,
        p.Y,
        gamma=gamma,
        lam=lam,
        eta=draw(st.sampled_from([0.0, 1e-3, 0.1])),
        V=p.direction() if draw(st.booleans()) else None,
        sampled=random_targets(p.rng, p.network.likelihood.name, len(p.X), p.network.sizes[-1]),
        inverse=draw(st.sampled_from(["block-diagonal", "block-tridiagonal"])),
    )


@settings(max_examples=150)
@given(case=cases())
def test_everything_is_as_by_dense_algebra(case):
    found, expected = truth(case), dense_truth(case)
    assert found.left_out == {}
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        if name.startswith(("alpha", "mu")):
            continue
        assert difference(found[name], x) < BAR, name
    for suffix in ("", "_block_tridiagonal"):
        # the two coefficients together: μ may be as good as 0
        pair = [np.array([t[f"alpha{suffix}"], t[f"mu{suffix}"]]) for t in (found, expected)]
        assert difference(*pair) < BAR


EXACT = {
    "one case, categorical": ((5, 4, 3), "tanh", "categorical", 1),
    "one case, bernoulli": ((5, 4, 3), "relu", "bernoulli", 1),
    "one case, gaussian": ((5, 4, 3), "softplus", "gaussian", 1),
    "deep linear": ((5, 4, 4, 3), "identity", "gaussian", 9),
    "one linear layer": ((5, 3), "identity", "gaussian", 9),
}


@pytest.mark.parametrize("name", EXACT)
def test_where_the_kronecker_blocks_are_exact(rng, name):
    sizes, activation, likelihood, N = EXACT[name]
    found = truth(make_case(rng, sizes, activation, likelihood, N))
    layers = range(1, len(sizes))
    rows = np.cumsum([0] + [found[f"fisher_block_{i}"].shape[0] for i in layers])
    for i in layers:
        for j in layers:
            block = found["fisher"][rows[i - 1] : rows[i], rows[j - 1] : rows[j]]
            kronecker = np.kron(found[f"A_{i - 1}_{j - 1}"], found[f"G_{i}_{j}"])
            np.testing.assert_allclose(block, kronecker, rtol=0, atol=1e-12 * np.abs(block).max())


def test_every_library(rng, like64):
    host = make_case(rng, (4, 3, 5, 2), ["tanh", "relu", "identity"], "bernoulli", 6, gamma=0.2, eta=0.1)
    moved = Case(
        host.network, to(like64, host.parameters), to(like64, host.X), to(like64, host.Y), 0.2, None, 0.1,
        to(like64, host.V), to(like64, host.sampled),
    )  # fmt: skip
    found, expected = truth(moved), truth(host)
    assert list(found) == list(expected) and found.left_out == expected.left_out == {}
    for name, x in found.items():
        assert_home(x, like64)
        assert difference(to_numpy(x), expected[name]) < 1e-11, name


def test_float32_stays(rng):
    host = make_case(rng, gamma=0.2)
    parts = [np.asarray(x, np.float32) for x in (host.X, host.Y, host.sampled)]
    W, V = ([w.astype(np.float32) for w in layers] for layers in (host.parameters, host.V))
    found, expected = truth(Case(host.network, W, *parts[:2], gamma=0.2, V=V, sampled=parts[2])), truth(host)
    assert found.keys() == expected.keys()
    for name, x in found.items():
        assert x.dtype == np.float32, name
        assert difference(x, expected[name]) < 1e-4, name


# --- what is left out ------------------------------------------------------------------------------------------------

STEPS = [
    "alpha", "alpha_block_tridiagonal", "block_diagonal_i", "block_tridiagonal_i", "model_change",
    "model_change_block_tridiagonal", "mu", "mu_block_tridiagonal",
]  # fmt: skip


def test_without_gamma(rng):
    found = truth(make_case(rng))
    assert sorted(found.left_out) == STEPS
    assert set(found.left_out.values()) == {"the case gives neither gamma nor lambda"}
    assert not [name for name in found if name.startswith(("alpha", "mu", "model", "block"))]


@pytest.mark.parametrize(
    ("likelihood", "N", "reason"),
    [
        ("gaussian", 3, "A_0_0 is singular after damping with gamma = 0"),
        # adding a constant to all logits changes nothing
        ("categorical", 60, "G_2_2 is singular after damping with gamma = 0"),
    ],
)
def test_singular_factors(rng, likelihood, N, reason):
    found = truth(make_case(rng, (4, 3, 3), "tanh", likelihood, N, gamma=0.0))
    assert sorted(found.left_out) == STEPS and set(found.left_out.values()) == {reason}
    assert "fisher" in found


def test_dead_units_are_singular(rng):
    case = make_case(rng, (4, 3, 2), "relu", "gaussian", 20)
    case.parameters[0][:, -1] = -1e3
    found = truth(Case(case.network, case.parameters, case.X, case.Y, gamma=0.0))
    assert set(found.left_out.values()) == {"G_1_1 is singular after damping with gamma = 0"}
    assert found["pi_1"] == 1


def test_a_singular_sigma_leaves_out_the_tridiagonal_inverse_alone(rng):
    """In a linear network of equal widths, what is known of one layer's activities says all of the next's."""
    network = Network([3, 3, 3], "identity", "gaussian")
    X, Y = rng.standard_normal((2, 50, 3))
    for inverse, without in (("block-diagonal", STEPS[1::2]), ("block-tridiagonal", None)):
        found = truth(Case(network, random_parameters(rng, network), X, Y, gamma=0.0, inverse=inverse))
        expected = [s for s in STEPS if "tridiagonal" in s] + ["alpha", "mu", "model_change"] * (without is None)
        assert sorted(found.left_out) == sorted(expected)
        assert set(found.left_out.values()) == {"Sigma of layer 1 given 2 is singular with gamma = 0"}
        assert "block_diagonal_1" in found and "block_tridiagonal_1" not in found


def test_undamped_where_nothing_is_singular(rng):
    case = make_case(rng, (3, 2, 2), "tanh", "bernoulli", 60, gamma=0.0)
    found, expected = truth(case), dense_truth(case)
    assert found.left_out == {} and found.keys() == expected.keys()
    assert max(difference(found[name], expected[name]) for name in expected) < BAR


def test_large_matrices(rng):
    found = truth(make_case(rng, (90, 50, 2), "tanh", "gaussian", 2))
    assert found.left_out["fisher"] == found.left_out["fisher_empirical"] == "4652 parameters, dense up to 2000"
    assert found.left_out["fisher_block_1"] == "4550 rows, written up to 4000"
    assert found["fisher_block_2"].shape == (102, 102)


def test_what_overflows(rng):
    case = make_case(rng, (4, 3, 2), "softplus", "gaussian", gamma=0.1, V=False)
    found = truth(Case(case.network, [1e200 * W for W in case.parameters], case.X, case.Y, gamma=0.1))
    assert found.left_out["h"] == "not finite in float64"
    assert found.left_out["G_1_1"] == "not finite in float64"
    assert all(np.isfinite(x).all() for x in found.values())


def test_without_a_direction(rng):
    found = truth(make_case(rng, V=False, sampled=False, gamma=0.1))
    assert found["mu"] == 0 and found["alpha"] > 0 and found["model_change"] < 0
    assert not [name for name in found if name.startswith(("fisher_vector", "G_sampled"))]


def test_saved(rng, tmp_path):
    found = truth(make_case(rng, gamma=0.1))
    found.save(tmp_path / "truth.npz")
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as archive:
        assert set(archive.files) == set(found)
        for name in archive.files:
            np.testing.assert_array_equal(archive[name], found[name])


# --- time ------------------------------------------------------------------------------------------------------------


def test_time(rng):
    """1000 cases without the dense matrix: the bar is 10 s, and it is a fraction of one where nothing else runs."""
    network = (256, 20, 20, 20, 20, 20, 10)
    case = make_case(rng, network, "tanh", "categorical", 1000, gamma=0.1)
    began = time.process_time()
    found = truth(case)
    assert time.process_time() - began < 5
    assert "fisher" in found.left_out and "block_tridiagonal_6" in found
