"""Monte-Carlo estimates are recognised, with their scale and their number of samples; what is merely near is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kfac_ref.oracle import check, expressions, monte_carlo, sampling
from kfac_ref.oracle.expressions import Symbols
from tests.conftest import random_parameters, sampled_targets
from tests.dense import case_F_R, case_forward, case_jacobians, case_mean, dense_exact_G, dense_factors
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.test_truth import make_case

LIKELIHOODS = ("categorical", "bernoulli", "gaussian")
SIZES, N = (5, 6, 5, 4), 40
LAYERS = (1, 2, 3)


@pytest.fixture(params=LIKELIHOODS)
def case(request, rng):
    return make_case(rng, SIZES, likelihood=request.param, cases=N, V=False, sampled=False)


class Sampler:
    """g_i = K_nᵀ(E[y|z] − y), K_n = dz/ds_i of one case, for targets that are drawn."""

    def __init__(self, case) -> None:
        network, W = case.network, case.parameters
        self.name = network.likelihood.name
        self.z = np.array([case_forward(network, W, x)[2] for x in case.X])
        self.mean = np.array([case_mean(self.name, z) for z in self.z])
        jacobians = [case_jacobians(network, W, x) for x in case.X]
        self.K = [np.array([D[i - 1] for D in jacobians]) for i in LAYERS]  # (N, C, d_i)

    def G(self, rng, samples: int) -> dict[str, np.ndarray]:
        """G_{i,i} of all layers from the same draws, the mean over cases and samples."""
        total = [0.0 for _ in LAYERS]
        for _ in range(samples):
            e = self.mean - sampled_targets(rng, self.name, self.z)
            g = [np.einsum("nc,ncd->nd", e, K) for K in self.K]
            total = [t + x.T @ x / N / samples for t, x in zip(total, g, strict=True)]
        return {f"G_{i}": t for i, t in zip(LAYERS, total, strict=True)}


def exact(case) -> dict[str, np.ndarray]:
    G = dense_exact_G(case.network, case.parameters, case.X)
    return {f"G_{i}": G[i, i] for i in LAYERS}


def said(case, theirs) -> list[dict]:
    return list(check(theirs, case).as_dict()["quantities"].values())


def scaled(theirs, scale: float) -> dict[str, np.ndarray]:
    return {name: scale * x for name, x in theirs.items()}


# --- recognised ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 10, 100])
@pytest.mark.parametrize(("scale", "text"), [(1.0, "1"), (N, "N"), (1 / N**2, "1/N^2")])
def test_sampled_targets(case, samples, scale, text, rng):
    theirs = scaled(Sampler(case).G(rng, samples), scale)
    G = exact(case)
    for (name, x), v in zip(theirs.items(), said(case, theirs), strict=True):
        assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "monte-carlo", text)
        assert abs(v["scale"] / scale - 1) <= 4 * v["scale_error"]
        assert samples / 3 <= v["samples"] <= 3 * samples
        # the residual is how far the estimate is from the expectation, which is what so many samples allow
        off = np.linalg.norm(x / v["scale"] - G[name]) / np.linalg.norm(G[name])
        assert v["residual"] == pytest.approx(off, rel=1e-6)
        assert v["residual"] <= v["tolerance"]


def test_the_stated_standard_error_falls_as_the_root_of_samples(case, rng):
    sampler = Sampler(case)
    one, hundred = (said(case, sampler.G(rng, S))[0] for S in (1, 100))
    ratio = one["scale_error"] / hundred["scale_error"]
    assert ratio == pytest.approx((hundred["samples"] / one["samples"]) ** 0.5, rel=1e-6)
    assert 10 / 3**0.5 <= ratio <= 10 * 3**0.5


def test_another_scale_is_a_number_within_its_error_or_nothing(case, rng):
    for v in said(case, scaled(Sampler(case).G(rng, 10), 0.3719)):
        assert v["expression"] is None
        if v["verdict"] != "no-match":
            assert abs(v["scale"] / 0.3719 - 1) <= 4 * v["scale_error"]


def test_squared_errors_without_the_half(rng):
    """Gradients of Σ(y−z)², squared, are four times too large; samples are those of the model that has the ½."""
    case = make_case(rng, SIZES, likelihood="gaussian", cases=N, V=False, sampled=False)
    for v in said(case, scaled(Sampler(case).G(rng, 1), 4.0)):
        assert (v["fisher"], v["expression"], v["samples"]) == ("monte-carlo", "4", 1)


def test_in_float32(case, rng):
    theirs = {name: x.astype(np.float32) for name, x in Sampler(case).G(rng, 10).items()}
    assert [(v["fisher"], v["expression"]) for v in said(case, theirs)] == [("monte-carlo", "1")] * 3


def test_the_case_s_own_samples_are_known_to_rounding(case, rng):
    sampler = Sampler(case)
    targets = sampled_targets(rng, sampler.name, sampler.z)
    case = replace(case, sampled=targets)
    G = dense_factors(case.network, case.parameters, case.X, targets)[1]
    for v in said(case, {f"G_{i}": N * G[i, i] for i in LAYERS}):
        assert (v["verdict"], v["fisher"], v["expression"]) == ("match-under", "monte-carlo", "N")
        assert v["residual"] < 1e-12


def test_a_verdict_is_the_same_every_time(case, rng):
    """Although the oracle draws samples itself."""
    theirs = Sampler(case).G(rng, 10)
    assert check(theirs, case).as_dict() == check(theirs, case).as_dict()


def test_a_running_average_from_the_identity_of_samples(case, rng):
    G, A = Sampler(case).G(rng, 1), dense_factors(case.network, case.parameters, case.X, case.Y)[0]
    theirs = {name: 0.95 * np.eye(len(x)) + 0.05 * x for name, x in G.items()}
    theirs |= {f"A_{i - 1}": 0.95 * np.eye(len(A[i - 1, i - 1])) + 0.05 * A[i - 1, i - 1] for i in LAYERS}
    quantities = check(theirs, case).as_dict()["quantities"]
    for i in LAYERS:
        v = quantities[f"G_{i}"]
        assert (v["fisher"], v["expression"]) == ("monte-carlo", "1")
        assert (v["history"]["start"], v["history"]["decay"]) == ("identity", 0.95)


# --- not recognised --------------------------------------------------------------------------------------------------


def refused(case, theirs) -> bool:
    """Whether nothing is claimed of them. The Gaussian's last G is the identity whatever the network, and known."""
    found = said(case, theirs)
    if case.network.likelihood.name == "gaussian":
        found = found[:-1]
    return all((v["verdict"], v["fisher"], v["scale"]) == ("no-match", None, None) for v in found)


