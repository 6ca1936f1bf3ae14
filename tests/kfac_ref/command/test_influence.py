"""`kfac-ref influence`."""

from __future__ import annotations

import re

import numpy as np
import pytest

import kfac_ref
from kfac_ref.command.influence import Answer
from kfac_ref.influence import Influence
from kfac_ref.training.runs import prepare_again
from tests.kfac_ref.command.conftest import TINY, kfac
from tests.kfac_ref.command.test_plots import check_picture

SHORT = ("--iterations", 4, "--evaluate-every", 4, "--m1", 20, "--full-batch-at", 20)


@pytest.fixture
def images(here):
    """Three kinds of small images, 30 to train on and 6 to test."""
    rng = np.random.default_rng(1)
    labels = np.arange(36) % 3
    X = (0.3 * rng.random((36, 1, 5, 5)) + np.eye(5)[labels][:, None, :, None] * 0.7).astype(np.float32)
    Y = np.eye(3, dtype=np.float32)[labels]
    np.savez("images.npz", X=X[:30], Y=Y[:30], X_test=X[30:], Y_test=Y[30:])
    return here / "images.npz"


def run(images) -> None:
    assert kfac("train", "--data", images, "--network", "25-6-3", *SHORT, "--out", "run") == 0


def test_of_images(here, images, undrawn, capfd):
    """The table has the scores of `Influence` over N, in order; the picture is drawn."""
    run(images)
    capfd.readouterr()
    assert kfac("influence", "run", "--query", 2, 4, "--top", 3, "--out", "why.png") == 0
    said = capfd.readouterr().out
    check_picture(here / "why.png")
    model, data = kfac_ref.load("run"), prepare_again(here / "run").data
    scores = Influence(model.network, model.parameters, data.X, data.Y).on(data.X_test[[2, 4]], data.Y_test[[2, 4]])
    for block, row in zip(said.split("test case ")[1:], scores.sum(axis=0) / 30, strict=True):
        helps = re.findall(r"  helps +(\d+) +(\S+) +(\d)", block)
        harms = re.findall(r"  does harm +(\d+) +(\S+) +(\d)", block)
        order = np.argsort(-row, kind="stable")
        assert [int(n) for n, _, _ in helps] == list(order[:3]) and [int(n) for n, _, _ in harms] == list(order[:-4:-1])
        np.testing.assert_allclose(
            [float(x) for _, x, _ in helps + harms], row[[*order[:3], *order[:-4:-1]]], rtol=2e-3
        )
        assert all(int(label) == data.Y[int(n)].argmax() for n, _, label in helps + harms)


def test_of_an_autoencoder_and_its_training_cases(here, data, undrawn, capfd):
    """Where nothing is held out, and where there are no images; with any Fisher and damping."""
    with np.load(data) as archive:
        np.savez("all.npz", X=archive["X"])
    assert kfac("train", "--data", "all.npz", *TINY, "--iterations", 4, "--out", "run") == 0
    capfd.readouterr()
    for options in ([], ["--fisher", "sampled", "--diagonal", "kfac"], ["--fisher", "empirical", "--damping", 0.1]):
        assert kfac("influence", "run", "--query", 7, "--top", 2, *options) == 0
        said = capfd.readouterr().out
        assert "training case 7: loss " in said and "no picture: the cases are no images" in said
    assert not (here / "run" / "influence.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--query", "6"], "there is no test case 6: they are 0 … 5"),
        (["--query", "1", "--damping", "0"], "damping is 0, expected a finite number > 0"),
        (["--query", "1", "--top", "0"], "--top must be at least 1; got 0"),
        (["--query", "1", "--out", "x.pdf"], "--out must end in .png; got x.pdf"),
        (["--query", "1", "--quer", "2"], "unrecognized arguments: --quer"),
    ],
)
def test_bad_input(images, undrawn, capfd, options, said):
    run(images)
    assert kfac("influence", "run", *options) == 2
    assert said in capfd.readouterr().err


def test_a_model_alone_and_other_data(here, images, undrawn, capfd):
    run(images)
    assert kfac("influence", "run/model.safetensors", "--query", 1) == 2
    assert "is no run's folder, and only that says what the network was trained on" in capfd.readouterr().err
    with np.load(images) as archive:
        changed = dict(archive) | {"X": archive["X"] / 2}
    np.savez(images, **changed)
    assert kfac("influence", "run", "--query", 1) == 2
    assert "does not hold the data that the run in run began with" in capfd.readouterr().err


def test_cases_that_only_help_do_no_harm():
    answer = Answer(0, "", 1.0, np.array([0.3, 0.0, 0.2, -0.1]), np.array([0, 2, 1, 3]))
    assert list(answer.helpful(9)) == [0, 2] and list(answer.harmful(9)) == [3] and list(answer.helpful(1)) == [0]
