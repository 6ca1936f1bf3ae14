"""Cases and their files: what is read, and what is said of one that is wrong."""

from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from autodiff import Affine, Network
from kfac_ref.oracle import Case
from tests.conftest import assert_home, random_affine, random_parameters, random_targets, to

NETWORK = Network([4, 3, 2], "tanh", "categorical")
SETTINGS = {"layers": [4, 3, 2], "activations": ["tanh", "identity"], "likelihood": "categorical"}
RNG = np.random.default_rng(7)
W = random_parameters(RNG, NETWORK)
V = random_parameters(RNG, NETWORK)
X = RNG.standard_normal((6, 4))
Y = random_targets(RNG, "categorical", 6, 2)
ARRAYS = {"settings": np.asarray(json.dumps(SETTINGS)), "X": X, "Y": Y, "W_1": W[0], "W_2": W[1]}


@pytest.fixture
def save(tmp_path):
    def write(settings=None, without=(), **arrays):
        """A good case's file but for what is given."""
        kept = {key: x for key, x in ARRAYS.items() if key not in without} | arrays
        if settings is not None:
            kept["settings"] = np.asarray(json.dumps(settings))
        np.savez(tmp_path / "case.npz", **kept)
        return tmp_path / "case.npz"

    return write


# --- good ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
def test_saved_and_loaded(tmp_path, whole):
    more = {"gamma": 0.1, "lam": 0.02, "eta": 1e-5, "V": V, "sampled": Y, "inverse": "block-tridiagonal"}
    case = Case(NETWORK, W, X, Y, **(more if whole else {}))
    case.save(tmp_path / "case.npz")
    loaded = Case.load(tmp_path / "case.npz")
    assert str(loaded.network) == str(NETWORK)
    for name in ("gamma", "lam", "eta", "inverse"):
        assert getattr(loaded, name) == getattr(case, name)
    for name in ("X", "Y", "sampled"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(case, name))
    for name in ("parameters", "V"):
        for x, y in zip(getattr(loaded, name) or (), getattr(case, name) or (), strict=True):
            np.testing.assert_array_equal(x, y)
    assert (loaded.V is None) == (loaded.sampled is None) == (not whole)
    first = (tmp_path / "case.npz").read_bytes()
    loaded.save(tmp_path / "case.npz")
    assert (tmp_path / "case.npz").read_bytes() == first


def test_whatever_real_dtype_becomes_float64(save):
    path = save(X=X.astype(np.float32), Y=Y.astype(np.int8), W_1=np.asfortranarray(W[0]))
    case = Case.load(path)
    assert {x.dtype for x in (case.X, case.Y, *case.parameters)} == {np.dtype(np.float64)}
    np.testing.assert_array_equal(case.X, X.astype(np.float32))
    np.testing.assert_array_equal(case.parameters[0], W[0])


@pytest.mark.parametrize("activations", ["tanh", ["tanh"], ["tanh", "identity"]])
def test_activations_as_one_name_or_several(save, activations):
    assert str(Case.load(save(SETTINGS | {"activations": activations})).network) == str(NETWORK)


def test_notes_are_left_alone(save):
    notes = {"name": "mine", "library": "x", "seed": 3, "n_layers": 2, "gamma_max": 1.0, "gamma": None}
    case = Case.load(save(SETTINGS | notes, A_0_0=np.full(3, np.nan), note=np.array("text")))
    assert case.gamma is None


def test_settings_as_bytes(tmp_path):
    np.savez(tmp_path / "case.npz", **ARRAYS | {"settings": np.array(json.dumps(SETTINGS).encode())})
    assert Case.load(tmp_path / "case.npz").cases == 6


def test_nothing_for_what_is_optional(save):
    case = Case.load(save(SETTINGS | {"gamma": None, "lambda": None, "eta": None, "inverse": None}))
    assert case.gamma is case.lam is None and case.eta == 0 and case.inverse == "block-diagonal"


def test_numbers_may_be_of_numpy():
    case = Case(NETWORK, W, X, Y, gamma=np.float32(0.5), lam=np.int64(2))
    assert (type(case.gamma), case.gamma, type(case.lam), case.lam) == (float, 0.5, float, 2.0)


