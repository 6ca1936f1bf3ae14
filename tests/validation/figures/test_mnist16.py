"""Figures 2, 3, 5, 6: the network that they look into, and its middle layers."""

import numpy as np
import pytest

from autodiff import Network, glorot_initialisation
from autodiff.passes import ForwardPass
from kfac_ref.curvature import block_diagonal, block_tridiagonal, damping, factors, fisher, kronecker_fisher
from kfac_ref.data import datasets
from kfac_ref.data.fetching import FetchError
from validation.figures import figure_02, figure_03, figure_05, figure_06, mnist16
from validation.work import Work

GAMMA = 0.1


@pytest.fixture
def forward_pass():
    network = Network((5, 4, 2, 3, 4, 2, 3), "tanh", "categorical")
    parameters = [2 * W for W in glorot_initialisation(network, 0)]
    return ForwardPass(network, parameters, np.random.default_rng(1).standard_normal((30, 5)))


@pytest.fixture
def rows(forward_pass):
    """Those of the middle layers in θ."""
    ends = np.cumsum([p * q for p, q in forward_pass.network.shapes])
    return slice(ends[0], ends[4])


@pytest.fixture
def fashion(monkeypatch):
    """A place where MNIST cannot be fetched; fewer cases and units."""
    load = datasets.load

    def only_packaged(name, reading=None):
        if name != "fashion16":
            raise FetchError("no network here")
        return load(name)

    monkeypatch.setattr(datasets, "load", only_packaged)
    monkeypatch.setattr(mnist16, "CASES", 300)
    monkeypatch.setattr(mnist16, "SIZES", (256, 8, 8, 8, 8, 8, 10))


def test_the_middle_layers_of_the_fisher_are_its_rows_and_columns(forward_pass, rows):
    assert mnist16.middle_fisher(forward_pass) == pytest.approx(fisher.dense(forward_pass)[rows, rows], abs=1e-14)


@pytest.mark.parametrize("gamma", [0.0, GAMMA])
def test_the_middle_factors_are_those_of_the_middle_blocks(forward_pass, rows, gamma):
    """Damped too: π_i is of a layer's own factors."""
    whole = kronecker_fisher.dense(damping.damp(factors.exact(forward_pass), gamma))
    part = kronecker_fisher.dense(damping.damp(mnist16.middle_factors(forward_pass), gamma))
    assert part == pytest.approx(whole[rows, rows], abs=1e-14)


def test_inverses_are_those_of_the_dense_matrices(forward_pass):
    middle = mnist16.middle_factors(forward_pass)
    damped = damping.damp(middle, GAMMA)
    approximations = [damped, block_diagonal.approximate(damped), block_tridiagonal.approximate(damped)]
    for inverse, approximation in zip(figure_06.inverses(middle, GAMMA), approximations, strict=True):
        matrix = kronecker_fisher.dense(approximation)
        assert inverse @ matrix == pytest.approx(np.eye(len(matrix)), abs=1e-10)


@pytest.mark.parametrize("matrices_of", [figure_05.approximations, figure_06.inverses])
def test_f_hat_is_nearer_than_f_breve_and_its_inverse_too(forward_pass, matrices_of):
    exact, breve, hat = matrices_of(mnist16.middle_factors(forward_pass), GAMMA)
    assert np.linalg.norm(hat - exact) < np.linalg.norm(breve - exact)


def test_all_three_approximations_against_the_fisher_itself(fashion, tmp_path):
    work = Work(tmp_path, quick=True)
    row = figure_05.draw(work).summary[0]
    forward_pass = mnist16.partly_trained(work).forward_pass
    ends = np.cumsum([p * q for p, q in forward_pass.network.shapes])
    F = fisher.dense(forward_pass)[ends[0] : ends[4], ends[0] : ends[4]]
    expected = figure_05.approximations(mnist16.middle_factors(forward_pass), 0.0)
    assert row["γ"] == 0
    for sign, approximation in zip(("F̃", "F̆", "F̂"), expected, strict=True):
        distance = np.linalg.norm(approximation - F) / np.linalg.norm(F)
        assert row[f"‖{sign} − F‖ / ‖F‖"] == pytest.approx(distance, rel=1e-8)


def test_without_mnist_it_is_fashion_mnist_and_the_caption_says_so(fashion, tmp_path):
    network = mnist16.partly_trained(Work(tmp_path))
    assert "Fashion-MNIST (MNIST could not be fetched)" in network.about
    assert network.forward_pass.cases == 300
    wrong = network.misclassified
    assert len(wrong) == mnist16.ITERATIONS + 1
    assert wrong[0] > wrong[mnist16.LOOKED_AT] > wrong[-1]


def test_the_run_is_kept_and_is_the_network_of_the_seventh_iteration(fashion, tmp_path, monkeypatch):
    first = mnist16.partly_trained(Work(tmp_path))
    monkeypatch.setattr(mnist16, "_train", lambda *args: pytest.fail("trained again"))
    again = mnist16.partly_trained(Work(tmp_path))
    assert again.gamma == first.gamma
    _, _, Y = mnist16.training_cases()
    z = next(iter(again.forward_pass.chunks()))[1].z
    assert np.sum(z.argmax(1) != Y.argmax(1)) == first.misclassified[mnist16.LOOKED_AT]


@pytest.mark.parametrize("figure", [figure_02, figure_03, figure_05, figure_06])
def test_figures_have_numbers_beside_them(figure, fashion, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_02, "SEEDS", {True: 1})
    drawn = figure.draw(Work(tmp_path, quick=True))
    assert drawn.summary
    assert drawn.arrays
    assert all(np.all(np.isfinite(a)) for a in drawn.arrays.values())
    assert "Fashion-MNIST" in drawn.caption
