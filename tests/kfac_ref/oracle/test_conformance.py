"""The conformance vectors in the package: whole, as their maker makes them, and right by the tests' own mathematics."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest

from kfac_ref.oracle import CapturedCase, check, truth, vectors
from tests.kfac_ref.data.test_npz_file import read_simply
from tests.kfac_ref.oracle.dense_truth import dense_truth, difference
from tests.kfac_ref.oracle.layered_truth import layered_truth
from validation import make_conformance

MANIFEST = vectors.manifest()
NAMES = list(MANIFEST["vectors"])
CASES = vectors.cases()
DENSE = [name for name in NAMES if CASES[name].network.fully_connected]


def kind(name: str) -> str:
    """The name without layers."""
    return re.sub(r"(_\d+)+$", "", name)


def assert_within(found, expected, tolerance) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        if not name.startswith(("alpha", "mu")):
            assert difference(found[name], expected[name]) <= tolerance[kind(name)], name
    for suffix in ("", "_block_tridiagonal"):
        if f"alpha{suffix}" in expected:
            pair = [np.array([t[f"alpha{suffix}"], t[f"mu{suffix}"]]) for t in (found, expected)]
            assert difference(*pair) <= tolerance[f"alpha{suffix}"]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_those_of_the_manifest(name):
    for what in ("case", "truth"):
        entry = MANIFEST["vectors"][name][what]
        content = (vectors.FOLDER / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]


@pytest.mark.parametrize("name", NAMES)
def test_files_are_plain(name):
    """As the page says, so that whoever writes a reader can."""
    vector = MANIFEST["vectors"][name]
    case, found = (read_simply((vectors.FOLDER / vector[what]["file"]).read_bytes()) for what in ("case", "truth"))
    assert json.loads(case.pop("settings")) == vector["settings"]
    layers = range(1, CASES[name].network.layers + 1)
    if isinstance(CASES[name], CapturedCase):
        assert case.keys() >= {"z", "Y", *(f"{what}_{i}" for i in layers for what in "ag")}
        np.testing.assert_array_equal(case["g_1"], CASES[name].layers[0].g)
    else:
        assert case.keys() >= {"X", "Y", *(f"W_{i}" for i in layers)}
        np.testing.assert_array_equal(case["W_1"], CASES[name].parameters[0])
    expected = vectors.shipped_truth(name)
    assert found.keys() == expected.keys()
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])


def test_nothing_else_is_there():
    listed = {MANIFEST["vectors"][name][what]["file"] for name in NAMES for what in ("case", "truth")}
    files = {path.name: len(path.read_bytes()) for path in vectors.FOLDER.iterdir()}
    assert files.keys() == listed | {"README.md", "manifest.json"}
    assert sum(files.values()) < 1_700_000


@pytest.mark.parametrize("name", NAMES)
def test_truth_is_as_by_dense_algebra(name):
    expected = dense_truth(CASES[name]) if name in DENSE else layered_truth(CASES[name])
    assert_within(vectors.shipped_truth(name), expected, MANIFEST["vectors"][name]["tolerance"])


@pytest.mark.parametrize("name", NAMES)
def test_truth_computed_anew(name):
    vector, found = MANIFEST["vectors"][name], truth(CASES[name])
    assert_within(found, vectors.shipped_truth(name), vector["tolerance"])
    assert found.left_out == vector["left_out"]
    assert vector["tolerance"].keys() == {kind(name) for name in found}


@pytest.mark.parametrize("name", NAMES)
def test_truth_in_the_names_of_a_check_matches(name):
    found, layers = vectors.shipped_truth(name), range(1, CASES[name].network.layers + 1)
    theirs = {"fisher": found["fisher"]} if "fisher" in found else {}
    for i in layers:
        if name in DENSE:
            theirs |= {f"A_{i - 1}": found[f"A_{i - 1}_{i - 1}"], f"G_{i}": found[f"G_{i}_{i}"]}
        elif f"A_expand_{i}" in found:
            theirs |= {f"A_{i}": found[f"A_expand_{i}"], f"G_{i}": found[f"G_expand_{i}"]}
        theirs |= {f"gradient_{i}": found[f"gradient_{i}"], f"block_{i}": found[f"fisher_block_{i}"]}
        if CASES[name].gamma_used is not None:
            theirs[f"preconditioned_{i}"] = found[f"block_diagonal_{i}"]
    report = check(theirs, CASES[name])
    assert report.quantities.keys() == theirs.keys()
    assert report.matches, str(report)


@pytest.mark.parametrize("name", NAMES)
def test_tolerances_tell_mistakes_from_rounding(name):
    assert max(MANIFEST["vectors"][name]["tolerance"].values()) <= 1e-7


def test_made_again(tmp_path, capsys):
    """The cases are the same to the byte on every machine; their truths are on this one."""
    for folder in ("a", "b"):
        assert make_conformance.main(["--out", str(tmp_path / folder)]) == 0
    assert "bytes in all" in capsys.readouterr().out
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        if path.name.endswith(".case.npz"):
            assert path.read_bytes() == (vectors.FOLDER / path.name).read_bytes()


# --- each is what it says it is --------------------------------------------------------------------------------------


def test_what_the_cases_cover():
    networks = [CASES[name].network for name in DENSE]
    assert {n.likelihood.name for n in networks} == {"bernoulli", "categorical", "gaussian"}
    hidden = {phi.name for n in networks for phi in n.activations[:-1]}
    assert hidden == {"tanh", "logistic", "relu", "softplus", "identity"}
    assert {n.layers for n in networks} >= {1, 2, 3, 4}
    assert any(case.sampled is not None for case in CASES.values())
    assert {case.inverse for case in CASES.values()} == {"block-diagonal", "block-tridiagonal"}


def test_which_layers_the_cases_cover():
    others = [CASES[name] for name in NAMES if name not in DENSE]
    assert sum(isinstance(case, CapturedCase) for case in others) == 1
    said = " ".join(str(case.network) for case in others)
    for words in ("conv", "stride=", "padding=", "bias=false", "mean-over-positions", "layer-norm", "batch-norm"):
        assert words in said, words
    assert "residual" in said and "recurrent" in said
    assert any(case.network.likelihood.positions > 1 for case in others)


def test_one_case():
    assert CASES["one-case"].cases == 1


@pytest.mark.parametrize("name", ["fewer-cases-than-width", "rank-deficient"])
def test_rank(name):
    A = vectors.shipped_truth(name)["A_0_0"]
    assert np.linalg.matrix_rank(A) < len(A)


def test_soft_targets():
    Y = CASES["soft-targets"].Y
    assert np.all(Y.sum(1) == 1) and not np.isin(Y, (0, 1)).all()


def test_dead_unit():
    G = vectors.shipped_truth("dead-unit")["G_1_1"]
    assert not G[1].any() and not G[:, 1].any() and G.any()


@pytest.mark.parametrize("name", ["one-case", "deep-linear", "one-layer"])
def test_exact_kronecker_products(name):
    found = vectors.shipped_truth(name)
    for i in range(1, CASES[name].network.layers + 1):
        kronecker = np.kron(found[f"A_{i - 1}_{i - 1}"], found[f"G_{i}_{i}"])
        assert difference(kronecker, found[f"fisher_block_{i}"]) < 1e-12


def test_the_page_names_every_quantity():
    page = (vectors.FOLDER / "README.md").read_text(encoding="utf-8")
    for quantity in {kind(name) for name in NAMES for name in vectors.shipped_truth(name)}:
        assert f"`{quantity}" in page, quantity
