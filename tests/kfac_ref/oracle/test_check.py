"""`check` on factors and as a whole: each of the conventions and mistakes that it knows, by one clear example."""

from __future__ import annotations

import json

import array_api_strict
import numpy as np
import pytest

from kfac_ref.oracle import Case, check
from tests.conftest import OTHER_DEVICE
from tests.kfac_ref.oracle.dense_truth import dense_truth
from tests.kfac_ref.oracle.test_truth import make_case

N, C = 37, 3
SCALES = {
    "N": N,
    "1/N": 1 / N,
    "1/N^2": 1 / N**2,
    "2": 2,
    "4": 4,
    "1/2": 1 / 2,
    "1/C": 1 / C,
    "1/C^2": 1 / C**2,
    "2/C": 2 / C,
}


@pytest.fixture
def case(rng):
    return make_case(rng, (4, 6, 5, C), likelihood="gaussian", cases=N, V=False, sampled=False, lam=0.2, eta=0.01)


@pytest.fixture
def A(case):
    truth = dense_truth(case)
    return {f"A_{i}": truth[f"A_{i}_{i}"] for i in range(3)}


@pytest.fixture
def G(case):
    truth = dense_truth(case)
    return {f"G_{i}": truth[f"G_{i}_{i}"] for i in (1, 2, 3)}


@pytest.fixture
def empirical(case):
    truth = dense_truth(case)
    return {f"G_{i}": truth[f"G_empirical_{i}_{i}"] for i in (1, 2, 3)}


def times(theirs, scale: float) -> dict[str, np.ndarray]:
    return {name: scale * x for name, x in theirs.items()}


def said(case, theirs) -> dict[str, dict]:
    """The verdicts by name, through JSON as the command prints it."""
    return json.loads(json.dumps(check(theirs, case).as_dict(), allow_nan=False))["quantities"]


def test_the_project_s_own_matches(case, A, G):
    report = check(A | G, case)
    assert report.matches
    for name, v in report.as_dict()["quantities"].items():
        assert (v["verdict"], v["scale"], v["expression"]) == ("match", 1.0, "1")
        assert (v["fisher"], v["bias"]) == ((None, "last") if name[0] == "A" else ("exact", None))
        assert v["residual"] < 1e-12


# --- scale -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "scale"), SCALES.items())
def test_a_scale_of_g(case, A, G, text, scale):
    found = said(case, A | times(G, scale))
    assert {found[name]["verdict"] for name in A} == {"match"}
    for name in G:
        v = found[name]
        assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "exact", text)
        assert v["scale"] == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("text", ["N", "1/N", "1/2", "1/C"])
def test_a_scale_of_a(case, A, G, text):
    found = said(case, times(A, SCALES[text]) | G)
    assert {(found[name]["verdict"], found[name]["expression"]) for name in A} == {("match-under", text)}
    assert {found[name]["verdict"] for name in G} == {"match"}


@pytest.mark.parametrize("text", ["N", "1/N", "2", "1/2", "1/C"])
def test_a_scale_that_is_split_over_both_factors(case, A, G, text):
    root = SCALES[text] ** 0.5
    for v in said(case, times(A | G, root)).values():
        assert (v["verdict"], v["expression"]) == ("match-under", f"sqrt({text})")
        assert v["scale"] == pytest.approx(root, rel=1e-12)


def test_any_other_scale_is_a_number_with_its_nearest_name(case, G):
    for v in said(case, times(G, 37.3)).values():
        assert (v["verdict"], v["expression"], v["nearest"]) == ("match-under", None, "N")
        assert v["scale"] == pytest.approx(37.3, rel=1e-9)


def test_another_scale_in_each_layer(case, G):
    scales = {"G_1": "1/N^2", "G_2": "1", "G_3": "1/C"}
    found = said(case, {name: (SCALES | {"1": 1.0})[scales[name]] * G[name] for name in G})
    assert {name: v["expression"] for name, v in found.items()} == scales
    assert {name: v["verdict"] for name, v in found.items()} == {
        "G_1": "match-under",
        "G_2": "match",
        "G_3": "match-under",
    }


