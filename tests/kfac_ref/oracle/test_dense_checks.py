"""Verdicts on dense blocks and on the dense Fisher: which matrix, in which order."""

from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.conftest import sampled_targets
from tests.dense import assemble, case_forward, dense_empirical
from tests.kfac_ref.oracle.dense_truth import dense_truth
from tests.kfac_ref.oracle.test_truth import make_case

N, C = 20, 3
SIZES = (2, 4, C)


@pytest.fixture
def case(rng):
    return make_case(rng, SIZES, cases=N, V=False, sampled=False)


@pytest.fixture
def truth(case):
    return dense_truth(case)


def said(case, **theirs) -> dict:
    """The verdict on the one quantity."""
    (v,) = check(theirs, case).as_dict()["quantities"].values()
    return v


def place(i: int, r: int, c: int) -> int:
    """Where entry (r, c) of layer i's matrix, bias last, is in its vector: columns stacked."""
    return c * SIZES[i] + r


def order(i: int, name: str) -> list[int]:
    """A layer's entries in another order, by loops."""
    d, n = SIZES[i], SIZES[i - 1]
    rows, columns = range(d), range(n)
    weights = [place(i, r, c) for r in rows for c in columns]
    biases = [place(i, r, n) for r in rows]
    return {
        "column-major, last": [place(i, r, c) for c in range(n + 1) for r in rows],
        "row-major, last": [place(i, r, c) for r in rows for c in range(n + 1)],
        "row-major weights, then the bias, last": weights + biases,
        "the bias, then row-major weights, first": biases + weights,
        "column-major, first": biases + [place(i, r, c) for c in columns for r in rows],
        "row-major, first": [place(i, r, c) for r in rows for c in (n, *columns)],
        "column-major, absent": [place(i, r, c) for c in columns for r in rows],
        "row-major, absent": weights,
    }[name]


ORDERS = (
    "column-major, last",
    "row-major, last",
    "row-major weights, then the bias, last",
    "the bias, then row-major weights, first",
    "column-major, first",
    "row-major, first",
    "column-major, absent",
    "row-major, absent",
)


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_a_block(case, truth, name):
    index = order(1, name)
    v = said(case, block_1=truth["fisher_block_1"][np.ix_(index, index)])
    assert f"{v['layout']}, {v['bias']}" == name
    assert (v["fisher"], v["matrix"], v["expression"]) == ("exact", "Fisher block", "1")
    assert v["verdict"] == ("match" if name == "column-major, last" else "match-under")


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_the_fisher(case, truth, name):
    start = SIZES[1] * (SIZES[0] + 1)
    index = order(1, name) + [start + k for k in order(2, name)]
    v = said(case, fisher=truth["fisher"][np.ix_(index, index)])
    assert f"{v['layout']}, {v['bias']}" == name
    assert (v["fisher"], v["expression"]) == ("exact", "1")
    assert v["verdict"] == ("match" if name == "column-major, last" else "match-under")


def test_layers_backward(case, truth):
    start = SIZES[1] * (SIZES[0] + 1)
    index = [start + k for k in order(2, "row-major, last")] + order(1, "row-major, last")
    v = said(case, fisher=truth["fisher"][np.ix_(index, index)])
    assert (v["verdict"], v["layout"]) == ("match-under", "row-major, last layer first")


def test_all_weights_then_all_biases(case, truth):
    start, n, m = SIZES[1] * (SIZES[0] + 1), *SIZES[:2]
    weights = order(1, "row-major, absent") + [start + k for k in order(2, "row-major, absent")]
    biases = [place(1, r, n) for r in range(m)] + [start + place(2, r, m) for r in range(C)]
    v = said(case, fisher=truth["fisher"][np.ix_(weights + biases, weights + biases)])
    assert (v["verdict"], v["layout"]) == ("match-under", "row-major, all weights, then all biases")


@pytest.mark.parametrize(("scale", "text"), [(N, "N"), (1 / N**2, "1/N^2"), (1 / C, "1/C"), (2, "2"), (-1, "-1")])
def test_scale(case, truth, scale, text):
    for name, M in (("block_2", truth["fisher_block_2"]), ("fisher", truth["fisher"])):
        v = said(case, **{name: scale * M})
        assert (v["verdict"], v["expression"], v["fisher"]) == ("match-under", text, "exact")


