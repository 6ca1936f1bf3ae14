"""What the smoke run computes: one table, CHECKS, whose rows for tables of `autodiff` are made of those tables.

A check is a function of an empty array, whose library, device and dtype it takes; it returns arrays, numbers and
truth values, which are then the same for all libraries but for rounding. A public function of autodiff.arrays that has
no row here is a test that fails, and so is a kind of layer without an example.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

import autodiff
from autodiff import arrays
from autodiff.activations import ACTIVATIONS, Elementwise
from autodiff.arrays import Array, Fused, from_numpy, is_numpy, namespace, to_numpy
from autodiff.layers import KINDS
from autodiff.likelihoods import LIKELIHOODS, Likelihood
from autodiff.network import Network
from autodiff.objective import loss_and_gradient
from autodiff.passes import ForwardPass

Check = Callable[[Array], Sequence[Any]]

M, D, R = 40, 30, 3
"""Cases, units, and directions at once."""
EXTREMES = np.array([-1e30, -1e4, -104.0, -88.0, -1.0, 0.0, 1.0, 88.0, 104.0, 1e4, 1e30])
KEY = (3, 1, 4)
MANY = 100_000
"""Random numbers whose mean and variance are looked at."""


def normal(like: Array, *shape: int, seed: int = 0) -> Array:
    """The same standard normal numbers in every library."""
    return from_numpy(np.random.default_rng(seed).standard_normal(shape), like)


def positive_definite(like: Array, n: int = D) -> Array:
    """A symmetric (n, n) with eigenvalues of 1 and more."""
    x = normal(like, n, n)
    return arrays.add_to_diagonal(x @ x.T / n, from_numpy(np.asarray(1.0), like))


def accepted(function: Callable[[], object]) -> bool:
    """Whether it raises nothing."""
    function()
    return True


def refused(function: Callable[[], Any], error: type[Exception]) -> bool:
    """Whether it raises that error."""
    try:
        function()
    except error:
        return True
    return False


# --- autodiff.arrays -------------------------------------------------------------------------------------------------


def _backend(like: Array) -> list[Any]:
    xp = arrays.backend("numpy" if is_numpy(like) else "cupy")
    a, b = (normal(like, 256, 256, seed=seed) for seed in (1, 2))
    results = [xp is namespace(like), a @ b]
    close = True
    if not is_numpy(like):
        exact, largest = to_numpy(a @ b), float(xp.max(xp.abs(a @ b)))
        arrays.backend("cupy-tf32")
        # 10 bits of mantissa, 256 products
        close = bool(np.max(np.abs(to_numpy(a @ b) - exact)) < 1e-2 * largest)
        arrays.backend("cupy")
        close = close and bool(np.array_equal(to_numpy(a @ b), exact))
    return [*results, close]


def _from_numpy(like: Array) -> list[Any]:
    x = np.random.default_rng(0).standard_normal((3, 5))
    return [from_numpy(x, like), from_numpy(x.T, like), from_numpy(np.arange(4), like), from_numpy(x > 0, like)]


def _to_numpy(like: Array) -> list[Any]:
    x = normal(like, 4, 6)
    host = [to_numpy(x), to_numpy(x.T), to_numpy(x[1:3, ::2]), to_numpy(x > 0)]
    return [*(type(h) is np.ndarray for h in host), *(float(h.sum()) for h in host), *(h.size for h in host)]


def _read_scalars(like: Array) -> list[Any]:
    xp = namespace(like)
    return [float(x.sum()) for x in arrays.read_scalars(normal(like, 2, 3), xp.sum(normal(like, 4)), like)]


def _random(draw: Callable[..., Array], mean: float, variance: float, low: float, high: float) -> Check:
    def check(like: Array) -> list[Any]:
        x, again, other = draw(KEY, (MANY,), like), draw(KEY, (MANY,), like), draw((*KEY, 1), (MANY,), like)
        host = to_numpy(x).astype(np.float64)
        return [
            x.dtype == like.dtype and arrays.device(x) == arrays.device(like),
            np.array_equal(host, to_numpy(again)),
            # two numbers are the same by chance where there are few
            bool(np.mean(host == to_numpy(other)) < 1e-3),
            bool(abs(host.mean() - mean) < 0.02 and abs(host.var() - variance) < 0.03),
            bool(host.min() >= low and host.max() < high),
            tuple(draw(KEY, (2, 3), like).shape) == (2, 3),
        ]

    return check


def _inverse_square_root(like: Array) -> list[Any]:
    A = positive_definite(like)
    R, pivot = arrays.inverse_square_root(A)
    large, _ = arrays.inverse_square_root(positive_definite(like, 150))
    _, none = arrays.inverse_square_root(-A)
    last = from_numpy(np.diag([*[1.0] * (D - 1), -1.0]), like)  # which a factorisation finds at its end
    _, late = arrays.inverse_square_root(last)
    positive = [bool(arrays.read_scalars(p)[0] > 0) for p in (pivot, none, late)]
    return [R, pivot, R.T @ R @ A, large, *positive]


def _inverse(like: Array) -> list[Any]:
    A = positive_definite(like)
    found, pivot = arrays.inverse(A)
    _, none = arrays.inverse(-A)
    return [found, pivot, found @ A, *(bool(arrays.read_scalars(p)[0] > 0) for p in (pivot, none))]


def _eigh(like: Array) -> list[Any]:
    S = positive_definite(like) - 2 * positive_definite(like).T
    values, V = arrays.eigh(S)
    broken = S * float("nan")
    return [values, V.T @ V, (V * values) @ V.T, bool(np.isnan(to_numpy(arrays.eigh(broken)[0])).any())]


def _symmetric_operator(like: Array) -> list[Any]:
    A = positive_definite(like)
    operator = arrays.symmetric_operator(D, lambda X: A @ X, like)
    x, X = normal(like, D), normal(like, D, 4)
    return [operator.matvec(x), operator.matmat(X), operator.rmatvec(x), operator @ X, operator.shape == (D, D)]


def _image_rows(like: Array) -> list[Any]:
    images = normal(like, 2, 5, 7, 3)
    transposed = namespace(like).permute_dims(images, (0, 2, 1, 3))
    return [arrays.image_rows(images, 2, 3, 3), arrays.image_rows(transposed, 1, 4, 2)]


def _require_alike(like: Array) -> list[Any]:
    xp = namespace(like)
    other = xp.astype(normal(like, 2), xp.float32 if like.dtype == xp.float64 else xp.float64)
    return [
        accepted(lambda: arrays.require_alike(normal(like, 2), like, "x")),
        refused(lambda: arrays.require_alike(other, like, "x"), TypeError),
        refused(lambda: arrays.require_alike([1.0], like, "x"), TypeError),
    ]


def _require_floating(like: Array) -> list[Any]:
    integers = from_numpy(np.arange(3), like)
    return [
        accepted(lambda: arrays.require_floating(like, "x")),
        refused(lambda: arrays.require_floating(integers, "x"), TypeError),
    ]


def _gram(like: Array) -> list[Any]:
    vectors = [[normal(like, 4, 5, seed=seed), normal(like, 3, seed=seed + 9)] for seed in range(R)]
    return [arrays.gram(vectors)]


def _elementwise(function: Callable[[Array], Array]) -> Check:
    return lambda like: [function(normal(like, M, D)), function(from_numpy(EXTREMES, like)), function(10 * like)]


ARRAYS: dict[str, Check] = {
    "namespace": lambda like: [namespace(like, normal(like, 2)) is namespace(like)],
    "is_numpy": lambda like: [is_numpy(normal(like, 2)) == isinstance(like, np.ndarray)],
    "device": lambda like: [arrays.device(normal(like, 2)) == arrays.device(like)],
    "backend": _backend,
    "from_numpy": _from_numpy,
    "to_numpy": _to_numpy,
    "read_scalars": _read_scalars,
    "wait": lambda like: [accepted(lambda: arrays.wait(like))],
    "require_floating": _require_floating,
    "require_alike": _require_alike,
    "append_ones": lambda like: [arrays.append_ones(normal(like, M, D)), arrays.append_ones(normal(like, R, M, D))],
    "constant": lambda like: [arrays.constant((1.0, 1 / 3), like), arrays.constant((1.0, 1 / 3), like)],
    "image_rows": _image_rows,
    "add_to_diagonal": lambda like: [positive_definite(like)],
    "inner": lambda like: [arrays.inner([normal(like, 4, 5), normal(like, 7)], [normal(like, 4, 5), normal(like, 7)])],
    "gram": _gram,
    "logistic": _elementwise(arrays.logistic),
    "positive_part": _elementwise(arrays.positive_part),
    "at_most_one": _elementwise(arrays.at_most_one),
    "uniform": _random(arrays.uniform, 0.5, 1 / 12, 0.0, 1.0),
    "normal": _random(arrays.normal, 0.0, 1.0, -10.0, 10.0),
    "inverse_square_root": _inverse_square_root,
    "inverse": _inverse,
    "eigh": _eigh,
    "upper_triangle": lambda like: [arrays.upper_triangle(positive_definite(like))],
    "from_upper_triangle": lambda like: [
        arrays.from_upper_triangle(arrays.upper_triangle(positive_definite(like)), D) - positive_definite(like)
    ],
    "symmetric_operator": _symmetric_operator,
    "device_memory": lambda like: [
        (arrays.device_memory("numpy" if is_numpy(like) else "cupy") is None) == is_numpy(like)
    ],
}
"""For every public function of autodiff.arrays."""


def public_functions() -> list[str]:
    """Of autodiff.arrays."""
    own = inspect.getmembers(arrays, lambda f: inspect.isfunction(f) and f.__module__ == arrays.__name__)
    return [name for name, _ in own if not name.startswith("_")]


# --- fused kernels ---------------------------------------------------------------------------------------------------


def fused_kernels() -> dict[str, Fused]:
    """All in `autodiff`: variables of its modules, and fields of the rows of their tables."""
    found: dict[str, Fused] = {}
    for info in pkgutil.walk_packages(autodiff.__path__, "autodiff."):
        for name, value in vars(importlib.import_module(info.name)).items():
            rows = value.items() if isinstance(value, dict) and not name.startswith("__") else ()
            nested = [(f"{key} {f.name}", getattr(row, f.name)) for key, row in rows for f in _fields(row)]
            for label, one in [(name, value), *nested]:
                if isinstance(one, Fused) and one not in found.values():
                    found[label] = one
    return found


def _fields(row: Any) -> Sequence[Any]:
    return fields(row) if is_dataclass(row) and not isinstance(row, type) else ()


def _fused(kernel: Fused) -> Check:
    """With arrays; with broadcasting; with an operand that does not lie in order; with numbers among the operands."""

    def check(like: Array) -> list[Any]:
        names = [name.strip() for name in kernel.operands.split(",")]
        xs = [normal(like, R, M, D, seed=seed) for seed in range(len(names))]
        mixed = [0.25 if name in ("alpha", "beta") else x for name, x in zip(names, xs, strict=True)]
        apart = [namespace(x).matrix_transpose(x)[:, ::2, :] for x in xs]
        return [kernel(*xs), kernel(xs[0][0, ...], *xs[1:]), kernel(*apart), kernel(*mixed)]

    return check


# --- tables of activations and likelihoods ---------------------------------------------------------------------------


def _activation(row: Elementwise) -> Check:
    def check(like: Array) -> list[Any]:
        a, saved = row.value(normal(like, M, D))
        tangents = normal(like, R, M, D, seed=1)
        extreme = row.value(from_numpy(np.clip(EXTREMES, -1e4, 1e4), like))[0]
        return [a, row.push(saved, tangents), row.pull(saved, tangents), row.pull(saved, tangents[0, ...]), extreme]

    return check


def targets(like: Array, row: Likelihood, z: Array) -> Array:
    """Targets in the likelihood's range, the same in every library: drawn from the model with NumPy's numbers."""
    host = to_numpy(z)
    return from_numpy(np.asarray(row.sample(host, KEY)), like)


def _likelihood(row: Likelihood) -> Check:
    def check(like: Array) -> list[Any]:
        z, v = 3 * normal(like, M, D), normal(like, R, M, D, seed=1)
        y = targets(like, row, z)
        noise = from_numpy(np.asarray(row.noise(KEY, (M, D), np.zeros(0))), like)
        drawn = row.sample(z, KEY)
        return [
            row.nll(z, y),
            row.mean(z),
            row.derivative(z, y),
            row.fisher_product(z, v),
            row.fisher_root_product(z, v),
            row.sample_with(z, noise),
            *([row.mistakes(z, y)] if row.mistakes else []),
            row.excess(y),
            bool(arrays.read_scalars(row.excess(drawn))[0] < 1e-6) and drawn.dtype == like.dtype,
            tuple(drawn.shape) == (M, D),
            row.nll(30 * z, y),
        ]

    return check


# --- layers ----------------------------------------------------------------------------------------------------------

_DENSE = {"kind": "dense", "out": 4}
_CONV = {"kind": "conv", "out": 6, "kernel": [3, 3], "padding": 1, "activation": "tanh"}
_DEPTHWISE = {"kind": "depthwise-conv", "kernel": [3, 3], "padding": 1, "activation": "logistic"}
IMAGE, SEQUENCE = (3, 6, 6), (5, 7)

LAYERS: dict[str, tuple[tuple[int, ...], list[dict[str, Any]]]] = {
    "dense": ((7,), [_DENSE | {"activation": "softplus"}, _DENSE]),
    "conv": (IMAGE, [_CONV, _CONV | {"stride": 2, "kernel": [2, 3]}, {"kind": "flatten"}, _DENSE]),
    "depthwise-conv": (IMAGE, [_CONV, _DEPTHWISE, {"kind": "flatten"}, _DENSE]),
    "recurrent": (SEQUENCE, [{"kind": "recurrent", "out": 6, "activation": "tanh", "returns": "all"}, _DENSE]),
    "layer-norm": ((7,), [_DENSE | {"activation": "tanh"}, {"kind": "layer-norm", "activation": "tanh"}, _DENSE]),
    "batch-norm": (
        IMAGE,
        [_CONV, {"kind": "batch-norm", "mean": [0.1] * 6, "variance": [0.5] * 6}, {"kind": "flatten"}, _DENSE],
    ),
    "average-pool": (IMAGE, [_CONV, {"kind": "average-pool", "size": [2, 2]}, {"kind": "flatten"}, _DENSE]),
    "max-pool": (IMAGE, [_CONV, {"kind": "max-pool", "size": [3, 2], "stride": 2}, {"kind": "flatten"}, _DENSE]),
    "global-mean": (IMAGE, [_CONV, {"kind": "global-mean"}, _DENSE]),
    "mean-over-positions": (SEQUENCE, [_DENSE | {"activation": "tanh"}, {"kind": "mean-over-positions"}, _DENSE]),
    "flatten": (IMAGE, [{"kind": "flatten"}, _DENSE]),
    "residual": (IMAGE, [_CONV, {"kind": "residual", "layers": [_CONV, _CONV]}, {"kind": "flatten"}, _DENSE]),
}
"""For every kind of layer a network in which it is: the shape of a case, and the layers."""


def _layer(shape: tuple[int, ...], layers: list[dict[str, Any]]) -> Check:
    """Outputs, h, the gradient, several directions and several cotangents at once."""

    def check(like: Array) -> list[Any]:
        network = Network.of(layers, shape, "categorical")
        W = [normal(like, *w, seed=seed) / w[1] ** 0.5 for seed, w in enumerate(network.shapes)]
        X = normal(like, 8, *shape)
        forward_pass = ForwardPass(network, W, X)
        (_, activities), *_ = forward_pass.chunks()
        value, gradient = loss_and_gradient(forward_pass, targets(like, network.likelihood, activities.z), 1e-3)
        V = [[normal(like, *w, seed=10 * r + i) for i, w in enumerate(network.shapes)] for r in range(2)]
        Dz = normal(like, 2, *activities.z.shape)
        pulled = forward_pass.pull_back(activities, Dz)
        return [activities.z, value.h, *gradient, forward_pass.forward_mode(activities, V), *pulled]

    return check


# --- all -------------------------------------------------------------------------------------------------------------

CHECKS: dict[str, Mapping[str, Check]] = {
    "arrays": ARRAYS,
    "fused": {name: _fused(kernel) for name, kernel in fused_kernels().items()},
    "activation": {name: _activation(row) for name, row in ACTIVATIONS.items()},
    "likelihood": {name: _likelihood(row) for name, row in LIKELIHOODS.items()},
    "layer": {name: _layer(*example) for name, example in LAYERS.items()},
}
"""By what they are about, then by name."""


def all_checks() -> dict[str, Check]:
    """By name, as "arrays.eigh"."""
    return {f"{group}.{name}": check for group, rows in CHECKS.items() for name, check in rows.items()}


def unchecked() -> Iterator[str]:
    """Public functions of autodiff.arrays and kinds of layers without a row here."""
    yield from (f"arrays.{name}" for name in public_functions() if name not in ARRAYS)
    yield from (f"layer.{kind}" for kind in KINDS if kind not in LAYERS)