# --- which matrix ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1", "N", "1/N^2", "4"])
def test_the_empirical_fisher(case, empirical, text):
    for v in said(case, times(empirical, (SCALES | {"1": 1.0})[text])).values():
        assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "empirical", text)


def test_the_identity(case):
    found = said(case, {"G_1": np.eye(6), "G_2": np.eye(5)})
    assert {(v["verdict"], v["fisher"], v["expression"]) for v in found.values()} == {("match-under", "identity", "1")}


def test_some_layers_of_another_fisher(case, G, empirical):
    found = said(case, G | {"G_2": empirical["G_2"]})
    assert [v["fisher"] for v in found.values()] == ["exact", "empirical", "exact"]


# --- layout ----------------------------------------------------------------------------------------------------------


def test_bias_first(case, A):
    first = {name: np.block([[M[-1:, -1:], M[-1:, :-1]], [M[:-1, -1:], M[:-1, :-1]]]) for name, M in A.items()}
    for v in said(case, times(first, N)).values():
        assert (v["verdict"], v["bias"], v["expression"]) == ("match-under", "first", "N")


def test_without_the_ones(case, A):
    for v in said(case, {name: M[:-1, :-1] for name, M in A.items()}).values():
        assert (v["verdict"], v["bias"], v["expression"]) == ("match-under", "absent", "1")


def test_the_bias_in_a_block_of_its_own(case, A, G):
    biases = {name.replace("G_", "G_bias_"): M for name, M in G.items()}
    found = said(case, {name: M[:-1, :-1] for name, M in A.items()} | G | biases)
    assert {(found[name]["verdict"], found[name]["bias"]) for name in A} == {("match-under", "separate")}
    assert {(found[name]["fisher"], found[name]["expression"]) for name in G | biases} == {("exact", "1")}


def test_factors_swapped(case, A, G):
    theirs = {f"A_{i}": G[f"G_{i + 1}"] for i in range(3)} | {f"G_{i + 1}": A[f"A_{i}"] for i in range(3)}
    for v in said(case, theirs).values():
        assert (v["verdict"], v["expression"]) == ("match-under", "1")
        assert "swapped" in v["layout"]


def test_a_counted_from_one(case, A):
    """As layers are; a G has another size than the A of its number, so that nothing is ambiguous."""
    assert check({f"A_{i + 1}": A[f"A_{i}"] for i in range(3)}, case).matches


def test_activities_that_were_centred(case, A):
    """A covariance in place of the second moment."""
    centred = {name: M[:-1, :-1] - np.outer(M[:-1, -1], M[:-1, -1]) for name, M in A.items()}
    for v in said(case, centred).values():
        assert v["verdict"] == "match-under" and "covariance" in v["notes"][0]


# --- history and damping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "updates"), [(0.95, 1), (0.95, 10), (0.9, 3), (0.99, 1), (0.5, 2)])
def test_a_running_average_from_the_identity(case, A, G, decay, updates):
    theirs = {}
    for name, M in (A | times(G, N)).items():
        E = np.eye(len(M))
        for _ in range(updates):
            E = decay * E + (1 - decay) * M
        theirs[name] = E
    del theirs["G_3"]  # which is an identity itself
    for name, v in said(case, theirs).items():
        assert (v["verdict"], v["history"]["start"]) == ("match-under", "identity")
        assert v["history"]["decay"] ** v["history"]["updates"] == pytest.approx(decay**updates, rel=1e-9)
        assert v["expression"] == ("1" if name[0] == "A" else "N")  # of what was averaged


@pytest.mark.parametrize(("decay", "updates"), [(0.95, 1), (0.95, 4), (0.9, 3), (0.99, 1)])
def test_a_running_average_from_zero(case, A, decay, updates):
    theirs = {name: (1 - decay**updates) * M for name, M in A.items()}
    for v in said(case, theirs).values():
        assert (v["verdict"], v["history"]["start"]) == ("match-under", "zero")
        assert v["history"]["decay"] ** v["history"]["updates"] == pytest.approx(decay**updates, rel=1e-9)


