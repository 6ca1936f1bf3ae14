"""The constants of Algorithm 2 and the presets."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest

from autodiff import Network
from kfac_ref import KFAC, Batch, Settings, preset


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("lambda0", "eta", "gamma_min") for value in (-1e-9, math.inf, math.nan)],
        ("gamma_max", 0.0),
        ("gamma_max", -1.0),
        ("gamma_max", math.nan),
        *[(name, value) for name in ("tau1", "tau2", "omega") for value in (0.0, -0.5, 1.001, math.nan)],
        *[(name, value) for name in ("epsilon_max", "xi_max") for value in (-0.1, 1.0, math.nan)],
        *[
            (name, value)
            for name in ("T1", "T2", "T3", "average_from", "m1", "chunk_size")
            for value in (0, -1, 2.5, math.nan, math.inf)
        ],
        *[("full_batch_at", value) for value in (1, 0, 2.5, math.nan, math.inf)],
        ("inverse", "blockdiagonal"),
        ("pi_norm", "traces"),
    ],
)
def test_values_out_of_range(name, value):
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_values_of_another_type(field):
    wrong = 1 if isinstance(field.default, (bool, str)) else "1"
    with pytest.raises(TypeError, match=field.name):
        Settings(**{field.name: wrong})
    if not isinstance(field.default, bool):
        with pytest.raises(TypeError, match=field.name):
            Settings(**{field.name: True})
    if field.name != "full_batch_at":
        with pytest.raises(TypeError, match=field.name):
            Settings(**{field.name: None})


@pytest.mark.parametrize(
    "constants",
    [
        {"lambda0": 0, "eta": 0.0, "gamma_min": 0.0},
        {"gamma_max": math.inf},
        {"gamma_min": 0.5, "gamma_max": 0.5},
        {"tau1": 1.0, "tau2": 1, "omega": 1.0},
        {"epsilon_max": 0, "xi_max": 0.0},
        {"T1": 1, "T2": 1, "T3": 1, "m1": 1, "chunk_size": 1},
        {"full_batch_at": None},
        {"full_batch_at": 2},
        {"inverse": "block-diagonal", "pi_norm": "frobenius", "momentum": False},
    ],
)
def test_values_at_the_ends_of_their_ranges(constants):
    made = Settings(**constants)
    assert all(getattr(made, name) == value for name, value in constants.items())


def test_bounds_of_gamma_must_be_in_order():
    with pytest.raises(ValueError, match="gamma_max must be > 0 and ≥ gamma_min"):
        Settings(gamma_min=0.5, gamma_max=0.4)


def test_names_are_suggested():
    with pytest.raises(ValueError, match='unknown inverse "block-tridiag"; did you mean "block-tridiagonal"'):
        Settings(inverse="block-tridiag")
    with pytest.raises(ValueError, match='unknown constant of Algorithm 2 "lambda"; did you mean "lambda0"'):
        preset("paper", **{"lambda": 1.0})
    with pytest.raises(ValueError, match='unknown preset "author"; did you mean "authors"'):
        preset("author")


def test_the_papers_constants():
    assert asdict(preset("paper")) == {
        "inverse": "block-tridiagonal",
        "sharing": "expand",
        "full_blocks": "full",
        "time": "independent",
        "momentum": True,
        "lambda0": 150.0,
        "lambda_min": 0.0,
        "lambda_max": math.inf,
        "eta": 1e-5,
        "gamma_min": 0.0,
        "gamma_max": math.inf,
        "pi_norm": "trace",
        "tau1": 1 / 8,
        "tau2": 1 / 4,
        "T1": 5,
        "T2": 20,
        "T3": 20,
        "candidates_inverted": True,
        "omega": 19 / 20,
        "epsilon_max": 0.95,
        "average_from": 1,
        "xi_max": 0.99,
        "m1": 1000,
        "full_batch_at": 500,
        "chunk_size": 5000,
    }
    assert preset("paper") == Settings()


def test_the_authors_constants():
    """Their program differs from the paper in τ₂, in the bounds of γ and in when averaging begins."""
    paper, authors = asdict(preset("paper")), asdict(preset("authors"))
    differences = {name: authors[name] for name in paper if authors[name] != paper[name]}
    assert differences == {
        "tau2": 1.0,
        "gamma_min": math.sqrt(1e-5),
        "gamma_max": 1.0,
        "candidates_inverted": False,
        "average_from": 200,
    }


def test_the_quick_constants():
    paper, quick = asdict(preset("paper")), asdict(preset("quick"))
    differences = {name: quick[name] for name in paper if quick[name] != paper[name]}
    assert differences == {
        "inverse": "block-diagonal",
        "lambda0": 0.3,
        "lambda_min": 1e-5,
        "omega": 0.8,
        "m1": 250,
        "full_batch_at": 400,
        "tau1": 1 / 4,
        "gamma_min": math.sqrt(1e-5),
        "gamma_max": 1.0,
        "xi_max": 0.9,
    }


def test_the_authors_bound_follows_eta():
    for name in ("authors", "quick"):
        assert preset(name, eta=4e-4).gamma_min == pytest.approx(0.02, rel=1e-15)
        assert preset(name, eta=4e-4, gamma_min=0.5).gamma_min == 0.5
    assert preset("paper", eta=4e-4).gamma_min == 0


def test_the_quick_bound_of_lambda_follows_eta():
    assert preset("quick", eta=4e-4).lambda_min == 4e-4 and preset("quick", eta=0.0).lambda_min == 0
    assert preset("quick", eta=4e-4, lambda_min=0.1).lambda_min == 0.1
    assert preset("authors", eta=4e-4).lambda_min == 0


def test_the_authors_upper_bound_gives_way_to_a_large_eta():
    """sqrt(η) = √3 is above 1, and γ cannot be below it."""
    made = preset("authors", eta=3.0)
    assert made.gamma_min == made.gamma_max == math.sqrt(3)
    assert preset("authors", eta=1e-3).gamma_max == 1


@pytest.mark.parametrize(("value", "error"), [(-1.0, ValueError), ("x", TypeError), (None, TypeError)])
def test_a_wrong_eta_is_named_by_every_preset(value, error):
    for name in ("paper", "authors", "quick"):
        with pytest.raises(error, match="eta"):
            preset(name, eta=value)


def test_the_authors_bounds_can_be_replaced_together_with_a_large_eta():
    """sqrt(η) = 2 is above the authors' γ_max = 1, but not above the one asked for."""
    assert preset("authors", eta=4.0, gamma_max=10.0).gamma_min == 2.0
    assert preset("authors", eta=4.0, gamma_min=0.1).gamma_min == 0.1


def test_constants_cannot_be_changed_but_replaced():
    made = Settings()
    with pytest.raises(FrozenInstanceError):
        made.eta = 1.0
    with pytest.raises(ValueError, match="eta"):
        replace(made, eta=-1.0)


def test_whole_numbers_may_be_written_as_floats():
    """5.0 is a whole number; what is accepted must then work."""
    made = Settings(T1=5.0, T2=20.0, T3=20.0, average_from=1.0, m1=10.0, full_batch_at=10.0, chunk_size=3.0)
    ends = []
    for settings in (made, Settings(chunk_size=3)):
        kfac = KFAC(Network([2, 1], [], "gaussian"), settings)
        state, _ = kfac.step(kfac.init([np.ones((1, 3))]), Batch(np.ones((4, 2)), np.ones((4, 1))))
        ends.append(state.parameters[0])
    np.testing.assert_array_equal(*ends)
