"""`kfac-ref predict`, `evaluate` and `export`, and training on tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import kfac_ref
from kfac_ref.data.table_file import read_table
from tests.kfac_ref.command.conftest import kfac, settings_of
from tests.kfac_ref.command.test_plots import check_picture

TRAIN = ["--iterations", 15, "--evaluate-every", 5]


@pytest.fixture
def table(here):
    """Two kinds of a plant, told apart by a number and a word; a row has an age that is missing."""
    rng = np.random.default_rng(0)
    rows = [["height", "soil", "age", "kind", "note"]]
    for i in range(60):
        kind = i % 2
        soil = rng.choice(["sand", "clay"], p=[0.8, 0.2] if kind else [0.2, 0.8])
        age = "" if i == 7 else round(float(rng.uniform(1, 9)), 2)
        rows.append([round(float(rng.normal(3 * kind, 1)), 3), soil, age, ["fern", "moss"][kind], f"plant {i}"])
    with open(here / "plants.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return here / "plants.csv"


PLANTS = ["--data", "plants.csv", "--target", "kind", "--drop", "note", "--impute", "median"]


def test_from_a_table_to_predictions(here, table, capfd):
    assert kfac("train", *PLANTS, *TRAIN, "--validation", 0.2, "--patience", 2, "--out", "run") == 0
    said = capfd.readouterr().out
    assert "48 training cases, 12 test cases" in said and "note    dropped" in said
    assert "soil    2 categories, one-hot: clay, sand; missing: " in said and "target, 2 classes: fern, moss" in said
    assert "model     run/model.safetensors" in said
    assert kfac("predict", "run", "--data", "plants.csv", "--out", "p.csv") == 0
    model, columns = kfac_ref.load("run"), read_table(table)
    with open("p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["prediction", "probability of fern", "probability of moss"] and len(rows) == 61
    assert [row[0] for row in rows[1:]] == list(model.predict(columns))
    np.testing.assert_allclose([[float(x) for x in row[1:]] for row in rows[1:]], model.predict_proba(columns))
    assert np.mean(model.predict(columns) == columns["kind"]) > 0.85


def test_an_evaluation(here, table, capfd):
    assert kfac("train", *PLANTS, *TRAIN, "--out", "run") == 0
    capfd.readouterr()
    assert kfac("evaluate", "run", "--data", "plants.csv") == 0
    said = capfd.readouterr().out
    model, columns = kfac_ref.load("run"), read_table(table)
    accuracy = np.mean(model.predict(columns) == columns["kind"])
    assert f"accuracy   {accuracy:.4f}" in said and "log-loss" in said and "true \\ said" in said
    check_picture(here / "run" / "evaluation.png")


def test_numbers_are_predicted_as_they_were(here, table, capfd):
    assert kfac("train", *PLANTS[:2], "--target", "height", *PLANTS[4:], *TRAIN, "--out", "run") == 0
    assert kfac("predict", "run", "--data", "plants.csv", "--out", "p.npz") == 0
    columns = read_table(table)
    with np.load("p.npz", allow_pickle=False) as found:
        assert list(found["outputs"]) == ["height"]
        residual = found["prediction"][:, 0] - columns["height"]
    assert residual.var() < 0.6 * np.var(columns["height"]) and abs(residual.mean()) < 0.1
    capfd.readouterr()
    assert kfac("evaluate", "run", "--data", "plants.csv", "--out", "e.png") == 0
    assert f"RMSE   {np.sqrt(np.mean(residual**2)):.4g}"[:10] in capfd.readouterr().out
    check_picture(here / "e.png")


def test_exports(here, table, capfd):
    runtime = pytest.importorskip("onnxruntime")
    assert kfac("train", *PLANTS, *TRAIN, "--out", "run") == 0
    assert kfac("export", "run", "--to", "onnx") == 0
    assert kfac("export", "run", "--to", "safetensors", "--out", "m.safetensors") == 0
    model = kfac_ref.load("m.safetensors")
    X = model.preparation.recipe.encode(read_table(table)).astype(np.float32)
    (p,) = runtime.InferenceSession("run/model.onnx", providers=["CPUExecutionProvider"]).run(None, {"X": X})
    np.testing.assert_allclose(p, kfac_ref.load("run").predict_proba(X), atol=1e-5)
    assert capfd.readouterr().out.endswith("run/model.onnx\nm.safetensors\n")


def test_a_data_set_by_name_is_evaluated_on_its_test_cases(here, capfd):
    options = ["--likelihood", "categorical", "--network", "256-10", "--iterations", 2, "--out", "run"]
    assert kfac("train", "--data", "fashion16", *options) == 0
    assert kfac("evaluate", "run", "--data", "fashion16") == 0
    out, err = capfd.readouterr()
    assert "these are the test cases" in err and "cases      1000" in out


def test_a_resumed_run_reads_its_table_as_before(here, table):
    options = [*PLANTS, "--validation", 0.2, "--seed", 5, "--evaluate-every", 5]
    assert kfac("train", *options, "--iterations", 10, "--out", "whole") == 0
    assert kfac("train", *options, "--iterations", 5, "--out", "parts") == 0
    assert kfac("train", "--resume", "parts", "--iterations", 10) == 0
    one, two = kfac_ref.load("whole"), kfac_ref.load("parts")
    for W, V in zip(one.parameters, two.parameters, strict=True):
        np.testing.assert_array_equal(W, V)
    found = settings_of(here / "parts")
    assert found["target"] == "kind" and found["drop"] == ["note"] and found["validation"] == 0.2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--data", "plants.csv", "--target", "kin"], '; did you mean "kind"?'),
        (["train", "--data", "plant.csv", "--target", "kind"], 'no data set or path "plant.csv"'),
        (["train", "--data", "plants.csv", "--target", "kind"], 'row 8, column "age" is missing; give --impute median'),
        (["train", *PLANTS, "--patience", "3"], "patience needs held-out cases: give --validation"),
        (["train", *PLANTS, "--likelihood", "gaussian"], 'column "kind" is "fern", expected a number'),
        (["predict", "none", "--data", "plants.csv", "--out", "p.csv"], "none: is not there; expected a run's folder"),
        (["predict", "none", "--data", "plants.csv", "--out", "p.txt"], "--out must end in .csv or .npz; got p.txt"),
        (["evaluate", "none", "--data", "plants.csv", "--out", "p.txt"], "--out must end in .png; got p.txt"),
        (["export", "none", "--to", "onnx", "--out", "m.pt"], "--out must end in .onnx for onnx; got m.pt"),
        (["export", "none", "--to", "onxx"], "argument --to: invalid choice: 'onxx'"),
        (["predict", "plants.csv", "--data", "plants.csv", "--out", "p.csv"], "is not a whole safetensors file"),
    ],
)
def test_mistakes(here, table, capfd, arguments, said):
    assert kfac(*arguments) == 2
    out, err = capfd.readouterr()
    assert said in err and err.count("\n") == 1 and out == ""
