"""The array library in use. Everything that differs between NumPy, CuPy and other libraries is in this file.

The rest of the code is written against the array-API standard: it asks `namespace` for the library of the arrays it
was given and stays on their device, in their dtype. Only `to_numpy` and `read_scalars` bring values to the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import array_api_compat
import numpy as np
from scipy.linalg import get_lapack_funcs

from autodiff.names import closest

Array: TypeAlias = Any
"""An array of any library that follows the array-API standard."""

DTYPES = ("float32", "float64")
BACKENDS = ("numpy", "cupy", "cupy-tf32")
"""With "cupy-tf32" the operands of float32 matrix products are rounded to 10 bits of mantissa, for tensor cores; with
"cupy" they are not, whatever CUPY_TF32 says."""


def namespace(*arrays: Array) -> Any:
    """The array-API namespace that `arrays` belong to; TypeError if they belong to different ones or to none."""
    return array_api_compat.array_namespace(*arrays)


def is_numpy(x: Array) -> bool:
    """Whether x, of any shape, is an array of NumPy."""
    return isinstance(x, np.ndarray)


def device(x: Array) -> Any:
    """The device on which `x`, of any shape, lives."""
    return array_api_compat.device(x)


def backend(name: str, which: int = 0) -> Any:
    """The namespace called `name`, ready for use; of several devices that of this number, counted round.

    Raises
    ------
    ValueError
        For an unknown name, or for CuPy where it is not installed or finds no device.
    """
    closest(name, BACKENDS, "backend")
    if name == "numpy":
        return array_api_compat.array_namespace(np.zeros(0))
    try:
        import cupy
    except ImportError as error:
        raise ValueError(
            f'backend "{name}" needs CuPy, which is not installed (pip install "kfac-ref[cupy]"); use --backend numpy'
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise ValueError(f'backend "{name}" finds no usable CUDA device ({error}); use --backend numpy') from error
    if count == 0:
        raise ValueError(f'backend "{name}" finds no CUDA device; use --backend numpy')
    if which:
        cupy.cuda.Device(which % count).use()
    _round_to_tf32(name == "cupy-tf32")
    return array_api_compat.array_namespace(cupy.zeros(0))


def device_memory(backend: str) -> int | None:
    """Bytes of memory of the device that the backend called so computes on; None for the host's."""
    if backend == "numpy":
        return None
    import cupy

    return int(cupy.cuda.runtime.memGetInfo()[1])


def _round_to_tf32(wanted: bool) -> None:
    # of products alone: what cuBLAS and cuSOLVER do for factorisations and inverses stays in float32
    import cupy
    from cupy._core import _routines_linalg as products

    products.set_compute_type(cupy.float32, products.COMPUTE_TYPE_TF32 if wanted else products.COMPUTE_TYPE_DEFAULT)


# --- host and device ---------------------------------------------------------------------------------------------


def from_numpy(x: np.ndarray, like: Array) -> Array:
    """`x`, of any shape, in the library and on the device of `like`; a floating-point `x` also takes the dtype of
    `like`."""
    xp = namespace(like)
    dtype = like.dtype if np.issubdtype(x.dtype, np.floating) else None
    return xp.asarray(x, dtype=dtype, device=device(like))


def to_numpy(x: Array) -> np.ndarray:
    """`x`, of any shape, on the host."""
    if is_numpy(x):
        return x
    if array_api_compat.is_cupy_array(x):
        return x.get()
    home = namespace(x).__array_namespace_info__().default_device()
    return np.asarray(array_api_compat.to_device(x, home))


def read_scalars(*groups: Array) -> list[np.ndarray]:
    """Values of several small arrays of any shape on the host in float64, in one transfer; each keeps its shape."""
    xp = namespace(*groups)
    flat = xp.concat([xp.astype(xp.reshape(g, (-1,)), xp.float64) for g in groups])
    host = to_numpy(flat)
    ends = np.cumsum([int(np.prod(g.shape, dtype=int)) for g in groups])
    return [part.reshape(g.shape) for part, g in zip(np.split(host, ends[:-1]), groups, strict=True)]


def wait(like: Array) -> None:
    """Return when the device of `like` has done all that it was asked to do, for clocks."""
    if array_api_compat.is_cupy_array(like):
        import cupy

        cupy.cuda.get_current_stream().synchronize()


def require_floating(x: Array, name: str) -> None:
    """TypeError naming `name` unless x, of any shape, is an array of float32 or float64."""
    try:
        xp = namespace(x)
    except TypeError:
        raise TypeError(f"{name} is a {type(x).__name__}, expected an array of float32 or float64") from None
    if x.dtype not in (xp.float32, xp.float64):
        raise TypeError(f"{name} has dtype {x.dtype}, expected float32 or float64")


