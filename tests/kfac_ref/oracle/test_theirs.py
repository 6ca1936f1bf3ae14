"""Somebody else's numbers: what is read, from where, and what is refused."""

from __future__ import annotations

import re

import array_api_strict
import numpy as np
import pytest

from autodiff import Network
from autodiff.arrays import to_numpy
from kfac_ref.oracle import Case
from kfac_ref.oracle.theirs import LAYERED, read_theirs
from tests.conftest import OTHER_DEVICE, random_parameters, random_targets

NETWORK = Network([4, 3, 2], "tanh", "categorical")
RNG = np.random.default_rng(3)
CASE = Case(
    NETWORK, random_parameters(RNG, NETWORK), RNG.standard_normal((6, 4)), random_targets(RNG, "categorical", 6, 2)
)


def numbers(*shape):
    return RNG.standard_normal(shape)


WHOLE = {
    "A_0": numbers(5, 5),
    "A_1": numbers(4, 4),
    "G_1": numbers(3, 3),
    "G_2": numbers(2, 2),
    "G_bias_1": numbers(3, 3),
    "gradient_1": numbers(3, 5),
    "gradient_weight_2": numbers(2, 3),
    "gradient_bias_2": numbers(2),
    "preconditioned_2": numbers(2, 4),
    "preconditioned_weight_1": numbers(3, 4),
    "preconditioned_bias_1": numbers(3),
    "block_1": numbers(15, 15),
    "fisher": numbers(23, 23),
}


@pytest.mark.parametrize("kind", ["file", "path as text", "mapping"])
def test_whatever_the_format_has(tmp_path, kind):
    np.savez(tmp_path / "theirs.npz", **WHOLE)
    source = {"file": tmp_path / "theirs.npz", "path as text": str(tmp_path / "theirs.npz"), "mapping": WHOLE}[kind]
    found = read_theirs(source, CASE)
    assert found.keys() == WHOLE.keys()
    for name, x in found.items():
        assert x.dtype == np.float64
        np.testing.assert_array_equal(x, WHOLE[name])
    assert {re.sub(r"_\d+$", "", name) for name in WHOLE} == {*LAYERED, "fisher"}


GOOD = {
    "A_0": [(5, 5), (4, 4), (3, 3)],  # with the bias, without, and in place of G
    "A_1": [(5, 5), (4, 4), (3, 3), (2, 2)],  # counted from 0 or from 1
    "A_2": [(4, 4), (3, 3), (2, 2)],
    "G_1": [(3, 3), (5, 5), (4, 4)],
    "G_bias_2": [(2, 2)],
    "gradient_1": [(3, 5), (5, 3), (3, 4), (4, 3), (15,), (12,)],
    "gradient_weight_1": [(3, 4), (4, 3), (12,)],
    "preconditioned_bias_2": [(2,), (2, 1), (1, 2)],
    "block_2": [(8, 8), (6, 6)],
    "fisher": [(23, 23), (18, 18)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in GOOD.items() for shape in shapes])
def test_shapes_of_other_layouts(name, shape):
    x = numbers(*shape)
    np.testing.assert_array_equal(read_theirs({name: x}, CASE)[name], x)


BAD = {
    "A_0": [(6, 6), (5, 4), (25,), (2, 2), ()],
    "A_2": [(5, 5)],
    "G_1": [(2, 2), (3, 2), (1, 3, 3)],
    "G_bias_2": [(3, 3), (2,)],
    "gradient_1": [(3, 6), (4, 4), (14,), (5, 5), (3, 5, 1)],
    "gradient_weight_1": [(3, 5), (15,)],
    "preconditioned_bias_2": [(3,), (2, 2), ()],
    "block_2": [(8, 6), (15, 15), (64,)],
    "fisher": [(22, 22), (23,)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, shapes in BAD.items() for shape in shapes])
def test_shapes_that_fit_nothing(name, shape):
    with pytest.raises(ValueError, match=re.escape(f"theirs: key '{name}' has shape {shape}, expected (")) as caught:
        read_theirs({name: numbers(*shape)}, CASE)
    assert "\n" not in str(caught.value)


