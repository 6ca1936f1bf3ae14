"""The array library in use."""

from __future__ import annotations

import sys

import array_api_strict
import numpy as np
import pytest
import scipy.sparse.linalg

from autodiff import arrays
from autodiff.activations import ACTIVATIONS
from tests.conftest import assert_close, assert_home, is_float32, make_like, positive_definite, to

EXTREMES = np.array([-1e30, -1e4, -710.0, -104.0, -88.0, -1.0, 0.0, 1.0, 88.0, 104.0, 710.0, 1e4, 1e30])


def test_from_and_to_numpy_round_trip(like, rng):
    x = rng.standard_normal((3, 2)).astype(np.float32)  # exact in both dtypes
    there = arrays.from_numpy(x, like)
    assert_home(there, like)
    np.testing.assert_array_equal(arrays.to_numpy(there), x)


def test_from_numpy_keeps_integers_and_booleans(like):
    integers, booleans = arrays.from_numpy(np.arange(3), like), arrays.from_numpy(np.array([True, False]), like)
    assert arrays.to_numpy(integers).dtype == np.int64
    assert arrays.to_numpy(booleans).dtype == np.bool_
    assert arrays.device(integers) == arrays.device(like)


def test_strict_arrays_do_refuse_silent_transfers():
    """What the whole suite relies on: array-api-strict's other device stands in for a GPU."""
    x = array_api_strict.ones(2, device=array_api_strict.Device("device1"))
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(x)
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        x + array_api_strict.ones(2)


def test_namespace_refuses_mixtures_and_lists():
    with pytest.raises(TypeError):
        arrays.namespace(np.zeros(1), array_api_strict.zeros(1))
    with pytest.raises(TypeError):
        arrays.namespace([0.0])


def test_read_scalars_keeps_shapes_and_values(like):
    parts = [np.float32(1.5), np.arange(6.0).reshape(2, 3), np.array([7.0]), np.zeros((0,))]
    read = arrays.read_scalars(*[arrays.from_numpy(np.asarray(p), like) for p in parts])
    assert [type(r) for r in read] == [np.ndarray] * 4
    for r, p in zip(read, parts, strict=True):
        assert r.dtype == np.float64
        assert r.shape == np.shape(p)
        np.testing.assert_array_equal(r, p)


def test_read_scalars_reads_mixed_dtypes(like):
    xp = arrays.namespace(like)
    wide = xp.asarray(1 / 3, dtype=xp.float64, device=arrays.device(like))
    read = arrays.read_scalars(wide, to(like, np.array([2.0])))
    assert read[0] == 1 / 3
    assert read[1] == [2.0]


def test_backends():
    xp = arrays.backend("numpy")
    assert arrays.namespace(np.zeros(1)) is xp
    assert arrays.device_memory("numpy") is None
    with pytest.raises(ValueError, match='unknown backend "nunpy"; did you mean "numpy"'):
        arrays.backend("nunpy")


def test_missing_cupy_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    with pytest.raises(ValueError, match="needs CuPy, which is not installed"):
        arrays.backend("cupy")


def test_closest():
    assert arrays.closest("tanh", {"tanh": 1, "relu": 2}, "activation") == "tanh"
    with pytest.raises(ValueError, match=r'unknown activation "thanh"; did you mean "tanh"\? \(known: tanh, relu\)'):
        arrays.closest("thanh", ["tanh", "relu"], "activation")
    with pytest.raises(ValueError, match=r'unknown activation "zzz" \(known'):
        arrays.closest("zzz", ["tanh", "relu"], "activation")


def test_append_ones_puts_the_homogeneous_coordinate_last(like, rng):
    x = rng.standard_normal((4, 3))
    assert_close(arrays.append_ones(to(like, x)), np.hstack([x, np.ones((4, 1))]), like)


def test_add_to_diagonal(like, rng):
    A = rng.standard_normal((3, 3))
    assert_close(arrays.add_to_diagonal(to(like, A), to(like, np.asarray(0.7))), A + 0.7 * np.eye(3), like)


def test_inner_is_float64(like, rng):
    u, v = ([rng.standard_normal(s) for s in ((2, 3), (4, 1))] for _ in range(2))
    expected = sum(float(a.ravel() @ b.ravel()) for a, b in zip(u, v, strict=True))
    value = arrays.inner(*to(like, u, v))
    assert_close(value, expected, like, dtype="float64")