def require_alike(x: Array, like: Array, name: str) -> None:
    """TypeError naming `name` unless x, of any shape, is an array of the library, dtype and device of `like`.

    What would be promoted or copied silently (float64 data for float32 parameters, integers whose products overflow,
    data on another device) is refused, for the arrays handed in decide what the results are.
    """
    try:
        same = namespace(x, like) is namespace(like)
    except TypeError:
        same = False
    if not same:
        raise TypeError(f"{name} is a {type(x).__name__}, expected a {type(like).__name__} like the parameters")
    if x.dtype != like.dtype or device(x) != device(like):
        expected = f"expected {like.dtype} on {device(like)} like the parameters"
        raise TypeError(f"{name} has dtype {x.dtype} on device {device(x)}, {expected}")


# --- creation and elementwise functions ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fused:
    """A chain of elementwise operations on arrays of one dtype, and numbers, that CuPy runs as one kernel."""

    operands: str
    """Their names, as "a, t"."""
    operation: str
    """out = …, in C++ and in Python."""
    standard: Callable[..., Array]
    """The same in terms of the array-API standard."""

    def __call__(self, *operands: Any) -> Array:
        if any(array_api_compat.is_cupy_array(x) for x in operands):
            return _kernel(self.operands, self.operation)(*operands)
        return self.standard(*operands)


@functools.cache
def _kernel(operands: str, operation: str) -> Any:
    import cupy

    inputs = ", ".join(f"T {name.strip()}" for name in operands.split(","))
    return cupy.ElementwiseKernel(inputs, "T out", operation, "kfac_ref_fused")


combination = Fused("alpha, x, beta, y", "out = alpha * x + beta * y", lambda alpha, x, beta, y: alpha * x + beta * y)
"""αx + βy for arrays x and y."""


def append_ones(a: Array) -> Array:
    """ā = [a; 1]: the homogeneous coordinate is the last column. (…, d) → (…, d+1) (§2.1)."""
    xp = namespace(a)
    return xp.concat([a, xp.ones((*a.shape[:-1], 1), dtype=a.dtype, device=device(a))], axis=-1)


@functools.lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], xp: Any, dtype: Any, where: Any) -> Array:
    return xp.asarray(values, dtype=dtype, device=where)


def constant(values: tuple[float, ...], like: Array) -> Array:
    """The numbers `values` as an array (n,) of the library, device and dtype of `like`, uploaded once."""
    return _constant(values, namespace(like), like.dtype, device(like))


def image_rows(x: Array, stride: int, number: int, width: int) -> Array | None:
    """Of images x (m, H, W, c) the `width` pixels from every `stride`-th on, in each row: a view (m, H, number,
    width·c) in which pixels lie behind each other. None where the library has no such view."""
    if not (is_numpy(x) or array_api_compat.is_cupy_array(x)):
        return None
    xp, (m, H, _, c) = namespace(x), x.shape
    if x.strides[3] != x.itemsize or x.strides[2] != c * x.itemsize:
        x = xp.asarray(x, order="C", copy=True)
    shape, strides = (m, H, number, width * c), (x.strides[0], x.strides[1], stride * x.strides[2], x.itemsize)
    if is_numpy(x):
        return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
    import cupy

    return cupy.lib.stride_tricks.as_strided(x, shape, strides)


def add_to_diagonal(A: Array, value: Array) -> Array:
    """A + value·I, (n, n), for a square A (n, n) and a 0-d `value` on the same device."""
    xp = namespace(A)
    return A + value * xp.eye(A.shape[0], dtype=A.dtype, device=device(A))


def inner(u: Sequence[Array], v: Sequence[Array]) -> Array:
    """Σ over layers and entries of u·v, 0-d on the device, u and v having arrays of the same shapes: of each layer in
    its dtype, over the layers in float64."""
    xp = namespace(u[0])
    products = [xp.vecdot(xp.reshape(x, (-1,)), xp.reshape(y, (-1,))) for x, y in zip(u, v, strict=True)]
    return xp.sum(xp.astype(xp.stack(products), xp.float64))