def test_what_is_said_of_a_shape():
    for name, said in {
        "A_0": "expected (5, 5), or (4, 4) without the bias",
        "A_1": "expected (4, 4), or (3, 3) without the bias; or (5, 5), or (4, 4) without the bias",
        "gradient_1": "expected (3, 5), or (3, 4) without the bias, as it is, transposed or flattened",
        "gradient_weight_1": "expected (3, 4), as it is, transposed or flattened",
        "block_2": "expected (8, 8), or (6, 6) without the bias",
        "fisher": "expected (23, 23), or (18, 18) without biases",
    }.items():
        with pytest.raises(ValueError, match=re.escape(said) + "$"):
            read_theirs({name: numbers(7, 9)}, CASE)


def test_A_1_is_read_by_what_else_is_there():
    """With A_0, A_1 is of the second layer's inputs; with A_2, of the first's."""
    read_theirs({"A_0": numbers(5, 5), "A_1": numbers(4, 4)}, CASE)
    read_theirs({"A_1": numbers(5, 5), "A_2": numbers(4, 4)}, CASE)
    with pytest.raises(ValueError, match=r"key 'A_1' has shape \(5, 5\), expected \(4, 4\), or \(3, 3\)"):
        read_theirs({"A_0": numbers(5, 5), "A_1": numbers(5, 5)}, CASE)
    with pytest.raises(ValueError, match="keys 'A_0' and 'A_2', expected A_0 … A_1 or A_1 … A_2"):
        read_theirs({"A_0": numbers(5, 5), "A_2": numbers(4, 4)}, CASE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("G_0", "key 'G_0', expected G_1 … G_2 for 2 layers"),
        ("G_3", "key 'G_3', expected G_1 … G_2"),
        ("A_3", "key 'A_3', expected A_0 … A_2"),
        ("G_01", "key 'G_01', expected G_1"),
        ("gradient_bias_3", "key 'gradient_bias_3', expected gradient_bias_1"),
        ("g_1", 'unknown name "g_1"; did you mean "G_1"?'),
        ("gradients_1", 'unknown name "gradients_1"; did you mean "gradient_1"?'),
        ("gradient", 'unknown name "gradient"; did you mean "gradient_'),
        ("Fisher", 'unknown name "Fisher"; did you mean "fisher"?'),
        ("A_0_0", 'unknown name "A_0_0"; did you mean "A_0"?'),
        ("zzz", 'unknown name "zzz" (known: A_i, G_i, G_bias_i, gradient_i,'),
    ],
)
def test_names(tmp_path, name, message):
    np.savez(tmp_path / "theirs.npz", **{name: np.eye(3)})
    for source, where in ((tmp_path / "theirs.npz", tmp_path / "theirs.npz"), ({name: np.eye(3)}, "theirs")):
        with pytest.raises(ValueError, match=re.escape(f"{where}: {message}")) as caught:
            read_theirs(source, CASE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.eye(3) * np.nan, "key 'G_1' is nan at row 0, column 0, expected finite numbers"),
        (np.diag([1, 1, -np.inf]), "key 'G_1' is -inf at row 2, column 2"),
        (np.eye(3) * 1j, "key 'G_1' has dtype complex128, expected real numbers"),
        (np.eye(3).astype(str), "key 'G_1' has dtype <U32, expected real numbers"),
        (np.eye(3).astype(object), "key 'G_1' holds pickled objects"),
        (np.zeros((0, 0)), r"key 'G_1' has shape \(0, 0\), expected \(3, 3\)"),
    ],
)
def test_values(tmp_path, array, message):
    np.savez(tmp_path / "theirs.npz", G_1=array)
    with pytest.raises(ValueError, match=f"theirs.npz: {message}"):
        read_theirs(tmp_path / "theirs.npz", CASE)