@pytest.mark.parametrize(("text", "value"), [("lambda", 0.2), ("sqrt(lambda)", 0.2**0.5), ("lambda+eta", 0.21)])
def test_factors_that_are_damped_already(case, A, G, text, value):
    damped = {name: M + value * np.eye(len(M)) for name, M in (A | G).items() if name != "G_3"}
    for v in said(case, damped).values():
        assert (v["verdict"], v["expression"]) == ("match-under", "1")
        assert v["damping"] == f"{text} added to the diagonal"
    assert not check(damped, case).matches


# --- nothing fits ----------------------------------------------------------------------------------------------------


def test_where_nothing_fits_it_says_so_with_the_closest(case, A, G, rng):
    x, y = rng.standard_normal((2, 6, 6))
    theirs = A | G | {"G_1": x @ x.T, "A_1": A["A_1"] * (1 + 1e-5 * np.pad(y + y.T, (0, 1)))}
    report = check(theirs, case)
    assert not report.matches
    found = report.as_dict()["quantities"]
    for name in ("G_1", "A_1"):
        v = found[name]
        assert v["verdict"] == "no-match" and "closest: " in v["convention"]
        claims = ("scale", "expression", "nearest", "fisher", "samples", "bias", "layout", "history", "damping")
        assert {v[key] for key in claims} == {None}
    assert 1e-6 < found["A_1"]["residual"] < 1e-4  # how far the closest is
    assert found["G_1"]["residual"] > 0.1
    assert {v["verdict"] for name, v in found.items() if name not in ("G_1", "A_1")} == {"match"}


def test_what_is_not_symmetric_is_no_factor(case, A):
    for v in said(case, {"A_1": A["A_1"] + 1e-4 * np.triu(A["A_1"], 1)}).values():
        assert v["verdict"] == "no-match"


def test_zeros_are_explained_by_nothing(case):
    for v in said(case, {"G_1": np.zeros((6, 6)), "A_0": np.zeros((5, 5))}).values():
        assert v["verdict"] == "no-match"


def test_several_things_at_once(case, A, empirical):
    """Each quantity has its own explanation."""
    truth = dense_truth(case)
    theirs = {name: N * np.roll(M, (1, 1), (0, 1)) for name, M in A.items()}
    theirs |= {name: 0.95 * np.eye(len(M)) + 0.05 / N**2 * M for name, M in empirical.items()}
    theirs |= {f"gradient_{i}": -N * truth[f"gradient_{i}"].T for i in (1, 2, 3)}
    found = said(case, theirs)
    for i in (1, 2, 3):
        a, g, gradient = (found[name] for name in (f"A_{i - 1}", f"G_{i}", f"gradient_{i}"))
        assert (a["verdict"], a["expression"], a["bias"]) == ("match-under", "N", "first")
        assert (g["verdict"], g["fisher"], g["expression"]) == ("match-under", "empirical", "1/N^2")
        assert (g["history"]["start"], g["history"]["decay"]) == ("identity", 0.95)
        assert (gradient["verdict"], gradient["expression"], gradient["layout"]) == ("match-under", "-N", "transposed")


# --- arrays, time ----------------------------------------------------------------------------------------------------


def test_float32(case, A, G):
    single = {name: M.astype(np.float32) for name, M in (A | times(G, N)).items()}
    for name, v in said(case, single).items():
        assert (v["verdict"], v["expression"]) == (("match", "1") if name[0] == "A" else ("match-under", "N"))
        assert v["tolerance"] == 1e-5


def test_in_float32_what_is_off_in_the_fourth_digit_does_not_fit(case, G):
    G_1 = G["G_1"] * (1 + 1e-4 * np.add.outer(np.arange(6), np.arange(6)))
    assert said(case, {"G_1": G_1.astype(np.float32)})["G_1"]["verdict"] == "no-match"


def test_arrays_of_another_library_on_another_device(case, A, G):
    def move(x):
        return array_api_strict.asarray(x, device=OTHER_DEVICE)

    theirs = {name: move(M) for name, M in (A | G).items()}
    assert check(theirs, case).matches
    there = Case(
        case.network, [move(W) for W in case.parameters], move(case.X), move(case.Y), lam=case.lam, eta=case.eta
    )
    assert check(A | G, there).as_dict() == check(theirs, case).as_dict()