def gram(vectors: Sequence[Sequence[Array]]) -> Array:
    """The inner products, as `inner`, of every two of r `vectors`, given layer by layer as arrays of the same shapes:
    (r, r)."""
    xp, r = namespace(vectors[0][0]), range(len(vectors))
    products = []
    for parts in zip(*vectors, strict=True):
        flat = [xp.reshape(x, (-1,)) for x in parts]
        if array_api_compat.is_cupy_array(flat[0]):
            # one product, where a vecdot would be several kernels, and the copies cost nothing
            stacked = xp.stack(flat)
            products.append(xp.reshape(stacked @ stacked.T, (-1,)))
        else:
            upper = {(a, b): xp.vecdot(flat[a], flat[b]) for a in r for b in r if a <= b}
            products.append(xp.stack([upper[min(a, b), max(a, b)] for a in r for b in r]))
    return xp.reshape(xp.sum(xp.astype(xp.stack(products), xp.float64), axis=0), (len(r), len(r)))


def logistic(z: Array) -> Array:
    """1 / (1 + e^−z) for z of any shape, with a small relative error for negative z, too; 0 where e^−z overflows (in
    float32 z < −88)."""
    xp = namespace(z)
    if is_numpy(z):
        # NumPy's vectorised exp: several times faster than scipy.special.expit
        e = np.negative(z)
        with np.errstate(over="ignore"):
            np.exp(e, out=e)
        e += 1
        return np.divide(1, e, out=e)
    if array_api_compat.is_cupy_array(z):
        import cupyx.scipy.special

        return cupyx.scipy.special.expit(z)
    e = xp.exp(-xp.abs(z))
    return xp.where(z >= 0, xp.ones_like(z), e) / (1 + e)


def positive_part(z: Array) -> Array:
    """max(z, 0) for z of any shape."""
    # not `clip`, which on CuPy gathers by a mask and so waits for the device
    xp = namespace(z)
    return xp.maximum(z, xp.zeros((), dtype=z.dtype, device=device(z)))


def at_most_one(x: Array) -> Array:
    """min(x, 1) for x of any shape, as App. B's spectra are clipped."""
    xp = namespace(x)
    return xp.minimum(x, xp.ones((), dtype=x.dtype, device=device(x)))


def _softplus(z: Array) -> Array:
    xp = namespace(z)
    return positive_part(z) + xp.log1p(xp.exp(-xp.abs(z)))


softplus = Fused("z", "out = max(z, T(0)) + log1p(exp(-abs(z)))", _softplus)
"""log(1 + e^z), without overflow."""


# --- random numbers ------------------------------------------------------------------------------------------------
# Random numbers are a pure function of a key (a tuple of non-negative integers such as (seed, purpose, iteration)), so
# a run's generator has no state beyond its seed and iteration, and a resumed run draws what it would have drawn.


def uniform(key: Sequence[int], shape: tuple[int, ...], like: Array) -> Array:
    """Uniform numbers in [0, 1) of that shape, and of the library, device and dtype of `like`."""
    if array_api_compat.is_cupy_array(like):
        return _cupy_generator(key).random(shape, dtype=like.dtype)
    return from_numpy(np.random.default_rng(key).random(shape, dtype=_numpy_dtype(like)), like)


def normal(key: Sequence[int], shape: tuple[int, ...], like: Array) -> Array:
    """Standard normal numbers of that shape, and of the library, device and dtype of `like`."""
    if array_api_compat.is_cupy_array(like):
        return _cupy_generator(key).standard_normal(shape, dtype=like.dtype)
    return from_numpy(np.random.default_rng(key).standard_normal(shape, dtype=_numpy_dtype(like)), like)


def _numpy_dtype(like: Array) -> Any:
    return np.float32 if like.dtype == namespace(like).float32 else np.float64


def _cupy_generator(key: Sequence[int]) -> Any:
    import cupy

    return cupy.random.Generator(cupy.random.Philox4x3210(np.random.SeedSequence(key)))


# --- linear algebra ------------------------------------------------------------------------------------------------


def inverse_square_root(A: Array) -> tuple[Array, Array]:
    """R with RᵀR = A⁻¹ for a symmetric positive definite A (n, n), and the smallest pivot, 0-d (§4.2, App. B).

    R = L⁻¹ is lower-triangular, A = L Lᵀ being the Cholesky factorisation, and the pivot is the smallest diagonal entry
    of L. If A is not positive definite, nothing is raised, on any library: the pivot is then NaN or not above 0, and R
    is of no use, so that whoever reads the pivot from the device finds out, and nobody else needs to wait for it.
    """
    if is_numpy(A):
        U, pivot = _factorised(A)
        R, _ = _lapack("trtri", A)(U, overwrite_c=True)
        return R.T, pivot
    xp = namespace(A)
    try:
        L = xp.linalg.cholesky(A)
        return _inverse_lower(L), _smallest_pivot(L, A)
    except np.linalg.LinAlgError:
        nothing = xp.full(A.shape, float("nan"), dtype=A.dtype, device=device(A))
        return nothing, nothing[0, 0]


