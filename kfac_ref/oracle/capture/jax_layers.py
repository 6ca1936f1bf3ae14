"""Capturing a case from a function of JAX whose layers are marked.

A function of JAX has no modules. What it traces to can be searched for layers, but their patterns change with each
library and its versions (a layer norm's scale is multiplied with 1/σ first in one, with x̂ in another), and tables of
flax's and of haiku's modules know neither each other nor what users write. So a layer is what its author says it is: W
applied to these rows gave this. That needs `jax.vjp` and nothing else, and what is said is checked against the gradient
by the function's own parameters.

    def apply(params, x):
        s = mark("first", x @ params["W1"] + params["b1"], x)
        return mark("second", jnp.tanh(s) @ params["W2"], jnp.tanh(s), bias=False)

    case = capture(apply, x, y, "categorical", params=params)

Outside of a capture `mark` only returns what it was given. Modules of flax and haiku stay as they are, as both call a
function of the user's around each method, with the same arguments:

    def marked(method, args, kwargs, context):
        y = method(*args, **kwargs)
        layer = context.method_name == "__call__" and type(context.module).__name__ in ("Dense", "Linear")
        return mark(context.module.name, y, args[0]) if layer else y

    with flax.linen.intercept_methods(marked):  # or haiku.intercept_methods
        case = capture(model.apply, x, y, "categorical", params=variables)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from autodiff.names import closest
from kfac_ref.oracle.capture import jax_parameters
from kfac_ref.oracle.capture.found import Found, require_memory
from kfac_ref.oracle.captured import CapturedLayer

FLOATING = ("float32", "float64")


@dataclass(frozen=True)
class Mark:
    """One call of a layer."""

    name: str
    bias: bool
    kind: str
    a: Any
    """(N, T, p)"""
    shape: tuple[int, ...]
    """Of s."""


@dataclass
class Recorder:
    """What marks do within a capture: say their rows, and add what derivatives are taken by."""

    added: Sequence[Array] | None = None
    """Zeros of the shape of each marked s, in order; None where only rows are wanted."""
    marks: list[Mark] = field(default_factory=list)


_RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def mark(name: str, s: Array, rows: Array, *, bias: bool = True, kind: str = "rows") -> Array:
    """Say that s_t = W a_t, with a 1 behind a_t where there is a bias; returns s, which is to be used from there on.

    Parameters
    ----------
    name : of the layer; marks of the same name are one layer, called several times.
    s : (N, …, d)
    rows : (N, …, p), with the same axes in the middle
        Of a convolution see `patches`; of an embedding `jax.nn.one_hot`. Of a normalisation x̂ (N, …, d).
    bias : whether s includes a bias (of a normalisation: a shift).
    kind : "rows" or "normalisation", as in `CapturedLayer`.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, or the layer is marked where its rows have no numbers.
    """
    recorder = _RECORDER.get()
    if recorder is None:
        return s
    k = len(recorder.marks)
    if isinstance(rows, jax.core.Tracer) and recorder.added is None:
        raise ValueError(f"layer {name!r} is marked within vmap, checkpoint or grad, where its rows have no numbers")
    for what, x in (("s", s), ("rows", rows)):
        if str(x.dtype) not in FLOATING:
            raise ValueError(f"{what} of layer {name!r} are {x.dtype}, expected float64 or float32")
    if s.ndim < 2 or rows.shape[:-1] != s.shape[:-1] or (kind == "normalisation" and rows.shape != s.shape):
        raise ValueError(
            f"layer {name!r}: rows have shape {rows.shape} and s {s.shape}, expected (N, …, p) and (N, …, d)"
        )
    a = jnp.reshape(rows, (rows.shape[0], -1, rows.shape[-1]))
    recorder.marks.append(Mark(name, bias, kind, a, s.shape))
    return s if recorder.added is None else s + recorder.added[k]


def patches(
    x: Array,
    kernel: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Rows of a convolution, channels last: (N, *places, c·Πk) from x (N, *places, c), columns in the order channel,
    kernel row, kernel column."""
    n = len(kernel)
    strides, dilations = ([k] * n if isinstance(k, int) else list(k) for k in (stride, dilation))
    axes = "DHW"[-n:]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    found: Array = lax.conv_general_dilated_patches(
        x, list(kernel), strides, padding, rhs_dilation=dilations, dimension_numbers=layout
    )
    return found