@pytest.mark.parametrize("name", ["logistic", "softplus"])
def test_elementwise_functions_everywhere(like, name):
    """Against the textbook formulas in long double, which do not overflow up to 1e4."""
    x = np.concatenate([np.linspace(-30, 30, 61), EXTREMES[np.abs(EXTREMES) <= 1e4]])
    e = np.exp(x.astype(np.longdouble))
    expected = (e / (1 + e) if name == "logistic" else np.log1p(e)).astype(np.float64)
    with np.errstate(all="raise", under="ignore"):
        value = getattr(arrays, name)(to(like, x))
    assert_home(value, like)
    # relative error, down to the smallest numbers; below the dtype's normal range it becomes absolute
    rtol, atol = (1e-6, 1e-37) if is_float32(like) else (1e-14, 1e-306)
    np.testing.assert_allclose(arrays.to_numpy(value), expected, rtol=rtol, atol=atol)


def test_elementwise_functions_at_their_limits(like):
    z = to(like, np.array([-1e30, 1e30]))
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(arrays.to_numpy(arrays.logistic(z)), [0.0, 1.0])
        assert_close(arrays.softplus(z), np.array([0, 1e30]), like)


@pytest.mark.parametrize("draw", [arrays.uniform, arrays.normal])
def test_random_numbers_are_a_function_of_their_key(like, draw):
    one, again, other = draw((1, 2, 3), (4, 5), like), draw((1, 2, 3), (4, 5), like), draw((1, 2, 4), (4, 5), like)
    assert_home(one, like)
    assert tuple(one.shape) == (4, 5)
    np.testing.assert_array_equal(arrays.to_numpy(one), arrays.to_numpy(again))
    assert np.all(arrays.to_numpy(one) != arrays.to_numpy(other))


def test_random_numbers_have_the_right_moments(like):
    n = 40_000
    u = arrays.to_numpy(arrays.uniform((7,), (n,), like)).astype(np.float64)
    x = arrays.to_numpy(arrays.normal((8,), (n,), like)).astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    # standard errors: of a mean sqrt(var/n), of a second moment sqrt((E x⁴ − (E x²)²)/n); 5 of them
    assert abs(u.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / n)
    assert abs(np.mean(u * u) - 1 / 3) < 5 * np.sqrt((1 / 5 - 1 / 9) / n)
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(np.mean(x * x) - 1) < 5 * np.sqrt(2 / n)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 65, 150])
def test_inverse_square_root(like, rng, n):
    A = positive_definite(rng, n)
    R, pivot = arrays.inverse_square_root(to(like, A))
    dense = np.linalg.cholesky(A)
    assert_close(R, np.linalg.inv(dense), like)
    assert_close(R.T @ R, np.linalg.inv(A), like)
    assert_close(pivot, np.min(np.diag(dense)), like)
    np.testing.assert_array_equal(np.triu(arrays.to_numpy(R), 1), 0)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 65, 150])
def test_inverse(like, rng, n):
    A = positive_definite(rng, n)
    there = to(like, A)
    found, pivot = arrays.inverse(there)
    assert_close(found, np.linalg.inv(A), like)
    assert_close(pivot, np.min(np.diag(np.linalg.cholesky(A))), like)
    assert_close(there, A, like)