@pytest.mark.parametrize(
    ("gamma", "lam", "gamma_used", "damping_used"),
    [
        (None, None, None, None),
        (0.5, None, 0.5, 0.25),
        (None, 0.15, 0.5, 0.25),
        (0.1, 0.65, 0.1, 0.75),
        (0.0, None, 0, 0),
    ],
)
def test_gamma_and_lambda_stand_for_each_other(gamma, lam, gamma_used, damping_used):
    case = Case(NETWORK, W, X, Y, gamma, lam, eta=0.1)
    assert case.gamma_used == pytest.approx(gamma_used) and case.damping_used == pytest.approx(damping_used)


def test_any_library(like64):
    case = Case(NETWORK, to(like64, W), to(like64, X), to(like64, Y))
    assert_home(case.X, like64)
    assert case.cases == 6 and case.forward_pass is case.forward_pass


# --- broken files ----------------------------------------------------------------------------------------------------


def changed(array, index, value):
    array = array.astype(np.result_type(array, type(value)))
    array[index] = value
    return array


def settings_with(**changes):
    return {"settings": {key: x for key, x in (SETTINGS | changes).items() if x != "absent"}}


BROKEN = {
    "no settings": ({"without": ["settings"]}, "key 'settings' is missing, found 'X', 'Y', 'W_1', 'W_2'"),
    "no X": ({"without": ["X"]}, "key 'X' is missing, found 'settings', 'Y'"),
    "no Y": ({"without": ["Y"]}, "key 'Y' is missing"),
    "no W_2": ({"without": ["W_2"]}, "key 'W_2' is missing, found 'settings', 'X', 'Y', 'W_1'; the network is 4-3-2"),
    "W_3": ({"W_3": W[1]}, r"key 'W_3', but the network 4-3-2 \(tanh; categorical\) has 2 layers"),
    "W_0": ({"W_0": W[1]}, "key 'W_0', but"),
    "V_1 alone": ({"V_1": V[0]}, "key 'V_2' is missing"),
    "V_3": ({"V_1": V[0], "V_2": V[1], "V_3": V[1]}, "key 'V_3', but the network"),
    "W transposed": (
        {"W_1": W[0].T},
        r"W_1 has shape \(5, 3\), expected \(3, 5\): \(d_1, d_0 \+ 1\), the bias column last",
    ),
    "W without bias": ({"W_2": W[1][:, :-1]}, r"W_2 has shape \(2, 3\), expected \(2, 4\)"),
    "W flat": ({"W_1": W[0].ravel()}, r"W_1 has shape \(15,\), expected \(3, 5\)"),
    "W 0-D": ({"W_1": np.array(1.0)}, r"W_1 has shape \(\), expected \(3, 5\)"),
    "V shape": ({"V_1": V[1], "V_2": V[1]}, r"V_1 has shape \(2, 4\), expected \(3, 5\)"),
    "X width": (
        {"X": X[:, :3]},
        r"X has shape \(6, 3\), expected \(6, 4\): one row per case, the network has 4 inputs",
    ),
    "X 1-D": ({"X": X[0]}, r"X has shape \(4,\), expected \(4, 4\)"),
    "X 0-D": ({"X": np.array(1.0)}, r"X has shape \(\), expected"),
    "no case": ({"X": X[:0], "Y": Y[:0]}, r"X has shape \(0, 4\), expected at least one case"),
    "Y rows": ({"Y": Y[:5]}, r"Y has shape \(5, 2\), expected \(6, 2\): a row for each of X"),
    "Y width": ({"Y": Y[:, :1]}, r"Y has shape \(6, 1\), expected \(6, 2\)"),
    "Y labels": ({"Y": np.zeros(6, int)}, r"Y has shape \(6,\), expected \(6, 2\)"),
    "sampled rows": ({"sampled": Y[:2]}, r"sampled has shape \(2, 2\), expected \(6, 2\)"),
    "NaN in X": ({"X": changed(X, (1, 2), np.nan)}, "key 'X' is nan at row 1, column 2, expected finite numbers"),
    "Inf in Y": ({"Y": changed(Y, (3, 0), np.inf)}, "key 'Y' is inf at row 3, column 0"),
    "NaN in W": ({"W_2": changed(W[1], (0, 3), np.nan)}, "key 'W_2' is nan at row 0, column 3"),
    "NaN in V": ({"V_1": V[0], "V_2": changed(V[1], (0, 0), np.nan)}, "key 'V_2' is nan at row 0, column 0"),
    "NaN in sampled": ({"sampled": changed(Y, (5, 1), np.nan)}, "key 'sampled' is nan"),
    "complex": ({"W_1": W[0] + 1j}, "key 'W_1' has dtype complex128, expected real numbers"),
    "text": ({"X": X.astype(str)}, "key 'X' has dtype <U.*, expected real numbers"),
    "pickle": ({"X": X.astype(object)}, "key 'X' holds pickled objects; pickles are not read"),
    "pickle of no use": ({"other": np.array([{}], object)}, "key 'other' holds pickled objects"),
    "Y out of range": ({"Y": changed(Y, (2, 0), 3.0)}, r"Y\[2, 0\] = 3, but the categorical likelihood takes targets"),
    "Y sums": ({"Y": 0.4 * np.ones((6, 2))}, "row 0 of Y sums to 0.8, but the categorical likelihood takes one-hot"),
    "sampled out of range": ({"sampled": -Y}, r"sampled\[\d, \d\] = -1, but the categorical likelihood"),
    "settings a list": (
        {"settings": [1, 2]},
        r"key 'settings' is \[1, 2\], expected an object with layers, activations",
    ),
    "no layers": (settings_with(layers="absent"), "settings: 'layers' is missing, found 'activations', 'likelihood'"),
    "layers a number": (settings_with(layers=3), "settings: 'layers' is 3, expected a list of whole numbers d_0, …"),
    "layers null": (settings_with(layers=None), "settings: 'layers' is None, expected a list of whole numbers"),
    "layers text": (settings_with(layers="432"), "settings: 'layers' is '432', expected a list of whole numbers"),
    "layers fractional": (
        settings_with(layers=[4, 2.5, 2]),
        r"settings: 'layers' is \[4, 2.5, 2\], expected a list of",
    ),
    "layers true": (settings_with(layers=[4, True, 2]), r"settings: 'layers' is \[4, True, 2\], expected a list of"),
    "layers negative": (settings_with(layers=[4, -3, 2]), "key 'settings': sizes must be at least two positive"),
    "layers deep": (
        settings_with(layers=[[[[[[[[3]]]]]]]]),
        r"settings: 'layers' is \[\[\[\[\[\[\[\.\.\.\]+, expected a list of",
    ),
    "layers of nothing": (settings_with(layers=[]), "key 'settings': sizes must be at least two positive"),
    "a layer more": (settings_with(layers=[4, 3, 2, 2]), "key 'W_3' is missing, .*; the network is 4-3-2-2"),
    "activations": (settings_with(activations=["tanh"] * 3), "a network of 2 layers needs 2 activations; got 3"),
    "another width": (settings_with(layers=[4, 5, 2]), r"W_1 has shape \(3, 5\), expected \(5, 5\)"),
    "activation": (
        settings_with(activations="tahn"),
        'key \'settings\': unknown activation "tahn"; did you mean "tanh"',
    ),
    "activations an object": (
        settings_with(activations={"a": 1}),
        "settings: 'activations' is {'a': 1}, expected a name or a list of names",
    ),
    "activations null": (
        settings_with(activations=[None, "identity"]),
        r"settings: 'activations' is \[None, 'identity'\]",
    ),
    "last activation": (settings_with(activations=["tanh", "tanh"]), "the activation of the last layer must be"),
    "likelihood": (settings_with(likelihood="gausian"), 'unknown likelihood "gausian"; did you mean "gaussian"'),
    "likelihood null": (settings_with(likelihood=None), "settings: 'likelihood' is None, expected a name"),
    "slip": (settings_with(gama=0.1), 'settings: unknown name "gama"; did you mean "gamma"'),
    "lam": (settings_with(lam=0.1), 'settings: unknown name "lam"; did you mean "lambda"'),
    "activation for activations": (settings_with(activation="tanh", activations="absent"), 'mean "activations"'),
    "sample for sampled": ({"sample": Y}, 'key: unknown name "sample"; did you mean "sampled"'),
    "v": ({"v_1": V[0]}, 'key: unknown name "v_1"; did you mean "V_1"'),
    "gamma negative": (settings_with(gamma=-1), "gamma is -1, expected a finite number ≥ 0"),
    "gamma NaN": (settings_with(gamma=float("nan")), "gamma is nan, expected a finite"),
    "gamma of 401 digits": (settings_with(gamma=10**400), r"gamma is 10+\.\.\.0+, expected a finite number ≥ 0"),
    "gamma a list": (settings_with(gamma=[0.1]), r"gamma is \[0.1\], expected a finite"),
    "lambda text": (settings_with(**{"lambda": "big"}), "lambda is 'big', expected a finite"),
    "eta true": (settings_with(eta=True), "eta is True, expected a finite"),
    "eta infinite": (settings_with(eta=float("inf")), "eta is inf, expected a finite"),
    "inverse a number": (settings_with(inverse=0), "settings: 'inverse' is 0, expected a name"),
    "inverse": (
        settings_with(inverse="tridiagonal"),
        'unknown inverse "tridiagonal"; did you mean "block-tridiagonal"',
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(save, name):
    changes, message = BROKEN[name]
    path = save(**changes)
    with pytest.raises(ValueError, match=message) as caught:
        Case.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (np.asarray("{'layers': 3}"), "key 'settings' is no JSON: "),
        (np.asarray("[" * 100_000), "key 'settings' is JSON nested too deeply, expected an object of lists"),
        (np.asarray('{"gamma": ' + "9" * 5000 + "}"), "key 'settings' is no JSON: "),
        (np.asarray(b"\xff\xfe{"), "key 'settings' is no JSON: "),
        (np.arange(3), r"key 'settings' has dtype int64 and shape \(3,\), expected one string of JSON"),
        (np.asarray(["{}", "{}"]), r"key 'settings' has dtype <U2 and shape \(2,\)"),
    ],
)
def test_settings_that_cannot_be_read(save, settings, message):
    path = save(without=["settings"])
    with np.load(path) as archive:
        np.savez(path, settings=settings, **{key: archive[key] for key in archive.files})
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": " + message) as caught:
        Case.load(path)
    assert "\n" not in str(caught.value)