def test_the_exact_and_the_empirical_are_not_taken_for_samples(case):
    empirical = dense_factors(case.network, case.parameters, case.X, case.Y)[1]
    assert {v["fisher"] for v in said(case, exact(case))} == {"exact"}
    assert {v["fisher"] for v in said(case, {f"G_{i}": empirical[i, i] for i in LAYERS})} == {"empirical"}


@pytest.mark.parametrize("size", [1e-3, 0.03, 0.2])
def test_isotropic_noise(case, rng, size):
    theirs = {}
    for name, G in exact(case).items():
        noise = rng.standard_normal(G.shape)
        theirs[name] = G + size * np.linalg.norm(G) * (noise + noise.T) / np.linalg.norm(noise + noise.T)
    assert refused(case, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_another_network_s(case, seed):
    rng = np.random.default_rng(seed)
    other = replace(case, parameters=random_parameters(rng, case.network))
    assert refused(case, exact(other))
    assert refused(case, Sampler(other).G(rng, 10))


@pytest.mark.parametrize("seed", range(4))
def test_another_mini_batch(case, seed):
    """In expectation. Sampled with few targets a case, it is hard to tell from the right one by anything."""
    rng = np.random.default_rng(seed)
    assert refused(case, exact(replace(case, X=rng.standard_normal(case.X.shape))))


@pytest.mark.parametrize("samples", [1, 10, 100])
def test_inputs_before_they_were_normalised(case, rng, samples):
    assert refused(case, Sampler(replace(case, X=2 * case.X + 1)).G(rng, samples))


def test_slightly_other_weights(case, rng):
    """Off by as little as a sample of many draws is."""
    moved = [W * (1 + 0.02 * rng.standard_normal(W.shape)) for W in case.parameters]
    assert refused(case, exact(replace(case, parameters=moved)))


def test_half_exact_half_empirical(case):
    """Where the data's targets are unlike the model's."""
    first = np.zeros(case.Y.shape)
    first[:, 0] = 1.0 if case.network.likelihood.name != "gaussian" else 8.0
    empirical = dense_factors(case.network, case.parameters, case.X, first)[1]
    theirs = {name: (G + empirical[i, i]) / 2 for i, (name, G) in enumerate(exact(case).items(), start=1)}
    assert refused(replace(case, Y=first), theirs)


def test_each_entry_off_in_proportion(case, rng):
    theirs = {}
    for name, G in exact(case).items():
        factor = 1 + 0.1 * np.tril(rng.standard_normal(G.shape))
        theirs[name] = np.tril(G * factor) + np.tril(G * factor, -1).T
    assert refused(case, theirs)


@pytest.mark.parametrize("seed", range(4))
def test_one_g_that_is_off_in_the_fourth_digit(case, seed):
    """No number of samples makes that."""
    case = make_case(np.random.default_rng(seed), SIZES, likelihood=case.network.likelihood.name, cases=N, V=False)
    G = exact(case)["G_1"]
    (v,) = said(case, {"G_1": G * (1 + 1e-4 * np.add.outer(np.arange(6), np.arange(6)))})
    assert (v["verdict"], v["fisher"]) == ("no-match", None)


def test_what_is_not_symmetric(case, rng):
    theirs = {name: x + 0.01 * np.triu(x, 1) for name, x in Sampler(case).G(rng, 10).items()}
    assert refused(case, theirs)


def test_few_numbers_tell_nothing(rng):
    """Of two units there are three numbers in a G: not enough to claim anything that does not fit to rounding."""
    case = make_case(rng, (3, 2), cases=N, V=False, sampled=False)
    network, W = case.network, case.parameters
    z = np.array([case_forward(network, W, x)[2] for x in case.X])
    targets = sampled_targets(rng, "categorical", z)
    (v,) = said(case, {"G_1": dense_factors(network, W, case.X, targets)[1][1, 1] + 1e-3})
    assert v["verdict"] == "no-match"


# --- the model of draws ----------------------------------------------------------------------------------------------


@pytest.fixture
def model(case):
    """Of the second layer, as it is."""
    s = Sampler(case)
    return sampling.Model(case.network.likelihood, s.z, [np.transpose(s.K[1], (1, 0, 2))], [np.eye(SIZES[2])])


def test_the_model_s_mean_is_the_expectation(case, model):
    s, d = Sampler(case), SIZES[2]
    G = np.mean([K.T @ case_F_R(s.name, z) @ K for K, z in zip(s.K[1], s.z, strict=True)], axis=0)
    upper = np.triu_indices(d)
    np.testing.assert_allclose(model.mean, G[upper] * np.where(upper[0] == upper[1], 1, 2**0.5), rtol=1e-10)
    assert np.linalg.norm(model.mean) == pytest.approx(np.linalg.norm(G), rel=1e-12)


def test_the_model_s_draws_have_that_mean_within_4_standard_errors(model):
    draws = np.concatenate([model.learn, model.test])
    error = np.std(draws, axis=0) / len(draws) ** 0.5
    assert np.all(np.abs(draws.mean(0) - model.mean) <= 4 * error + 1e-12)


def test_a_scale_is_stated_with_its_error(case, model, rng):
    """Over estimates from 10 samples each, the scale's errors are as large as is said, and not one sided."""
    s, off = Sampler(case), []
    candidates = expressions.usual(Symbols(s.name, N, SIZES[-1]))
    for _ in range(25):
        found = monte_carlo.recognise([s.G(rng, 10)["G_2"]], model, candidates, 1e-9)
        if found is not None:
            off.append((found.estimate - 1) / found.error)
    assert len(off) >= 20
    assert abs(np.mean(off)) < 4 / len(off) ** 0.5
    assert np.max(np.abs(off)) < 4


@pytest.mark.parametrize("S", [50, 2000])
def test_a_root_of_the_number_of_samples_on_each_factor(S):
    """As where 1/√S is in the function that is differentiated, and A is summed over samples: nngeometry's."""
    rng = np.random.default_rng(S)
    case = situation(rng, sizes=[6, 5, 4], N=40, likelihood="categorical", hidden=["tanh"])
    n = Numbers(case)
    targets = n.sample(rng, S)
    theirs = {f"A_{i}": S**0.5 * n.A(i - 1) for i in (1, 2)}
    theirs |= {f"G_{i}": n.G(i, "sampled", targets) / S**0.5 for i in (1, 2)}
    found = check(theirs, case).as_dict()["quantities"]
    for i in (1, 2):
        assert found[f"A_{i}"]["expression"] == "sqrt(S)"
        G = found[f"G_{i}"]
        assert (G["fisher"], G["expression"], G["samples"]) == ("monte-carlo", "1/sqrt(S)", S)
