"""The pytest fixture `kfac_oracle`, in a pytest of its own."""

from __future__ import annotations

import numpy as np

from kfac_ref.oracle import CapturedCase, Case, pytest_plugin, vectors

pytest_plugins = ["pytester"]


def run(pytester, text):
    pytester.makepyfile(text)
    pytester.makeconftest('pytest_plugins = ["kfac_ref.oracle.pytest_plugin"]')
    return pytester.runpytest_inprocess()


def test_what_the_fixture_gives(pytester):
    result = run(
        pytester,
        """
        def test_cases(kfac_oracle):
            assert {"first", "one-case", "deep-linear"} <= set(kfac_oracle.cases)
            case = kfac_oracle.cases["first"]
            assert kfac_oracle.cases["first"] is case
            assert kfac_oracle.truth(case)["G_1_1"].shape == (3, 3)
        """,
    )
    result.assert_outcomes(passed=1)


def test_check_and_assert_conforms(pytester):
    result = run(
        pytester,
        """
        def theirs(kfac_oracle, scale):
            truth = kfac_oracle.truth(kfac_oracle.cases["first"])
            return {"A_0": truth["A_0_0"], "A_1": truth["A_1_1"], "G_1": scale * truth["G_1_1"]}

        def test_right(kfac_oracle):
            case = kfac_oracle.cases["first"]
            assert kfac_oracle.check(theirs(kfac_oracle, 1), case).matches
            assert not kfac_oracle.check(theirs(kfac_oracle, 8), case).matches
            assert kfac_oracle.assert_conforms(theirs(kfac_oracle, 1), case).matches

        def test_allowed(kfac_oracle):
            summed = theirs(kfac_oracle, 8)
            report = kfac_oracle.assert_conforms(summed, kfac_oracle.cases["first"], {"G": {"expression": "N"}})
            assert report.quantities["G_1"].verdict == "match-under"

        def test_wrong(kfac_oracle):
            kfac_oracle.assert_conforms(theirs(kfac_oracle, 8), kfac_oracle.cases["first"])
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*G_1*match-under*"])


def test_the_example_in_the_docstring(pytester):
    """With an implementation of somebody's own, which is right."""
    pytester.makepyfile(
        my_kfac="""
        import numpy as np

        def factors(network, W, X):
            a, slopes = [], []
            for w, phi in zip(W, network.activations):
                a.append(np.column_stack([X, np.ones(len(X))]))
                s = a[-1] @ w.T
                X = {"tanh": np.tanh, "logistic": lambda s: 1 / (1 + np.exp(-s)), "identity": lambda s: s}[phi.name](s)
                slopes.append({"tanh": 1 - X**2, "logistic": X * (1 - X), "identity": np.ones_like(X)}[phi.name])
            G = []
            for n in range(len(X)):
                p = np.exp(X[n]) / np.exp(X[n]).sum()
                F = np.diag(p) - np.outer(p, p)
                if network.likelihood.name == "bernoulli":
                    p = 1 / (1 + np.exp(-X[n]))
                    F = np.diag(p * (1 - p))
                J, blocks = np.eye(len(F)), [F]
                for w, slope in zip(W[:0:-1], slopes[-2::-1]):
                    J = J @ w[:, :-1] * slope[n]
                    blocks.insert(0, J.T @ F @ J)
                G.append(blocks)
            return [x.T @ x / len(X) for x in a], [sum(g) / len(X) for g in zip(*G)]
        """
    )
    example = (pytest_plugin.kfac_oracle.__doc__ or "").split("::\n")[-1]
    result = run(pytester, example)
    result.assert_outcomes(passed=3)


def test_the_vectors_are_cases():
    for name, case in vectors.Oracle().cases.items():
        assert isinstance(case, Case | CapturedCase) and case.X.dtype == np.float64, name