def test_no_archive(tmp_path, save):
    whole = save().read_bytes()
    path = tmp_path / "bad.npz"
    for content, message in (
        (b"", "is not a whole .npz archive"),
        (b"X,Y\n1,2\n", "is not a whole .npz archive"),
        (whole[: len(whole) // 2], "is not a whole .npz archive"),
        (pickle.dumps(SETTINGS), "is a pickle"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"bad.npz: {message}"):
            Case.load(path)
    with pytest.raises(ValueError, match=r"none\.npz: cannot be read: No such file"):
        Case.load(tmp_path / "none.npz")


# --- cases made in Python --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"parameters": W[:1]}, ValueError, "W has 1 arrays, but the network .* has 2 layers"),
        ({"V": [*V, V[0]]}, ValueError, "V has 3 arrays"),
        ({"X": X.astype(np.float32)}, TypeError, "X has dtype float32 on device cpu, expected float64"),
        ({"X": X.tolist()}, TypeError, "X is a list, expected an array of float32 or float64"),
        ({"parameters": [w.astype(int) for w in W]}, TypeError, "W_1 has dtype int64, expected float32 or float64"),
        ({"X": changed(X, (0, 1), np.nan)}, ValueError, "key 'X' is nan at row 0, column 1"),
        ({"gamma": "0.1"}, ValueError, "gamma is '0.1', expected a finite number"),
        ({"eta": None}, ValueError, "eta is None, expected a finite number"),
    ],
)
def test_what_a_case_refuses(given, error, message):
    with pytest.raises(error, match=message):
        Case(**{"network": NETWORK, "parameters": W, "X": X, "Y": Y} | given)


def test_an_activation_that_has_no_name_cannot_be_saved(tmp_path, rng):
    affine = random_affine(rng, "tanh", 3)
    assert isinstance(affine, Affine)
    case = Case(Network([4, 3, 2], [affine], "categorical"), W, X, Y)
    with pytest.raises(ValueError, match=r"unknown activation \"affine\(tanh\)\""):
        case.save(tmp_path / "case.npz")
    assert not (tmp_path / "case.npz").exists()
