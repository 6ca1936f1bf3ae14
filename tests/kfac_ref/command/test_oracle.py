"""`kfac-ref case`, `truth` and `check`: what they write, print, and say of bad input."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from autodiff import glorot_initialisation, he_initialisation, sparse_initialisation
from kfac_ref.command import oracle as commands
from kfac_ref.data import datasets
from kfac_ref.oracle import Case, Verdict, truth, verdict
from tests.kfac_ref.command.conftest import kfac
from tests.kfac_ref.oracle.dense_truth import dense_truth, difference
from tests.kfac_ref.oracle.test_truth import make_case

SMALL = ["--network", "256-3-10", "--likelihood", "categorical", "--cases", "5"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- case ------------------------------------------------------------------------------------------------------------


def test_a_case_of_classes(capsys):
    constants = ["--gamma", "0.5", "--lambda", "0.1", "--eta", "1e-3"]
    assert kfac("case", *SMALL, *constants, "--probe", "--sampled", "--seed", "3", "--out", "case.npz") == 0
    out, err = capsys.readouterr()
    said = "case.npz: 256-3-10 (tanh; categorical), 5 cases of fashion16, with V and sampled targets\n"
    assert (out, err) == (said, "")
    case, data = Case.load("case.npz"), datasets.load("fashion16")
    np.testing.assert_array_equal(case.X, data.X[:5])
    np.testing.assert_array_equal(case.Y, data.Y[:5])
    assert (case.gamma, case.lam, case.eta) == (0.5, 0.1, 1e-3)
    for W, expected in zip(case.parameters, sparse_initialisation(case.network, 3), strict=True):
        np.testing.assert_array_equal(W, expected)
    assert [v.shape for v in case.V] == case.network.shapes
    assert case.sampled.shape == (5, 10) and np.all(case.sampled.sum(1) == 1)


def test_an_autoencoder_and_its_defaults(capsys):
    assert kfac("case", "--network", "256-8-4-8-256", "--initialisation", "glorot", "--out", "case.npz") == 0
    assert "256-8-4-8-256 (tanh, identity, tanh; bernoulli), 100 cases of fashion16\n" in capsys.readouterr().out
    case = Case.load("case.npz")
    np.testing.assert_array_equal(case.X, case.Y)
    np.testing.assert_array_equal(case.parameters[2], glorot_initialisation(case.network, 0)[2])
    assert case.gamma is case.lam is case.V is case.sampled is None and case.eta == 0


def test_an_activation_for_each_layer(capsys):
    arguments = ["--network", "256-3-3-10", "--likelihood", "categorical", "--activation", "relu,softplus"]
    assert kfac("case", *arguments, "--out", "case.npz") == 0
    assert "(relu, softplus; categorical)" in capsys.readouterr().out


def test_data_of_ones_own(capsys):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((7, 4)), rng.standard_normal((7, 2))
    np.savez("mine.npz", X=X, Y=Y)
    assert kfac("case", "--data", "mine.npz", "--network", "4-3-2", "--out", "sub/case.npz") == 0
    assert "4-3-2 (tanh; gaussian), 7 cases of mine" in capsys.readouterr().out
    case = Case.load("sub/case.npz")
    np.testing.assert_array_equal(case.X, X)
    np.testing.assert_array_equal(case.Y, Y)


LAYERS = {
    "input": [1, 16, 16],
    "network": [
        {"kind": "conv", "out": 2, "kernel": [3, 3], "stride": [4, 4], "padding": [1, 1], "activation": "relu"},
        {"kind": "layer-norm"},
        {"kind": "global-mean"},
        {"kind": "dense", "out": 10},
    ],
}


def test_a_network_of_other_layers(here, capsys):
    """From a JSON file, from a line of text, and by a name."""
    (here / "network.json").write_text(json.dumps(LAYERS))
    line = "1x16x16: conv 2 3x3 stride=4 padding=1 relu, layer-norm, global-mean, dense 10"
    for network, name in (("network.json", "file"), (line, "line"), ("conv", "named")):
        arguments = ["--network", network, "--likelihood", "categorical", "--cases", "4", "--probe", "--sampled"]
        assert kfac("case", *arguments, "--lambda", "0.1", "--out", f"{name}.npz") == 0
    assert "4 cases of fashion16, with V and sampled targets" in capsys.readouterr().out
    case, data = Case.load("file.npz"), datasets.load("fashion16")
    assert (here / "file.npz").read_bytes() == (here / "line.npz").read_bytes()
    np.testing.assert_array_equal(case.X, data.X[:4].reshape(4, 1, 16, 16))
    np.testing.assert_array_equal(case.Y, data.Y[:4])
    assert [layer.kind for layer in case.network.weighted] == ["conv", "layer-norm", "dense"]
    for W, expected in zip(case.parameters, he_initialisation(case.network, 0), strict=True):
        np.testing.assert_array_equal(W, expected)
    assert [v.shape for v in case.V] == case.network.shapes and case.sampled.shape == (4, 10)
    assert kfac("truth", "file.npz", "--out", "truth.npz") == 0
    with np.load("truth.npz", allow_pickle=False) as archive:
        found = dict(archive)
    theirs = {"A_1": found["A_expand_1"], "G_1": found["G_expand_1"], "gradient_2": found["gradient_2"]}
    np.savez("theirs.npz", **theirs, block_2=found["fisher_block_2"], preconditioned_3=found["block_diagonal_3"])
    assert kfac("check", "theirs.npz", "--case", "file.npz") == 0
    np.savez("theirs.npz", A_1=found["Omega_1"], G_1=found["Gamma_1"])
    capsys.readouterr()
    assert kfac("check", "theirs.npz", "--case", "file.npz", "--json") == 0
    quantities = json.loads(capsys.readouterr().out)["quantities"]
    assert [q["sharing"] for q in quantities.values()] == ["kfc", "kfc"]


def test_the_same_seed_gives_the_same_case(here):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert kfac("case", *SMALL, "--probe", "--sampled", "--seed", seed, "--out", f"{name}.npz") == 0
    a, b, c = ((here / f"{name}.npz").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "5000"], "--cases 5000, expected 1 to 4000: fashion16 has so many training cases"),
        (["--cases", "0"], "--cases 0, expected 1 to 4000"),
        (["--network", "25-3-10"], "the network 25-3-10 begins with 25, but X of .fashion16. has 256 columns"),
        (["--network", "256"], "sizes must be at least two positive integers"),
        (["--network", "256/3"], '"256/3" is not sizes joined by "-"'),
        (["--network", "256:3"], 'unknown kind of layer "3"'),
        (["--network", "none.json"], "none.json: No such file"),
        (["--network", "1x28x28: conv 2 3x3, flatten, dense 10"], "fashion16"),
        (["--network", "conv", "--activation", "tanh"], "each layer of the network has an activation of its own"),
        (["--activation", "tanh,tanh,tanh"], "a network of 2 layers needs 2 activations; got 3"),
        (["--activation", "tan,relu"], 'unknown activation "tan"; did you mean "tanh"'),
        (["--likelihood", "poisson"], 'unknown likelihood "poisson"'),
        (["--data", "none.npz"], 'no data set or path "none.npz"'),
        (["--gamma", "-1"], "gamma is -1.0, expected a finite number ≥ 0"),
        (["--lambda", "nan"], "lambda is nan, expected a finite number ≥ 0"),
        (["--seed", "-1"], "seed must be a whole number from 0"),
        (["--initialisation", "zero"], 'unknown initialisation "zero"'),
        (["--cas", "5"], 'unrecognized arguments: --cas 5; did you mean "--cases"?'),
    ],
)
def test_bad_cases(here, capsys, arguments, message):
    assert kfac("case", *SMALL, *arguments, "--out", "case.npz") == 2
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1
    assert not (here / "case.npz").exists()


# --- truth -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(rng):
    """A file with a small case."""
    make_case(rng, gamma=0.2).save("case.npz")
    return "case.npz"


def test_the_truth_of_a_case(small, capsys):
    assert kfac("truth", small, "--out", "truth.npz") == 0
    out, err = capsys.readouterr()
    case = Case.load(small)
    expected = dense_truth(case)
    with np.load("truth.npz", allow_pickle=False) as archive:
        assert set(archive.files) == set(expected)
        for name, x in expected.items():
            assert difference(archive[name], x) < 1e-9, name
    assert err == ""
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["truth.npz:", "4-3-2", "(tanh;", "categorical),", "6", "cases"]
    assert ["z", "1", "6x2"] in lines and ["A_i_j", "4", "5x5", "5x4", "4x4", "4x5"] in lines
    assert ["h", "1", f"{float(expected['h']):.6g}"] in lines
    assert sum(int(line[1]) for line in lines[1:]) == len(expected)


def test_what_is_left_out_is_said(capsys):
    assert kfac("case", *SMALL, "--network", "256-20-10", "--out", "case.npz") == 0
    capsys.readouterr()
    assert kfac("truth", "case.npz", "--out", "truth.npz") == 0
    err = capsys.readouterr().err.splitlines()
    assert "kfac-ref: left out fisher, fisher_empirical: 5350 parameters, dense up to 2000" in err
    assert "kfac-ref: left out fisher_block_1: 5140 rows, written up to 4000" in err
    assert any(
        re.search(r"left out block_diagonal_i, alpha.*: the case gives neither gamma nor lambda", e) for e in err
    )
    assert len(err) == 3


def test_bad_truths(here, small, capsys):
    (here / "text.npz").write_text("text")
    for arguments, message in (
        ([small, "--out", small], "--out is the case itself: case.npz"),
        (["none.npz", "--out", "t.npz"], "none.npz: cannot be read: No such file or directory"),
        (["text.npz", "--out", "t.npz"], "text.npz: is not a whole .npz archive"),
        ([small], "the following arguments are required: --out"),
        ([small, "--oud", "t.npz", "--out", "t.npz"], 'unrecognized arguments: --oud t.npz; did you mean "--out"?'),
        ([small, "--out", "case.npz/t.npz"], "case.npz"),
    ):
        assert kfac("truth", *arguments) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not (here / "t.npz").exists()


# --- check -----------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What a check gives, as far as the command is concerned."""

    matches: bool
    quantities: dict = field(default_factory=dict)

    def __str__(self):
        return "the table"

    def as_dict(self):
        return {"summary": "½", "quantities": self.quantities}


