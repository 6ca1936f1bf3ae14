"""Captured cases: their truth by sums written out, their file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kfac_ref.oracle import CapturedCase, CapturedLayer, Case, check, load_case, truth
from tests.kfac_ref.oracle import shared_numbers
from tests.kfac_ref.oracle.shared_numbers import captured

LAYERS = Path(__file__).parents[2] / "layers"


def recorded(name: str) -> tuple[CapturedCase, dict[str, np.ndarray], list[int]]:
    """A captured case of the rows and derivatives in a file, the rest of it, and the layers that have them."""
    with np.load(LAYERS / f"{name}.npz") as archive:
        arrays = dict(archive)
    numbers = [i for i in range(1, 9) if f"a_{i}" in arrays]
    layers = [
        CapturedLayer(arrays[f"a_{i}"], arrays[f"g_{i}"], arrays[f"W_{i}"].shape[1] > arrays[f"a_{i}"].shape[2])
        for i in numbers
    ]
    likelihood = json.loads(str(arrays["settings"]))["likelihood"]
    return CapturedCase(likelihood, arrays["z"], arrays["Y"], layers, gamma=0.3), arrays, numbers


def test_it_is_printed_in_a_line():
    case, *_ = recorded("conv__categorical")
    layers = "1 captured layer" if len(case.layers) == 1 else f"{len(case.layers)} captured layers"
    assert str(case) == f"{layers} of {case.z.shape[1]} outputs; categorical, N = {len(case.z)}"


@pytest.mark.parametrize("name", ["conv__categorical", "sequence_mean__gaussian", "layer_norm__categorical"])
def test_recorded_layers(name):
    case, arrays, numbers = recorded(name)
    found = truth(case)
    ends = np.cumsum([0] + [arrays[f"W_{i}"].size for i in range(1, 9) if f"W_{i}" in arrays])
    compared = 0
    for k, i in enumerate(numbers, start=1):
        part = slice(ends[i - 1], ends[i])
        np.testing.assert_allclose(found[f"fisher_block_{k}"], arrays["fisher"][part, part], atol=1e-12)
        np.testing.assert_allclose(found[f"gradient_{k}"].T.ravel(), arrays["gradient"][part], atol=1e-13)
        for key, x in found.items():
            if key.endswith(f"_{k}") and key[:2] in ("A_", "G_", "Om", "Ga"):
                np.testing.assert_allclose(x, arrays[f"{key[: -len(str(k)) - 1]}_{i}"], rtol=1e-9, atol=1e-13)
                compared += 1
    assert compared == 9 * len(numbers)
    assert {"fisher", "fisher_empirical", "fisher_vector_i", "block_tridiagonal_i", "alpha"} <= set(found.left_out)


@pytest.mark.parametrize("seed", range(8))
def test_truth(seed):
    case = captured(np.random.default_rng(seed), gamma=0.2)
    found = truth(case)
    for i in range(1, 4):
        for sharing, A, G in (
            ("expand", "A_expand", "G_expand"),
            ("reduce", "A_reduce", "G_reduce"),
            ("kfc", "Omega", "Gamma"),
        ):
            for fisher, suffix in (("exact", ""), ("empirical", "_empirical")):
                A_i, G_i = shared_numbers.factors(case, i, sharing, fisher)
                np.testing.assert_allclose(found[f"{A}_{i}"], A_i, rtol=1e-10, atol=1e-12)
                np.testing.assert_allclose(found[f"{G}{suffix}_{i}"], G_i, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[f"fisher_block_{i}"], shared_numbers.block(case, i), rtol=1e-10, atol=1e-12)
        V = shared_numbers.gradient(case, i)
        np.testing.assert_allclose(found[f"gradient_{i}"], V, rtol=1e-10, atol=1e-13)
        A, G = shared_numbers.factors(case, i, "expand")
        pi = np.sqrt(np.trace(A) / len(A) * len(G) / np.trace(G))
        U = np.linalg.solve(G + 0.2 / pi * np.eye(len(G)), V) @ np.linalg.inv(A + 0.2 * pi * np.eye(len(A)))
        np.testing.assert_allclose(found[f"block_diagonal_{i}"], U, rtol=1e-8, atol=1e-11)


def test_normalisation(rng):
    """W = [scale, shift]: s_t = scale ⊙ x̂_t + shift."""
    x, g = rng.standard_normal((6, 5, 3)), rng.standard_normal((2, 6, 5, 3))
    case = CapturedCase(
        "gaussian",
        rng.standard_normal((6, 2)),
        rng.standard_normal((6, 2)),
        [CapturedLayer(x, g, kind="normalisation")],
    )
    D = np.stack([np.concatenate([(g[c] * x).sum(1), g[c].sum(1)], axis=1) for c in range(2)])
    np.testing.assert_allclose(truth(case)["fisher_block_1"], np.einsum("cni,cnj->ij", D, D) / 6, rtol=1e-12)
    Dz = case.z - case.Y
    np.testing.assert_allclose(truth(case)["gradient_1"].T.ravel(), np.einsum("nc,cni->i", Dz, D) / 6, rtol=1e-12)
    assert not any(key.startswith(("A_", "G_")) for key in truth(case))


def test_weights_of_cases_count_as_repeats(rng):
    case = captured(rng, N=6)
    w = np.array([1.0, 2, 0, 1, 3, 1])
    often = np.repeat(np.arange(6), w.astype(int))
    weighted = CapturedCase(case.likelihood, case.z, case.Y, case.layers, weights=w)
    layers = [CapturedLayer(x.a[often], x.g[:, often], x.bias) for x in case.layers]
    repeated = CapturedCase(case.likelihood, case.z[often], case.Y[often], layers)
    ours, theirs = truth(weighted), truth(repeated)
    for key in set(theirs) - {"z"}:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-10, atol=1e-13)


def test_outputs_for_each_position(rng):
    """(N, R, C): a distribution for each position, kept as (N, R·C); derivatives may be (R, C, N, T, d)."""
    z, Y = rng.standard_normal((5, 3, 4)), np.eye(4)[rng.integers(0, 4, (5, 3))]
    a, g = rng.standard_normal((5, 3, 2)), rng.standard_normal((3, 4, 5, 3, 6))
    case = CapturedCase("categorical", z, Y, [CapturedLayer(a, g)])
    assert case.positions == 3 and case.z.shape == (5, 12) and case.layers[0].g.shape == (12, 5, 3, 6)
    total = 0.0
    for n in range(5):
        for r in range(3):
            p = np.exp(z[n, r]) / np.exp(z[n, r]).sum()
            J = g[r, :, n].reshape(4, -1, 6)
            for t in range(3):
                total = total + J[:, t].T @ (np.diag(p) - np.outer(p, p)) @ J[:, t] / 5
    np.testing.assert_allclose(truth(case)["G_expand_1"], total, rtol=1e-10)


def test_the_file(rng, tmp_path):
    case = captured(rng, gamma=0.1, lam=0.2, weights=None)
    named = CapturedLayer(case.layers[0].a, case.layers[0].g, case.layers[0].bias, name="encoder.fc", input_locations=9)
    case = CapturedCase(case.likelihood, case.z, case.Y, [named, *case.layers[1:]], case.gamma, case.lam)
    case.save(tmp_path / "c.npz")
    read = load_case(tmp_path / "c.npz")
    assert isinstance(read, CapturedCase) and (read.gamma, read.lam) == (0.1, 0.2)
    assert [x.bias for x in read.layers] == [x.bias for x in case.layers]
    assert (read.layers[0].name, read.layers[0].input_locations) == ("encoder.fc", 9)
    for key, x in truth(case).items():
        np.testing.assert_array_equal(truth(read)[key], x)
    with pytest.raises(ValueError, match="is a captured case"):
        Case.load(tmp_path / "c.npz")
    with pytest.raises(ValueError, match="is the case of a network"):
        CapturedCase.load(LAYERS / "conv__categorical.npz")


def test_what_is_refused(rng):
    case = captured(rng)
    N, C = case.z.shape
    a, g = case.layers[0].a, case.layers[0].g
    T, d = a.shape[1], g.shape[3]

    def made(a=a, g=g, z=case.z, Y=case.Y, likelihood=case.likelihood, **layer):
        return CapturedCase(likelihood, z, Y, [CapturedLayer(a, g, **layer)])

    for message, arguments in (
        (f"layer 1: a_1 has shape {a[:, 0].shape}, expected ({N}, T, inputs)", {"a": a[:, 0]}),
        (
            f"layer 1 (fc): g_1 has shape {g[:, 1:].shape}, expected ({C}, {N}, {T}, units)",
            {"g": g[:, 1:], "name": "fc"},
        ),
        ("Y has shape", {"Y": case.Y[1:]}),
        ("layer 1: g_1' is nan at [0, 0, 0, 0]", {"g": np.where(np.arange(g.size).reshape(g.shape) == 0, np.nan, g)}),
        ("likelihood", {"likelihood": "poisson"}),
        ("kind of layer 1", {"kind": "norm"}),
        ("bias is 1", {"bias": 1}),
        ("as many features as g_1", {"kind": "normalisation", "a": a[:, :, : d - 1] if a.shape[2] >= d else a}),
        ("W_1 has shape (2, 2)", {"W": np.eye(2)}),
    ):
        with pytest.raises(ValueError) as caught:
            made(**arguments)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="layers is empty"):
        CapturedCase(case.likelihood, case.z, case.Y, [])
    with pytest.raises(ValueError, match=r"eta is 0\.1, but not every layer's W"):
        CapturedCase(case.likelihood, case.z, case.Y, case.layers, eta=0.1)
    with pytest.raises(ValueError, match="it takes the whole network"):
        check({"fisher": np.eye(5)}, case)
    with pytest.raises(ValueError, match="expected A_1 … A_3 for 3 layers"):
        check({"A_0": np.eye(5)}, case)