def found(apply: Callable[[Any, Any], Array], params: Any, inputs: Any, only: Collection[str] | None = None) -> Found:
    """Rows and derivatives of the marked layers of apply(params, inputs); see `kfac_ref.oracle.capture`.

    ValueError where parameters are of another dtype, or as of `kfac_ref.oracle.capture.capture`.
    """
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    for path, leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and str(leaf.dtype) not in FLOATING:
            raise ValueError(f"params{jax.tree_util.keystr(path)} is {leaf.dtype}, expected float64 or float32")
    # so that nothing is traced but by vjp, and loops of `scan` are loops
    with jax.disable_jit():
        z, marks = _run(apply, params, inputs, None)
        _require_outputs(z)
        names = list(dict.fromkeys(m.name for m in marks))
        for name in only or ():
            closest(name, names, "layer")
        _require_consistent(marks, len(z))
        outputs = prod(z.shape[1:])
        sizes = {m.name: 0 for m in marks}
        for m in marks:
            sizes[m.name] += m.a.size + outputs * prod(m.shape)
        require_memory(sizes, len(z), outputs)

        def outputs_of(added: Sequence[Array], params: Any) -> tuple[Array, list[Array]]:
            z, marks = _run(apply, params, inputs, added)
            return z, [m.a for m in marks]

        zeros = [jnp.zeros(m.shape, z.dtype) for m in marks]
        z, pull, rows = jax.vjp(outputs_of, zeros, params, has_aux=True)
        _require_single_cases(pull, z, marks)
        g = _derivatives(pull, z, marks)
    layers = []
    for name in names:
        calls = [k for k, m in enumerate(marks) if m.name == name]
        a = np.concatenate([np.asarray(rows[k]) for k in calls], axis=1)
        m = marks[calls[0]]
        layers.append(CapturedLayer(a, np.concatenate([g[k] for k in calls], axis=2), m.bias, m.kind, name))
    u = np.random.default_rng(2016).standard_normal(z.shape).astype(z.dtype)
    gradients = jax.tree_util.tree_leaves(pull(jnp.asarray(u))[1])
    named = {f"params{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    known = {
        name: (np.asarray(leaf), np.asarray(D))
        for (name, leaf), D in zip(named.items(), gradients, strict=True)
        if D.dtype == z.dtype
    }
    wanted = [layer for layer in layers if only is None or layer.name in only]
    good, left_out = jax_parameters.covered(wanted, known, u.reshape(len(u), -1))
    return Found(np.asarray(z), good, left_out if only is None else {k: v for k, v in left_out.items() if k in only})


def _run(
    apply: Callable[..., Array], params: Any, inputs: Any, added: Sequence[Array] | None
) -> tuple[Array, list[Mark]]:
    recorder = Recorder(added)
    token = _RECORDER.set(recorder)
    try:
        return apply(params, inputs), recorder.marks
    finally:
        _RECORDER.reset(token)


def _require_outputs(z: Any) -> None:
    if not isinstance(z, jax.Array) or z.ndim not in (2, 3) or 0 in z.shape:
        what = f"shape {z.shape}" if isinstance(z, jax.Array) else f"type {type(z).__name__}"
        raise ValueError(
            f"the function's outputs have {what}, expected an array (N, C), or (N, T, C) for each position"
        )
    if str(z.dtype) not in FLOATING:
        raise ValueError(f"the outputs are {z.dtype}, expected float64 or float32")
    if not bool(jnp.isfinite(z).all()):
        raise ValueError("the outputs are not all finite")


def _require_consistent(marks: Sequence[Mark], cases: int) -> None:
    first: dict[str, Mark] = {}
    for m in marks:
        if m.shape[0] != cases:
            raise ValueError(
                f"layer {m.name!r} has rows of {m.shape[0]} cases, expected {cases} as outputs: cases first"
            )
        other = first.setdefault(m.name, m)
        same = (m.bias, m.kind, m.a.shape[-1], m.shape[-1])
        if same != (other.bias, other.kind, other.a.shape[-1], other.shape[-1]):
            raise ValueError(f"two layers are called {m.name!r}: marks of one name have one bias, kind and width")
    if not marks:
        raise ValueError("the function marks no layer: see kfac_ref.oracle.capture.jax_layers.mark")


def _require_single_cases(pull: Callable[[Array], Any], z: Array, marks: Sequence[Mark]) -> None:
    """ValueError if outputs of a case depend on rows of another."""
    numbers = np.arange(len(z))
    direction = jnp.asarray(np.random.default_rng(2015).standard_normal(z.shape[1:]), z.dtype)
    for bit in range((len(z) - 1).bit_length()):
        for value in (0, 1):
            within = ((numbers >> bit) & 1) == value
            weights = jnp.asarray(within, z.dtype).reshape(-1, *[1] * (z.ndim - 1))
            for m, D in zip(marks, pull(weights * direction)[0], strict=True):
                if jnp.abs(D[~within]).max() > jnp.finfo(z.dtype).eps * jnp.abs(D).max():
                    raise ValueError(
                        f"cases are coupled: the outputs of one depend on the rows of others in the layer {m.name!r}, "
                        "so that no case has a derivative of its own"
                    )


def _derivatives(pull: Callable[[Array], Any], z: Array, marks: Sequence[Mark]) -> list[np.ndarray]:
    """g (C, N, T, d) of each mark, by a backward pass for each output."""
    outputs = prod(z.shape[1:])
    found = [np.zeros((outputs, len(z), prod(m.shape[1:-1]), m.shape[-1]), z.dtype) for m in marks]
    for c in range(outputs):
        unit = jnp.zeros((len(z), outputs), z.dtype).at[:, c].set(1)
        for g, D in zip(found, pull(unit.reshape(z.shape))[0], strict=True):
            g[c] = np.asarray(D).reshape(g.shape[1:])
    return found