@pytest.mark.parametrize(("matches", "code"), [(True, 0), (False, 1)])
def test_exit_code_and_what_is_printed(monkeypatch, small, capsys, matches, code):
    asked = []
    monkeypatch.setattr(commands, "check", lambda theirs, case: asked.append((theirs, case)) or Report(matches))
    assert kfac("check", "theirs.npz", "--case", small) == code
    assert capsys.readouterr().out == "the table\n"
    assert kfac("check", "theirs.npz", "--case", small, "--json") == code
    out = capsys.readouterr().out
    assert json.loads(out) == Report(matches).as_dict() and "½" in out
    assert str(asked[0][0]) == "theirs.npz" and asked[0][1].cases == 6


def test_json_has_no_nan(monkeypatch, small, capsys):
    values = {"scale": float("nan"), "damping_values": (0.1, float("inf")), "samples": 3}
    said = Verdict("G_1", verdict.Explanation(residual=float("nan"), tolerance=np.float64(1e-9), **values))
    monkeypatch.setattr(commands, "check", lambda theirs, case: verdict.Report({"G_1": said}, "two\nlines"))
    assert kfac("check", "theirs.npz", "--case", small, "--json") == 1

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    said = json.loads(capsys.readouterr().out, parse_constant=refuse)["quantities"]["G_1"]
    assert (said["scale"], said["damping_values"], said["samples"]) == (None, [0.1, None], 3)
    assert (said["residual"], said["tolerance"]) == (None, 1e-9)