def test_nothing_to_judge(tmp_path):
    np.savez(tmp_path / "theirs.npz", note=np.asarray("from the library of my own"))
    for source in (tmp_path / "theirs.npz", {}):
        with pytest.raises(ValueError, match="holds no array, expected some of A_i, G_i"):
            read_theirs(source, CASE)
    with pytest.raises(ValueError, match=r"none\.npz: cannot be read"):
        read_theirs(tmp_path / "none.npz", CASE)
    (tmp_path / "theirs.npz").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"theirs\.npz: is not a whole \.npz archive"):
        read_theirs(tmp_path / "theirs.npz", CASE)


def test_a_note_is_left_out(tmp_path):
    np.savez(tmp_path / "theirs.npz", library=np.asarray("mine 1.0"), G_1=np.eye(3))
    assert list(read_theirs(tmp_path / "theirs.npz", CASE)) == ["G_1"]


# --- arrays of other libraries ---------------------------------------------------------------------------------------


class Tensor:
    """What PyTorch's tensors do: those of a graph, or of another device, do not become NumPy arrays by themselves."""

    def __init__(self, x, graph=True, place="cuda", dtype="torch.float32"):
        self.x, self.graph, self.place, self.dtype = x, graph, place, dtype

    def detach(self):
        return Tensor(self.x, False, self.place, self.dtype)

    def cpu(self):
        return Tensor(self.x, self.graph, "cpu", self.dtype)

    def float(self):
        return Tensor(self.x.astype(np.float32), self.graph, self.place)

    def __array__(self, dtype=None, copy=None):
        if self.graph or self.place != "cpu" or "bfloat16" in self.dtype:
            raise RuntimeError("can't be\nconverted")
        return self.x


class OnlyDLPack:
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **given):
        return self.x.__dlpack__(**given)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


G = RNG.standard_normal((3, 3))


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (G, "float64"),
        (G.astype(np.float32), "float32"),
        (G.astype(np.float16), "float32"),
        (G.astype(np.longdouble), "float64"),
        (np.arange(9).reshape(3, 3), "float64"),
        (G > 0, "float64"),
        (G.T, "float64"),
        (G.tolist(), "float64"),
        (Tensor(G), "float64"),
        (Tensor(G, dtype="torch.bfloat16"), "float32"),
        (OnlyDLPack(G), "float64"),
        (array_api_strict.asarray(G, device=OTHER_DEVICE), "float64"),
        (array_api_strict.asarray(G, dtype=array_api_strict.float32), "float32"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_arrays_of_other_libraries(given, dtype):
    found = read_theirs({"G_1": given}, CASE)["G_1"]
    assert type(found) is np.ndarray and found.dtype == dtype
    plain = to_numpy(given) if hasattr(given, "to_device") else np.asarray(getattr(given, "x", given))
    np.testing.assert_array_equal(found, plain.astype(dtype))


def test_bfloat16_of_jax():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    found = read_theirs({"G_1": np.eye(3).astype(ml_dtypes.bfloat16)}, CASE)["G_1"]
    assert found.dtype == np.float32 and np.array_equal(found, np.eye(3))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int64"])
def test_pytorch(dtype):
    torch = pytest.importorskip("torch")
    x = torch.eye(3, dtype=getattr(torch, dtype), requires_grad=dtype != "int64")
    found = read_theirs({"G_1": x * 2}, CASE)["G_1"]
    assert found.dtype == {"float64": "float64", "int64": "float64"}.get(dtype, "float32")
    np.testing.assert_array_equal(found, 2 * np.eye(3))


def test_jax():
    jnp = pytest.importorskip("jax.numpy")
    found = read_theirs({"G_1": jnp.eye(3)}, CASE)["G_1"]
    assert found.dtype == np.float32 and np.array_equal(found, np.eye(3))


def test_what_cannot_be_read():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("on the\nmoon")

    with pytest.raises(ValueError, match="theirs: key 'G_1' is a Broken that cannot be read: on the moon"):
        read_theirs({"G_1": Broken()}, CASE)
