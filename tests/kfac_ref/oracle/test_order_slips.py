from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from kfac_ref.oracle.order_slips import CENTRED, MEAN_FIRST, changed, inverse, mean_first, moment
from tests.conftest import positive_definite


def test_each_is_what_it_is_called(rng):
    x = rng.standard_normal((9, 4)) + 1
    M = x.T @ x / 9
    found = {name: matrix for matrix, name, _ in changed(x[None], M)}
    np.testing.assert_allclose(found[MEAN_FIRST], np.outer(x.mean(0), x.mean(0)), rtol=1e-12)
    np.testing.assert_allclose(found[CENTRED], np.cov(x.T, bias=True), rtol=1e-10)
    np.testing.assert_allclose(found["its matrix square root"], scipy.linalg.sqrtm(M), rtol=1e-8)
    np.testing.assert_allclose(found["its square (the matrix times itself)"], np.linalg.matrix_power(M, 2), rtol=1e-12)
    np.testing.assert_allclose(found["its Cholesky factor (lower)"], np.linalg.cholesky(M), rtol=1e-12)
    np.testing.assert_allclose(found["its upper triangle alone"] + np.tril(M, -1), M, rtol=1e-12)
    assert "its matrix square root" not in {name for _, name, _ in changed(x[None, :, :1], M[:1, :1])}


def test_moments_by_loops(rng):
    left, right, w = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 4)), rng.random(5)
    by_hand = sum(w[n] * np.outer(left[r, n], right[r, n]) for r in range(2) for n in range(5))
    np.testing.assert_allclose(moment(left, right, w), by_hand, rtol=1e-12)
    means = sum(np.outer(left[r].mean(0), right[r].mean(0)) for r in range(2))
    np.testing.assert_allclose(mean_first(left, right), means, rtol=1e-12)


def test_an_inverse_is_asked_for_only_where_it_is_regular(rng):
    M = positive_definite(rng, 4)
    np.testing.assert_allclose(inverse(np.linalg.inv(M)), M, rtol=1e-9)
    assert inverse(np.ones((3, 3))) is None
    assert inverse(M[:1, :1]) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_inverse_keeps_its_dtype(rng, dtype):
    found = inverse(positive_definite(rng, 3).astype(dtype))
    assert found is not None and found.dtype == dtype
