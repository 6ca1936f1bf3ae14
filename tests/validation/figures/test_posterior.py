"""validation.figures.posterior: the figure in little; its measures against definitions."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from kfac_ref import posterior as laplace
from kfac_ref.data import datasets
from kfac_ref.data.fetching import FetchError
from validation import figures
from validation.figures import calibration, posterior
from validation.work import Work


def test_reliability_and_ece_of_made_up_probabilities():
    """Eight cases of confidence 0.9, six right; two of 0.55, both right."""
    p = np.array([[0.9, 0.1]] * 8 + [[0.45, 0.55]] * 2)
    labels = np.array([0] * 6 + [1] * 2 + [1, 1])
    confidence, accuracy, number = calibration.reliability(p, labels)
    assert number.sum() == 10 and number[13] == 8 and number[8] == 2
    assert (accuracy[13], accuracy[8], confidence[13]) == pytest.approx((0.75, 1.0, 0.9))
    assert np.isnan(confidence[0])
    assert calibration.expected_calibration_error(p, labels) == pytest.approx(0.8 * 0.15 + 0.2 * 0.45)
    assert calibration.entropy(np.array([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx([np.log(2), 0.0])


def test_auroc_is_that_of_all_pairs(rng):
    known, unknown = rng.integers(0, 6, 30), rng.integers(2, 8, 20)
    pairs = np.subtract.outer(unknown, known)
    assert calibration.auroc(known, unknown) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_the_small_networks_fit_their_cases():
    made, X, Y = posterior.regression()
    z = laplace.outputs(made, X).z
    assert np.sqrt(np.mean((z - Y) ** 2)) < 1.3 * posterior.NOISE
    assert 0.7 < made.noise_variance**0.5 / posterior.NOISE < 1.3
    near, far = (laplace.outputs(made, np.full((1, 1), x)).variance[0, 0] for x in (1.0, 3.0))
    assert far > 10 * near
    moons, X, labels = posterior.two_moons()
    p = laplace.probit(moons, laplace.outputs(moons, X))
    assert np.mean(p.argmax(1) != labels) < 0.05


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(calibration, "QUICK", calibration.Amount(("fashion16",), "mnist16", 8, 3, 100))
    monkeypatch.setattr(calibration, "GRID", np.array([1.0, 100.0]))
    monkeypatch.setattr(posterior, "ITERATIONS", 5)


def test_the_figure(small, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(calibration, "_images", lambda name: rng.random((20, 256), np.float32))
    made = figures.make("posterior", Work(tmp_path, quick=True))
    assert [row["probabilities"] for row in made["table"]] == list(calibration.METHODS)
    assert all(0 <= row["AUROC"] <= 1 for row in made["table"])
    assert made["table"][0]["λ₀"] is None and made["table"][2]["λ₀"] in (1.0, 100.0)
    with open(tmp_path / "posterior-reliability.csv", encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert sum(int(row["cases"]) for row in points) == 1000 * len(calibration.METHODS)


def test_without_digits_there_is_no_auroc(small, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "_images", lambda name: None)
    rows = calibration.rows(calibration.measured(Work(tmp_path, quick=True)))
    assert len(rows) == len(calibration.METHODS) and not any("AUROC" in row for row in rows)


def test_without_the_other_images_there_are_none(monkeypatch):
    def fail(name):
        raise FetchError("no network")

    monkeypatch.setattr(datasets, "load", fail)
    assert calibration._images("mnist16") is None
