"""The pytest fixture `kfac_oracle`, for tests of other implementations of K-FAC.

A project that wants it names this module in its top `conftest.py`, so that nobody's pytest imports it unasked::

    pytest_plugins = ["kfac_ref.oracle.pytest_plugin"]
"""

from __future__ import annotations

import pytest

from kfac_ref.oracle.vectors import Oracle


@pytest.fixture(scope="session")
def kfac_oracle() -> Oracle:
    """The oracle of kfac-ref, for the tests of another implementation of K-FAC.

    `.cases` are the conformance vectors, cases by name, each with a `network` (sizes, activations, likelihood),
    `parameters` W_i of shape (d_i, d_{i−1}+1), bias last, `X` and `Y`; `.truth(case)` is all that the oracle says of
    one, by name; `.check(theirs, case)` a report on which conventions somebody's numbers follow; and
    `.assert_conforms(theirs, case)` fails with that report unless they match as they stand. `theirs` maps the names of
    the format "Theirs" to arrays of NumPy, PyTorch, JAX or another library, or is the path of an `.npz` with them::

        import pytest
        from my_kfac import factors

        @pytest.mark.parametrize("name", ["first", "autoencoder", "one-case"])
        def test_factors(kfac_oracle, name):
            case = kfac_oracle.cases[name]
            A, G = factors(case.network, case.parameters, case.X)
            theirs = {f"A_{i}": a for i, a in enumerate(A)} | {f"G_{i}": g for i, g in enumerate(G, start=1)}
            kfac_oracle.assert_conforms(theirs, case)
    """
    return Oracle()