def test_the_truth_matches_as_it_stands(small, capsys):
    found = truth(Case.load(small))
    np.savez("theirs.npz", A_0=found["A_0_0"], A_1=found["A_1_1"], G_1=found["G_1_1"], fisher=found["fisher"])
    assert kfac("check", "theirs.npz", "--case", small, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert {quantity["verdict"] for quantity in said["quantities"].values()} == {"match"}
    assert said["quantities"].keys() == {"A_0", "A_1", "G_1", "fisher"}
    np.savez("theirs.npz", G_1=6 * found["G_1_1"])
    assert kfac("check", "theirs.npz", "--case", small) == 1
    assert "match-under" in capsys.readouterr().out


def test_what_differs_is_explained(small, capsys):
    np.savez("theirs.npz", G_1=6 * truth(Case.load(small))["G_empirical_1_1"])
    assert kfac("check", "theirs.npz", "--case", small, "--explain") == 1
    printed = capsys.readouterr().out
    assert "yours:  N · (1/N Σ_n g gᵀ), g = ∂L/∂s_1, y the data's" in printed and "(§3, §5)" in printed
    assert kfac("check", "theirs.npz", "--case", small, "--explain", "--json") == 1
    assert json.loads(capsys.readouterr().out)["explain"] in printed
    assert kfac("check", "theirs.npz", "--case", small, "--json") == 1
    assert "explain" not in json.loads(capsys.readouterr().out)


def test_bad_checks(here, small, capsys):
    np.savez("nan.npz", G_1=np.full((3, 3), np.nan))
    np.savez("object.npz", G_1=np.eye(3).astype(object))
    np.savez("name.npz", H_1=np.eye(3))
    np.savez("shape.npz", G_1=np.eye(7))
    with np.load(small) as archive:
        arrays, settings = dict(archive), json.loads(str(archive["settings"]))
    for name, text in (
        ("large.npz", json.dumps(settings | {"gamma": 10**400})),
        ("deep.npz", "[" * 100_000),
        ("null.npz", json.dumps(settings | {"layers": None})),
    ):
        np.savez(name, **arrays | {"settings": np.asarray(text)})
    (here / "text.npz").write_text("text")
    for arguments, message in (
        (["nan.npz", "--case", small], "nan.npz: key 'G_1' is nan at row 0, column 0, expected finite numbers"),
        (["object.npz", "--case", small], "object.npz: key 'G_1' holds pickled objects"),
        (["name.npz", "--case", small], 'name.npz: unknown name "H_1"; did you mean "G_1"?'),
        (["shape.npz", "--case", small], "shape.npz: key 'G_1' has shape (7, 7), expected (3, 3)"),
        (["text.npz", "--case", small], "text.npz: is not a whole .npz archive"),
        (["none.npz", "--case", small], "none.npz: cannot be read: No such file or directory"),
        (["nan.npz", "--case", "text.npz"], "text.npz: is not a whole .npz archive"),
        (["nan.npz", "--case", "nan.npz"], "nan.npz: key 'settings' is missing, found 'G_1'"),
        (["nan.npz", "--case", "large.npz"], "large.npz: gamma is 1000"),
        (["nan.npz", "--case", "deep.npz"], "deep.npz: key 'settings' is JSON nested too deeply"),
        (["nan.npz", "--case", "null.npz"], "null.npz: settings: 'layers' is None, expected a list of whole numbers"),
        (["nan.npz"], "the following arguments are required: --case"),
    ):
        assert kfac("check", *arguments) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
