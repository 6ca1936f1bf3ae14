"""A layer's steps against the naive implementation, on any library."""

from __future__ import annotations

import json

import numpy as np

from autodiff.arrays import to_numpy
from autodiff.layers import Layer, built
from autodiff.layers.pooling import packed
from tests.conftest import assert_close, to
from tests.naive_layers import Naive, directional, jacobian

CASES = 3


def layer_of(description: dict, shape: tuple[int, ...]) -> Layer:
    """The layer of a description, which goes through JSON first."""
    (layer,) = built(json.loads(json.dumps([description])), shape)
    return layer


def weights(rng, layer: Layer) -> np.ndarray | None:
    return None if layer.shape is None else rng.standard_normal(layer.shape) / np.sqrt(layer.shape[1])


def check(description: dict, shape: tuple[int, ...], like, rng) -> None:
    """All that a kind of layer does, for some random cases: values, the three passes, rows and sums over locations."""
    layer = layer_of(description, shape)
    assert layer_of(layer.description(), shape) == layer
    assert layer.description()["kind"] == description["kind"]
    W, x = weights(rng, layer), rng.standard_normal((CASES, *shape))
    y = np.stack([_naive(description, W, case) for case in x])
    assert layer.output == y.shape[1:]
    there, inside = (None if W is None else to(like, W)), _inside(to(like, x), shape)
    value, tape = layer.forward(there, inside)
    assert_close(value, _inside(y, layer.output), like)

    J_x = np.stack([jacobian(lambda c: _naive(description, W, c), [case], 0) for case in x])
    _check_push(layer, description, like, rng, W, x, J_x, tape)
    Dy = rng.standard_normal((2, *y.shape))
    Dx = np.stack([np.stack([_transposed(J, d) for J, d in zip(J_x, D, strict=True)]) for D in Dy])
    cotangents = _inside(to(like, Dy), layer.output)
    g = layer.backward(there, tape, cotangents)
    assert_close(layer.pull(there, tape, g), _inside(Dx, shape), like)
    one = layer.backward(there, tape, cotangents[0, ...])
    assert_close(layer.pull(there, tape, one), _inside(Dx[0], shape), like)
    if W is None:
        assert layer.shape is None and not layer.kronecker and layer.locations == 1
        return

    J_W = np.stack([jacobian(lambda w, c=case: _naive(description, w, c), [W], 0) for case in x])
    DW = np.stack([np.stack([_transposed(J, d) for J, d in zip(J_W, D, strict=True)]) for D in Dy])  # (r, m, d, p)
    assert_close(layer.case_gradients(tape, g), DW, like)
    assert_close(layer.case_gradients(tape, one), DW[0], like)
    assert_close(layer.gradient(tape, g), DW.sum(axis=1), like)
    assert_close(layer.gradient(tape, one), DW[0].sum(axis=0), like)
    head = layer.backward(there, tape.head(2, CASES), cotangents[0, :2, ...])
    assert_close(layer.gradient(tape.head(2, CASES), head), DW[0, :2].sum(axis=0), like)
    _check_locations(layer, description, like, W, x, Dy, g, tape)


def _check_push(layer, description, like, rng, W, x, J_x, tape) -> None:
    r = 2
    dx = rng.standard_normal((r, *x.shape))
    along_x = np.einsum("mzx,rmx->rmz", J_x.reshape(CASES, -1, x[0].size), dx.reshape(r, CASES, -1))
    along_x = along_x.reshape(r, CASES, *layer.output)
    tangent = _inside(to(like, dx), layer.input)
    if W is None:
        assert_close(layer.push(None, tape, tangent, [None] * r), _inside(along_x, layer.output), like)
        return
    V = [rng.standard_normal(W.shape) for _ in range(r)]
    along_W = np.stack(
        [np.stack([directional(lambda w, c=case: _naive(description, w, c), [W], [v]) for case in x]) for v in V]
    )
    there, directions = to(like, W), to(like, V)
    assert_close(layer.push(there, tape, tangent, directions), _inside(along_x + along_W, layer.output), like)
    assert_close(layer.push(there, tape, None, directions), _inside(along_W, layer.output), like)
    one = layer.push(there, tape, tangent[1:, ...], directions[1:])
    assert_close(one, _inside((along_x + along_W)[1:], layer.output), like)


def _check_locations(layer, description, like, W, x, Dy, g, tape) -> None:
    """Rows and derivatives location by location: 𝒟W = Σ_t g_t ā_tᵀ."""
    runs = []
    for case in x:
        runs.append(run := Naive([W]))
        run.through([description], case)
    rows, s = np.stack([run.rows[0] for run in runs]), np.stack([run.s[0] for run in runs])
    assert layer.locations == rows.shape[1]
    J_s = np.stack(
        [jacobian(lambda e, c=case: _naive(description, W, c, [e]), [np.zeros(s.shape[1:])], 0) for case in x]
    )
    expected = np.stack([np.stack([_transposed(J, d) for J, d in zip(J_s, D, strict=True)]) for D in Dy])  # r, m, T, d
    flat = to_numpy(g).reshape(expected.shape)
    assert_close(to(like, flat), expected, like)
    if not layer.kronecker:
        return
    assert g.shape == (2, CASES * layer.locations, layer.shape[0])
    flat_rows = rows.reshape(-1, layer.shape[1])
    assert_close(layer.rows(tape), flat_rows, like)
    assert_close(layer.moment(tape), np.einsum("mta,mtb->ab", rows, rows), like)
    sums = np.einsum("rmtd,mtp->rmdp", expected, rows)
    assert_close(layer.case_gradients(tape, g), sums, like)
    assert_close(layer.gradient(tape, g), sums.sum(axis=1), like)


def _naive(description, W, case, shift=None) -> np.ndarray:
    return Naive([] if W is None else [W], shift).through([description], case)


def _inside(x, shape):
    """The layout that layers work in."""
    return packed(x, shape)


def _transposed(J: np.ndarray, Dy: np.ndarray) -> np.ndarray:
    return np.tensordot(Dy, J, axes=Dy.ndim)