def test_any_other_scale_is_a_number(case, truth):
    v = said(case, fisher=0.3719 * truth["fisher"])
    assert (v["verdict"], v["expression"]) == ("match-under", None)
    assert v["scale"] == pytest.approx(0.3719, rel=1e-10)


def test_the_empirical_fisher(case, truth):
    v = said(case, fisher=N * truth["fisher_empirical"])
    assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "empirical", "N")
    p = len(truth["fisher_block_1"])
    v = said(case, block_1=truth["fisher_empirical"][:p, :p])
    assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "empirical", "1")


@pytest.mark.parametrize("kind", ["exact", "empirical"])
def test_the_kronecker_product_in_place_of_a_block(case, truth, kind):
    G = truth["G_1_1" if kind == "exact" else "G_empirical_1_1"]
    v = said(case, block_1=np.kron(truth["A_0_0"], G))
    assert (v["verdict"], v["fisher"]) == ("match-under", kind)
    assert (v["matrix"], v["layout"]) == ("Kronecker product of the factors", "column-major")
    v = said(case, block_1=np.kron(G, truth["A_0_0"]))
    assert (v["matrix"], v["layout"]) == ("Kronecker product of the factors", "row-major")


def test_forward_only(case, truth):
    v = said(case, block_1=np.kron(truth["A_0_0"], np.eye(SIZES[1])))
    assert (v["verdict"], v["fisher"]) == ("match-under", "identity")


def test_the_diagonal_blocks_alone(case, truth):
    blocks = assemble({(i, i): truth[f"fisher_block_{i}"] for i in (1, 2)}, 2)
    v = said(case, fisher=blocks)
    assert (v["verdict"], v["fisher"], v["matrix"]) == ("match-under", "exact", "Fisher, diagonal blocks alone")


def test_kronecker_factored_in_place_of_the_fisher(case, truth):
    K = {(i, j): np.kron(truth[f"A_{i - 1}_{j - 1}"], truth[f"G_{i}_{j}"]) for i in (1, 2) for j in (1, 2)}
    assert said(case, fisher=assemble(K, 2))["matrix"] == "Kronecker-factored F̃"
    assert said(case, fisher=assemble({ij: K[ij] for ij in ((1, 1), (2, 2))}, 2))["matrix"] == "block-diagonal F̆"


def test_damping_on_the_diagonal(rng):
    case = make_case(rng, SIZES, cases=N, V=False, sampled=False, lam=0.2)
    F = dense_truth(case)["fisher"]
    v = said(case, fisher=F + 0.2 * np.eye(len(F)))
    assert (v["verdict"], v["damping"], v["expression"]) == ("match-under", "lambda added to the diagonal", "1")


def test_a_running_average_from_the_identity(case, truth):
    F = truth["fisher"]
    v = said(case, fisher=0.9 * np.eye(len(F)) + 0.1 * N * F)
    assert (v["history"]["start"], v["history"]["decay"], v["expression"]) == ("identity", 0.9, "N")


@pytest.mark.parametrize("row_major", [False, True])
def test_sampled_targets(case, truth, rng, row_major):
    z = np.array([case_forward(case.network, case.parameters, x)[2] for x in case.X])
    draws = [sampled_targets(rng, "categorical", z) for _ in range(5)]
    F = np.mean([dense_empirical(case.network, case.parameters, case.X, y) for y in draws], axis=0)
    if row_major:
        start = SIZES[1] * (SIZES[0] + 1)
        index = order(1, "row-major, last") + [start + k for k in order(2, "row-major, last")]
        F = F[np.ix_(index, index)]
    v = said(case, fisher=F)
    assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "monte-carlo", "1")
    assert 5 / 3 <= v["samples"] <= 15
    assert v["layout"] == ("row-major" if row_major else "column-major")


def test_another_matrix_is_not_explained(case, truth, rng):
    noise = rng.standard_normal(truth["fisher"].shape)
    v = said(case, fisher=truth["fisher"] + 1e-5 * (noise + noise.T))
    assert (v["verdict"], v["fisher"], v["layout"]) == ("no-match", None, None)
    assert 1e-6 < v["residual"] < 1e-2
