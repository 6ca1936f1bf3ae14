"""`check` on layers with shared weights: what was done is named, from captured cases, and nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kfac_ref.oracle import CapturedCase, CapturedLayer, Case, check
from tests.kfac_ref.oracle import shared_numbers
from tests.kfac_ref.oracle.shared_numbers import captured

SHARINGS, FISHERS = ("expand", "kfc", "reduce"), ("exact", "empirical")
SCALES = {
    "as defined": lambda N, C: (1.0, 1.0),
    "G summed": lambda N, C: (1.0, float(N)),
    "A summed": lambda N, C: (float(N), 1.0),
    "both summed": lambda N, C: (float(N), float(N)),
    "a root on each": lambda N, C: (np.sqrt(N), np.sqrt(N)),
    "a loss that is a mean": lambda N, C: (1.0, 1 / N),
    "G negative": lambda N, C: (1.0, -1.0),
}
BIASES = {"last": lambda A: A, "first": lambda A: np.roll(np.roll(A, 1, 0), 1, 1), "absent": lambda A: A[:-1, :-1]}


def claimed(case, i, name, v):
    """Theirs, if the verdict is right: from the claim alone."""
    A, G = shared_numbers.factors(case, i, v["sharing"] or "expand", v["fisher"] or "exact")
    if name[0] == "G":
        return v["scale"] * G
    return v["scale"] * (BIASES[v["bias"]](A) if v["bias"] else A)


@pytest.fixture(scope="module")
def found():
    """(case, what was done, theirs, verdicts) of many mutations, two conventions at once in most."""
    made = []
    for k, (sharing, fisher, scale) in enumerate(product(SHARINGS, FISHERS, SCALES)):
        for repeat in range(3):
            rng = np.random.default_rng([k, repeat])
            case = captured(rng)
            c_A, c_G = SCALES[scale](case.cases, case.z.shape[1])
            bias = list(BIASES)[(k + repeat) % 3]
            theirs = {}
            for i in range(1, 4):
                A, G = shared_numbers.factors(case, i, sharing, fisher)
                theirs[f"A_{i}"] = c_A * (BIASES[bias](A) if case.layers[i - 1].bias else A)
                theirs[f"G_{i}"] = c_G * G
            if repeat == 2:
                theirs = {name: x.astype(np.float32) for name, x in theirs.items()}
            made.append((case, (sharing, fisher, c_A, c_G, bias), theirs, check(theirs, case).as_dict()["quantities"]))
    return made


def test_nearly_all_are_named_right(found):
    right = total = 0
    for case, (sharing, fisher, c_A, c_G, bias), _, verdicts in found:
        for name, v in verdicts.items():
            layer = case.layers[int(name[2:]) - 1]
            shared = layer.a.shape[1] > 1
            named = v["scale"] is not None and abs(v["scale"] / (c_A if name[0] == "A" else c_G) - 1) < 1e-4
            named &= v["sharing"] == (sharing if shared else None)
            named &= v["fisher"] == fisher if name[0] == "G" else not layer.bias or v["bias"] == bias
            right, total = right + named, total + 1
    assert len(found) * 2 >= 250 and total >= 700
    assert right >= 0.98 * total, f"{right} of {total}"


def test_no_claim_is_wrong(found):
    """What is claimed, computed from the claim, is theirs: another reading of the same numbers at most."""
    for case, done, theirs, verdicts in found:
        for name, v in verdicts.items():
            if v["verdict"] == "no-match" or any("coordinate" in n or "entry" in n for n in v["notes"]):
                continue
            off = np.linalg.norm(claimed(case, int(name[2:]), name, v) - theirs[name]) / np.linalg.norm(theirs[name])
            assert off < 1e-4, (done, name, v)


def test_which_factor_carries_T():
    case = captured(np.random.default_rng(5))
    i = next(i for i in (1, 2, 3) if case.layers[i - 1].a.shape[1] > 1)
    for A, G, words in (("kfc", "expand", "A and G both carry T"), ("expand", "kfc", "neither A nor G carries T")):
        theirs = {f"A_{i}": shared_numbers.factors(case, i, A)[0], f"G_{i}": shared_numbers.factors(case, i, G)[1]}
        report = check(theirs, case)
        assert not report.matches and words in str(report)


@pytest.mark.parametrize("seed", range(4))
def test_scales_of_locations_have_names(seed):
    rng = np.random.default_rng(seed)
    case = captured(rng)
    T = {i: layer.a.shape[1] for i, layer in enumerate(case.layers, 1)}
    theirs = {f"A_{i}": shared_numbers.factors(case, i, "reduce")[0] * T[i] ** 2 for i in T}
    for name, v in check(theirs, case).as_dict()["quantities"].items():
        i = int(name[2:])
        if T[i] > 1:
            assert (v["sharing"], v["expression"]) == ("reduce", "T^2")


def test_another_homogeneous_coordinate():
    """Activities summed over locations, and a 1 put behind them once."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((9, 5, 3)) + 0.3
    case = CapturedCase(
        "gaussian",
        rng.standard_normal((9, 2)),
        rng.standard_normal((9, 2)),
        [CapturedLayer(a, rng.standard_normal((2, 9, 5, 4)))],
    )
    rows = np.concatenate([a.sum(1), np.ones((9, 1))], axis=1)
    v = check({"A_1": rows.T @ rows / 9}, case).as_dict()["quantities"]["A_1"]
    assert v["verdict"] == "match-under" and v["sharing"] == "reduce" and "coordinate" in v["convention"]


