"""`check` on made-up numbers of other implementations: what was done must be named, and nothing else."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest

from kfac_ref.oracle import check
from tests.dense import (
    case_jacobians,
    dense_diagonal_inverse,
    dense_factors,
    dense_fisher,
    dense_gradient,
    flatten,
)
from tests.kfac_ref.oracle.mutations import KINDS, Expected, Mutation, generate, judge
from tests.kfac_ref.oracle.mutations.layouts import theta_order
from tests.kfac_ref.oracle.mutations.preconditioners import gradients, precondition
from tests.kfac_ref.oracle.mutations.rebuild import canonical
from tests.kfac_ref.oracle.mutations.sampling import Sampling
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation

GRADES = ["right", "unnamed", "misnamed", "wrong"]
LEAST_RIGHT = 0.98


def verdicts(mutation: Mutation) -> dict[str, tuple[str, str]]:
    return judge(mutation, check(mutation.theirs, mutation.case).as_dict())


def grade(judged: dict[str, tuple[str, str]]) -> str:
    return max((g for g, _ in judged.values()), key=GRADES.index)


def told(mutation: Mutation, judged: dict[str, tuple[str, str]]) -> str:
    return f"{mutation}: " + "; ".join(f"{q}: {g}: {why}" for q, (g, why) in judged.items() if g != "right")


@pytest.fixture(scope="module")
def judged():
    """Every mutation with what was judged of its verdicts."""
    return [(mutation, verdicts(mutation)) for kind in KINDS for mutation in generate(kind)]


def test_there_are_enough_mutations(judged):
    assert len(judged) >= 400
    assert sum(e.verdict == "no-match" for m, _ in judged for e in m.expected.values()) >= 200


def test_no_claim_is_wrong(judged):
    wrong = [told(mutation, r) for mutation, r in judged if grade(r) == "wrong"]
    assert not wrong, "\n".join(wrong)


def test_nearly_all_are_named_right(judged):
    counts = Counter(grade(r) for _, r in judged)
    failures = [told(mutation, r) for mutation, r in judged if grade(r) != "right"]
    print("\n".join(failures))
    assert counts["right"] >= LEAST_RIGHT * len(judged), f"{counts}\n" + "\n".join(failures)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_mutation(kind):
    """A few of each kind, of other cases than above; none wrong, and most named."""
    found = [(mutation, verdicts(mutation)) for mutation in generate(kind, cases=2, seed=1)]
    failures = [told(mutation, r) for mutation, r in found if grade(r) != "right"]
    assert not [f for f, (_, r) in zip(failures, found, strict=False) if grade(r) == "wrong"], "\n".join(failures)
    assert len(failures) <= max(1, 0.1 * len(found)), "\n".join(failures)


# --- the mutations and their judge themselves ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_numbers_are_those_of_dense_algebra(seed):
    case = situation(np.random.default_rng(seed), lam=0.3)
    numbers, network, W = Numbers(case), case.network, case.parameters
    N = len(case.X)
    A, empirical = dense_factors(network, W, case.X, case.Y)
    h = dense_gradient(network, W, case.X, case.Y, case.eta)
    G = {}
    for i in range(1, numbers.layers + 1):
        D = [case_jacobians(network, W, x)[i - 1] for x in case.X]
        G[i, i] = sum(d.T @ F_R @ d for d, F_R in zip(D, numbers.F_R, strict=True)) / N
        np.testing.assert_allclose(numbers.A(i - 1), A[i - 1, i - 1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(numbers.G(i, "empirical"), empirical[i, i], rtol=0, atol=1e-11)
        np.testing.assert_allclose(numbers.G(i), G[i, i], rtol=0, atol=1e-11)
    np.testing.assert_allclose(numbers.fisher(), dense_fisher(network, W, case.X), rtol=0, atol=1e-11)
    np.testing.assert_allclose(flatten(gradients(numbers)), h, rtol=0, atol=1e-11)
    expected = dense_diagonal_inverse(A, G, case.gamma_used) @ h
    actual = precondition(numbers, gradients(numbers), "traces", case.gamma_used)
    np.testing.assert_allclose(flatten(actual), expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))


@pytest.mark.parametrize("seed", range(10))
def test_ways_of_damping_are_those_of_dense_algebra(seed):
    case = situation(np.random.default_rng(seed), lam=0.2, max_d=4, layers=2)
    numbers = Numbers(case)
    for i, V in enumerate(gradients(numbers), start=1):
        A, G = numbers.A(i - 1), numbers.G(i)
        v, I_A, I_G = flatten([V]), np.eye(len(A)), np.eye(len(G))
        for structure, M in {
            "product": np.kron(A, G) + 0.2 * np.eye(len(v)),
            "plain": np.kron(A + 0.2 * I_A, G + 0.2 * I_G),
        }.items():
            u = flatten([precondition(numbers, gradients(numbers), structure, 0.2)[i - 1]])
            np.testing.assert_allclose(u, np.linalg.inv(M) @ v, rtol=1e-7, atol=1e-10)


def test_layouts_are_those_of_loops(rng):
    network = situation(rng, sizes=[2, 3]).network
    W = rng.standard_normal((3, 3))
    by_hand = {
        (("row", "last"), 0): [W[r, c] for r in range(3) for c in range(3)],
        (("row", "last"), 1): [W[r, c] for r in range(3) for c in range(2)] + [W[r, 2] for r in range(3)],
        (("row", "first"), 1): [W[r, 2] for r in range(3)] + [W[r, c] for r in range(3) for c in range(2)],
        (("column", "first"), 0): [W[r, 2] for r in range(3)] + [W[r, c] for c in range(2) for r in range(3)],
        (("column", "absent"), 0): [W[r, c] for c in range(2) for r in range(3)],
    }
    for (key, which), expected in by_hand.items():
        np.testing.assert_array_equal(flatten([W])[theta_order(network, [1], key, which)], expected)


def test_sampling_tells_samples_from_noise(rng):
    case = situation(rng, sizes=[4, 5, 4], N=20, likelihood="categorical", hidden=["tanh"])
    numbers = Numbers(case)
    law = Sampling(numbers.G(1), lambda rng: numbers.G(1, "sampled", numbers.sample(rng, 1)))
    noise = rng.standard_normal((5, 5)) * numbers.G(1)
    assert law.tenable(numbers.G(1, "sampled", numbers.sample(rng, 5)))
    assert not law.tenable(numbers.G(1) + 1e-2 * noise)
    assert not law.tenable(numbers.G(1) + 1e-5 * (noise + noise.T))
    assert not law.tenable(2 * numbers.G(1, "sampled", numbers.sample(rng, 100)))
    assert 5 < law.samples(numbers.G(1, "sampled", numbers.sample(rng, 20))) < 80


def claim(**fields):
    nothing = dict.fromkeys(
        ("scale", "expression", "nearest", "fisher", "samples", "bias", "layout", "history", "damping")
    )
    return nothing | {"verdict": "match-under", "convention": ""} | fields


def said(mutation: Mutation, **fields):
    """The grade of one claim about every quantity."""
    report = {"quantities": {name: claim(**fields) for name in mutation.theirs}, "summary": ""}
    return {g for g, _ in judge(mutation, report).values()}


def test_the_judge_knows_right_from_wrong(rng):
    case = situation(rng, sizes=[3, 4, 3], likelihood="bernoulli", N=8, eta=0.1, lam=0.3)
    numbers = Numbers(case)
    G, N = numbers.G(1, "empirical") * 8, 8.0
    mutation = Mutation("scale", "", case, {"G_1": G}, {"G_1": Expected()})
    assert said(mutation, scale=N, fisher="empirical", expression="N") == {"right"}
    assert said(mutation, scale=N, fisher="empirical", expression="N^2") == {"wrong"}
    assert said(mutation, scale=N * (1 + 1e-5), fisher="empirical") == {"wrong"}
    assert said(mutation, scale=N, fisher="exact") == {"wrong"}
    assert said(mutation, scale=N, fisher="monte-carlo", samples=1) == {"wrong"}
    assert said(mutation, verdict="match", scale=1.0, fisher="exact") == {"wrong"}
    assert said(mutation, verdict="no-match") == {"unnamed"}
    history = 0.81 * np.eye(4) + 0.19 * 2 * numbers.G(1)
    mutation = Mutation("history", "", case, {"G_1": history}, {"G_1": Expected(history="identity")})
    assert said(mutation, scale=2.0, fisher="exact", history={"start": "identity", "decay": 0.9}) == {"right"}
    assert said(mutation, scale=2.0, fisher="exact", history={"start": "identity", "decay": 0.8}) == {"wrong"}
    impostor = Mutation("noise", "", case, {"G_1": history}, {"G_1": Expected("no-match")})
    assert said(impostor, verdict="no-match") == {"right"}
    assert said(impostor, scale=1.0, fisher="exact") == {"wrong"}
    U = precondition(numbers, gradients(numbers), "product", 0.3)
    mutation = Mutation("damping", "", case, {"preconditioned_1": U[0]}, {"preconditioned_1": Expected()})
    assert said(mutation, scale=1.0, damping="lambda on the product, exactly") == {"right"}
    assert said(mutation, scale=1.0, damping="sqrt(lambda) on each factor") == {"wrong"}


def test_what_matches_as_it_stands_is_said_to():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            case = situation(np.random.default_rng(seed), lam=0.3)
            numbers = Numbers(case)
            names = [
                f"{k}_{i}" for k in ("G", "gradient", "preconditioned", "block") for i in range(1, numbers.layers + 1)
            ]
            theirs = {name: canonical(numbers, name) for name in [*names, "fisher", "A_0"]}
            assert check(theirs, case).matches