def inverse(A: Array) -> tuple[Array, Array]:
    """A⁻¹ itself, and the smallest pivot: see `inverse_square_root`."""
    if not is_numpy(A):
        R, pivot = inverse_square_root(A)
        return R.T @ R, pivot
    U, pivot = _factorised(A)
    found, _ = _lapack("potri", A)(U, overwrite_c=True)
    return _mirrored(found), pivot


def _lapack(name: str, like: np.ndarray) -> Callable[..., Any]:
    (function,) = get_lapack_funcs((name,), (like,))
    return function


def _factorised(A: np.ndarray) -> tuple[np.ndarray, Array]:
    """U = Lᵀ, in Fortran's order, and the smallest pivot."""
    # NumPy's own factorisation copies to that order and back, which takes longer than factorising
    U, stopped_at = _lapack("potrf", A)(A.copy().T, overwrite_a=True)
    pivots = np.diagonal(U)
    sound = stopped_at == 0 and bool(np.all(np.isfinite(pivots)))
    return U, np.asarray(np.min(pivots) if sound else np.nan, dtype=A.dtype)


def _mirrored(S: np.ndarray) -> np.ndarray:
    """S with its upper triangle below the diagonal, too, in place."""
    n, step = S.shape[0], 64
    for i in range(0, n, step):
        j = min(i + step, n)
        S[i:j, i:j] = np.triu(S[i:j, i:j]) + np.triu(S[i:j, i:j], 1).T
        S[j:, i:j] = S[i:j, j:].T
    return S


def _smallest_pivot(L: Array, A: Array) -> Array:
    # CuPy says nothing when a factorisation stops half way. The rows of L have the squared norms A_ii if it did not.
    xp = namespace(L)
    diagonal = xp.linalg.diagonal(A)
    off = xp.max(xp.abs(xp.vecdot(L, L) - diagonal) / diagonal)
    smallest = xp.min(xp.linalg.diagonal(L))
    return xp.where(off < 1e-2, smallest, xp.full_like(smallest, float("nan")))


def _inverse_lower(L: Array) -> Array:
    if array_api_compat.is_cupy_array(L):
        import cupy
        from cupyx.scipy.linalg import solve_triangular

        # Lᵀ lies in memory as cuBLAS wants it
        identity = cupy.eye(L.shape[0], dtype=L.dtype, order="F")
        return solve_triangular(L.T, identity, trans="T", lower=False, overwrite_b=True)
    xp = namespace(L)
    return xp.tril(xp.linalg.inv(L))


def upper_triangle(S: Array) -> Array:
    """The entries (i, j), i ≤ j, of a symmetric S (n, n), row after row: (n(n+1)/2,)."""
    xp, n = namespace(S), S.shape[0]
    return xp.concat([S[i, i:] for i in range(n)])


def from_upper_triangle(x: Array, n: int) -> Array:
    """The symmetric (n, n) whose `upper_triangle` is x, (n(n+1)/2,)."""
    S, end = namespace(x).empty((n, n), dtype=x.dtype, device=device(x)), 0
    for i in range(n):
        start, end = end, end + n - i
        S[i, i:] = x[start:end]
        S[i:, i] = x[start:end]
    return S


def eigh(S: Array) -> tuple[Array, Array]:
    """Eigenvalues (n,) in ascending order and eigenvectors (n, n), as columns, of a symmetric S (n, n), as App. B needs
    them; NaN if S holds one."""
    xp = namespace(S)
    try:
        values, vectors = xp.linalg.eigh(S)
    except np.linalg.LinAlgError:
        vectors = xp.full(S.shape, float("nan"), dtype=S.dtype, device=device(S))
        values = vectors[:, 0]
    return values, vectors


def symmetric_operator(size: int, matmat: Callable[[Array], Array], like: Array) -> Any:
    """The (size, size) LinearOperator of `like`'s library, SciPy's or CuPy's, whose product with (size, k) is `matmat`.

    It is symmetric, so that products with its transpose are the same. TypeError for a library that has none.
    """
    if is_numpy(like):
        from scipy.sparse.linalg import LinearOperator
    elif array_api_compat.is_cupy_array(like):
        from cupyx.scipy.sparse.linalg import LinearOperator
    else:
        raise TypeError(f"a LinearOperator is for arrays of NumPy or CuPy; got a {type(like).__name__}")

    def matvec(v: Array) -> Array:
        return matmat(v.reshape(size, 1)).reshape(size)

    return LinearOperator((size, size), matvec=matvec, rmatvec=matvec, matmat=matmat, rmatmat=matmat, dtype=like.dtype)