def conv_case(rng, **geometry):
    layers = [{"kind": "conv", "out": 3, "kernel": [3, 2], "padding": [1, 1], "activation": "tanh", **geometry}]
    from autodiff import Network

    network = Network.of([*layers, {"kind": "flatten"}, {"kind": "dense", "out": 2}], (2, 5, 4), "gaussian")
    W = [rng.standard_normal(shape) for shape in network.shapes]
    return Case(network, W, rng.standard_normal((8, 2, 5, 4)), rng.standard_normal((8, 2)))


def patches(case, pad=(1, 1), kernel=(3, 2)):
    """(N, T, c, 3, 2), pixel by pixel."""
    X = np.pad(case.X, ((0, 0), (0, 0), (pad[0], pad[0]), (pad[1], pad[1])))
    H, W = X.shape[2] - kernel[0] + 1, X.shape[3] - kernel[1] + 1
    return np.stack([X[:, :, v : v + kernel[0], h : h + kernel[1]] for v in range(H) for h in range(W)], axis=1)


def second_moment(patch, bias=True):
    a = patch.reshape(*patch.shape[:2], -1)
    if bias:
        a = np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2)
    return np.einsum("nti,ntj->ij", a, a) / a.shape[0] / a.shape[1]


def test_rows_of_convolutions_in_other_orders(rng):
    case = conv_case(rng)
    P = patches(case)
    a, layer = P.reshape(8, P.shape[1], -1), case.network.weighted[0]
    g = rng.standard_normal((2, 8, layer.locations, 3))
    unknown = CapturedCase("gaussian", case.Y, case.Y, [CapturedLayer(a, g)])
    for theirs, words in (
        (P, "KFAC-expand"),
        (P.transpose(0, 1, 3, 4, 2), "kernel row, kernel column, channel"),
        (P[..., ::-1, ::-1], "kernel flipped"),
        (P.transpose(0, 1, 4, 3, 2), "kernel column, kernel row, channel"),
    ):
        for which in (case, unknown):
            v = check({"A_1": second_moment(theirs)}, which).as_dict()["quantities"]["A_1"]
            assert words in v["convention"] and v["sharing"] == "expand" and v["scale"] == pytest.approx(1)
            v = check({"A_1": second_moment(theirs, bias=False)}, which).as_dict()["quantities"]["A_1"]
            assert v["bias"] == "absent" and v["sharing"] == "expand"


def test_patches_without_padding(rng):
    case = conv_case(rng)
    v = check({"A_1": second_moment(patches(case, (0, 0)))}, case).as_dict()["quantities"]["A_1"]
    assert "padding" in v["convention"] and v["verdict"] == "match-under"


def test_divided_by_the_pixels_of_the_input(rng):
    case = conv_case(rng, stride=[2, 2])
    A = check({"A_1": np.eye(13)}, case)  # nothing of this kind
    assert A.as_dict()["quantities"]["A_1"]["verdict"] != "match"
    P = patches(case).reshape(8, 5, 5, 2, 3, 2)[:, ::2, ::2].reshape(8, -1, 2, 3, 2)
    T = P.shape[1]
    assert case.network.weighted[0].locations == T
    v = check({"A_1": second_moment(P) * T / 20}, case).as_dict()["quantities"]["A_1"]
    assert (v["expression"], v["sharing"]) in {("1/T_in", "kfc"), ("T/T_in", "expand")}


def test_gradients_of_convolutions_as_frameworks_have_them(rng):
    from kfac_ref.oracle import truth

    case = conv_case(rng)
    W = truth(case)["gradient_1"]
    kernel = W[:, :-1].reshape(3, 2, 3, 2)
    v = check({"gradient_weight_1": kernel, "gradient_bias_1": W[:, -1]}, case)
    assert v.matches
    v = check({"gradient_weight_1": kernel.transpose(2, 3, 1, 0)}, case).as_dict()["quantities"]["gradient_weight_1"]
    assert v["layout"] == "as (rows, columns, channels, out)"