@pytest.mark.parametrize(
    "A",
    [
        [[0.0]],
        [[-1.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[0.0, 0.0], [0.0, 1.0]],
        [[np.nan, 0.0], [0.0, 1.0]],
        [[np.inf, 0.0], [0.0, 1.0]],
    ],
)
@pytest.mark.parametrize("invert", [arrays.inverse_square_root, arrays.inverse])
def test_what_is_not_positive_definite(like, A, invert):
    """No exception, on any library: the pivot tells, so that nothing needs to be read from the device."""
    with np.errstate(invalid="ignore"):
        _, pivot = invert(to(like, np.array(A)))
    assert_home(pivot, like)
    assert not float(arrays.to_numpy(pivot)) > 0


@pytest.mark.parametrize("stopped_at", [0, 3, 6])
def test_a_factorisation_that_stopped_half_way_is_noticed(like, rng, stopped_at):
    """As LAPACK's potrf leaves it: rows before the failing one are done, those after it are still those of A."""
    A = positive_definite(rng, 7)
    L = np.tril(A)
    L[:stopped_at] = np.linalg.cholesky(A)[:stopped_at]
    assert np.diag(L).min() > 0
    assert np.isnan(float(arrays.to_numpy(arrays._smallest_pivot(*to(like, L, A)))))


def test_eigh(like, rng):
    S = positive_definite(rng, 5) - 1.0 * np.eye(5)
    values, vectors = arrays.eigh(to(like, S))
    assert_close(values, np.sort(np.linalg.eigvals(S).real), like)
    V = arrays.to_numpy(vectors)
    assert_close(vectors @ to(like, np.diag(arrays.to_numpy(values))) @ vectors.T, S, like)
    np.testing.assert_allclose(V.T @ V, np.eye(5), atol=1e-5 if is_float32(like) else 1e-13)


def test_symmetric_operator(rng):
    S = positive_definite(rng, 4)
    operator = arrays.symmetric_operator(4, lambda V: S @ V, np.zeros(0))
    assert isinstance(operator, scipy.sparse.linalg.LinearOperator)
    assert operator.shape == (4, 4) and operator.dtype == np.float64
    v, V = rng.standard_normal(4), rng.standard_normal((4, 3))
    for matrix in (operator, operator.T, operator.H):
        np.testing.assert_allclose(matrix @ v, S @ v, rtol=1e-12)
        np.testing.assert_allclose(matrix @ v[:, None], S @ v[:, None], rtol=1e-12)
        np.testing.assert_allclose(matrix @ V, S @ V, rtol=1e-12)
    solution, info = scipy.sparse.linalg.cg(operator, v, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(solution, np.linalg.solve(S, v), rtol=1e-10)


def test_symmetric_operator_on_cupy(rng):
    like = make_like("cupy-float64")
    import cupyx.scipy.sparse.linalg

    S, v, V = (to(like, x) for x in (positive_definite(rng, 4), rng.standard_normal(4), rng.standard_normal((4, 3))))
    operator = arrays.symmetric_operator(4, lambda V: S @ V, like)
    assert isinstance(operator, cupyx.scipy.sparse.linalg.LinearOperator)
    for matrix in (operator, operator.T, operator.H):
        assert_close(matrix @ v, arrays.to_numpy(S @ v), like)
        assert_close(matrix @ V, arrays.to_numpy(S @ V), like)
    solution, info = cupyx.scipy.sparse.linalg.cg(operator, v, tol=1e-12)
    assert info == 0
    assert_close(solution, np.linalg.solve(arrays.to_numpy(S), arrays.to_numpy(v)), like, 1e-9)


def test_symmetric_operator_needs_a_library_that_has_them():
    with pytest.raises(TypeError, match="LinearOperator is for arrays of NumPy or CuPy; got a Array"):
        arrays.symmetric_operator(4, lambda V: V, array_api_strict.zeros(0))


# --- fused kernels, inner products ---------------------------------------------------------------------------------

FUSED = {"combination": arrays.combination, "softplus": arrays.softplus} | {
    f"{name}, slope": row.times_slope for name, row in ACTIVATIONS.items() if isinstance(row.times_slope, arrays.Fused)
}


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_kernel_computes_what_the_standard_does(rng, name):
    """Its text is C++ and Python at once, so that it can be run without a device."""
    fused = FUSED[name]
    names = [operand.strip() for operand in fused.operands.split(",")]
    operands = [rng.standard_normal((3, 4)) for _ in names]
    scope = dict(zip(names, operands, strict=True)) | {"T": float, "max": np.maximum, "abs": np.abs}
    scope |= {function: getattr(np, function) for function in ("exp", "log1p", "expm1")}
    exec(fused.operation, scope)
    np.testing.assert_allclose(fused(*operands), scope["out"], rtol=1e-15)


def test_gram(like, rng):
    vectors = [[rng.standard_normal((2, 3)), rng.standard_normal((4, 1))] for _ in range(3)]
    flat = np.stack([np.concatenate([x.ravel() for x in v]) for v in vectors])
    ours = arrays.gram([to(like, *v) for v in vectors])
    assert ours.dtype == arrays.namespace(like).float64
    np.testing.assert_allclose(arrays.to_numpy(ours), flat @ flat.T, rtol=1e-5 if like.dtype != ours.dtype else 1e-14)