def test_blocks_of_normalisations(rng):
    x, g = rng.standard_normal((9, 4, 3)), rng.standard_normal((2, 9, 4, 3))
    layers = [CapturedLayer(x, g, kind="normalisation")]
    case = CapturedCase("gaussian", rng.standard_normal((9, 2)), rng.standard_normal((9, 2)), layers)
    D = np.stack([np.concatenate([(g[c] * x).sum(1), g[c].sum(1)], axis=1) for c in range(2)])
    F = np.einsum("cni,cnj->ij", D, D) / 9
    apart = F.copy()
    apart[:3, 3:] = apart[3:, :3] = 0
    G = np.einsum("cnti,cntj->ij", g, g) / 9
    rows = np.concatenate([x, np.ones_like(x)], axis=2)
    A = np.einsum("nti,ntj->ij", rows, rows) / 36
    for theirs, words in (
        (F, "Fisher block"),
        (9 * F, "x N"),
        (np.diag(np.diag(F)), "the diagonal of the Fisher block"),
        (apart, "scale and shift apart"),
        (F[:3, :3], "no bias"),
        (A * np.tile(G, (2, 2)), "the input a diagonal"),
    ):
        v = check({"block_1": theirs}, case).as_dict()["quantities"]["block_1"]
        assert words in v["convention"] and v["fisher"] == "exact", (words, v["convention"])
    assert check({"block_1": F}, case).matches
    with pytest.raises(ValueError, match="has no Kronecker factors"):
        check({"A_1": np.eye(3)}, case)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_preconditioned_gradients(sharing):
    rng = np.random.default_rng(8)
    case = captured(rng, gamma=0.3)
    theirs, product = {}, {}
    for i in range(1, 4):
        A, G = shared_numbers.factors(case, i, sharing)
        V = shared_numbers.gradient(case, i)
        pi = np.sqrt(np.trace(A) / len(A) * len(G) / np.trace(G))
        theirs[f"preconditioned_{i}"] = np.linalg.solve(G + 0.3 / pi * np.eye(len(G)), V) @ np.linalg.inv(
            A + 0.3 * pi * np.eye(len(A))
        )
        s, U = np.linalg.eigh(np.kron(A, G))
        product[f"preconditioned_{i}"] = (U @ ((U.T @ V.T.ravel()) / (s + 0.09))).reshape(V.T.shape).T
    for name, v in check(theirs, case).as_dict()["quantities"].items():
        shared = case.layers[int(name[-1]) - 1].a.shape[1] > 1
        assert "with pi (trace)" in v["damping"] and v["sharing"] == (sharing if shared else None), v
        assert v["scale"] == pytest.approx(1)
    for v in check(product, case).as_dict()["quantities"].values():
        assert "on the product" in v["damping"] and v["scale"] == pytest.approx(1)


def test_numbers_that_nothing_explains():
    rng = np.random.default_rng(2)
    for k in range(30):
        case = captured(rng)
        theirs = {}
        for i in range(1, 4):
            for name, M in zip("AG", shared_numbers.factors(case, i, SHARINGS[k % 3]), strict=True):
                noise = rng.standard_normal(M.shape)
                size = (1e-6, 1e-4, 2e-3)[k % 3] * np.linalg.norm(M) / np.linalg.norm(noise)
                theirs[f"{name}_{i}"] = M + size * (noise + noise.T) / 2
        for name, v in check(theirs, case).as_dict()["quantities"].items():
            assert v["verdict"] == "no-match" or len(theirs[name]) < 3, (name, v["convention"])


def test_more_rank_than_samples_give_is_no_estimate():
    """Wishart matrices offered as G: of more rank than one sample a case can have."""
    rng = np.random.default_rng(0)
    N, d = 20, 30
    layers = [CapturedLayer(rng.standard_normal((N, 4, 3)), rng.standard_normal((3, N, 4, d))) for _ in range(3)]
    case = CapturedCase("gaussian", rng.standard_normal((N, 3)), rng.standard_normal((N, 3)), layers)
    theirs = {}
    for i in (1, 2, 3):
        x = rng.standard_normal((100, d))
        theirs[f"G_{i}"] = x.T @ x / 100 * np.trace(shared_numbers.factors(case, i, "reduce")[1]) / d
    for v in check(theirs, case).as_dict()["quantities"].values():
        assert v["fisher"] != "monte-carlo" or v["samples"] * N >= d


@pytest.mark.parametrize("p", [13, 17, 29])
def test_sums_over_processes_that_should_be_means(p):
    case = captured(np.random.default_rng(21), N=23)
    theirs = {f"G_{i}": p * shared_numbers.factors(case, i, "expand")[1] for i in (1, 2, 3)}
    for name, v in check(theirs, case).as_dict()["quantities"].items():
        assert v["verdict"] == "match-under" and v["expression"] == str(p), name
        assert f"of {p} micro-batches or processes" in v["convention"]
