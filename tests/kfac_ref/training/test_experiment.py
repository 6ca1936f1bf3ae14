"""kfac_ref.training.experiment: what suits the data is filled in, and what does not fit is refused."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from autodiff import ACTIVATIONS, LIKELIHOODS
from autodiff.arrays import to_numpy
from autodiff.initialisation import INITIALISATIONS, glorot_initialisation, he_initialisation, sparse_initialisation
from kfac_ref import KFAC, PRESETS, preset
from kfac_ref.baselines import SGD, SGDSettings
from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.training.experiment import AUTOENCODERS, Experiment, prepare

CASES = 40


def save(path, rng, d=6, **arrays):
    """An .npz with X, (40, d), in [0, 1] unless it is given."""
    np.savez(path, **{"X": rng.random((CASES, d)), **arrays})
    return str(path)


def described(data, **options):
    constants = options.pop("constants", {})
    return prepare(Experiment(data=data, constants=constants, **options))


@pytest.fixture
def path(tmp_path, rng):
    """Inputs between 0 and 1, no targets."""
    return save(tmp_path / "mine.npz", rng)


# --- what is filled in ---------------------------------------------------------------------------------------------


def test_nothing_but_the_packaged_data():
    p = described(datasets.DEFAULT)
    assert p.purpose == "autoencoder" and p.dataset.name == "fashion16"
    assert p.network.sizes == (256, 128, 64, 16, 64, 128, 256)
    assert [a.name for a in p.network.activations] == ["tanh", "tanh", "identity", "tanh", "tanh", "identity"]
    assert p.network.likelihood.name == "bernoulli"
    # the data's own η, and the γ ≥ sqrt(η) with it
    s = preset("quick", eta=7e-3)
    assert p.optimizer.settings == s and s.gamma_min == math.sqrt(7e-3) and s.inverse == "block-diagonal"
    assert p.data.X.shape == (4000, 256) and p.data.Y is p.data.X and p.data.Y_test is p.data.X_test
    assert p.data.X.dtype == np.float32
    e = p.experiment
    assert (e.network, e.activation, e.likelihood) == (p.network.sizes, "tanh", "bernoulli")
    assert set(e.constants) == {f.name for f in fields(s)}


def test_classes_of_the_packaged_data():
    p = described("fashion16", likelihood="categorical")
    assert p.purpose == "classifier" and p.network.sizes == (256, 128, 64, 10)
    assert [a.name for a in p.network.activations] == ["tanh", "tanh", "identity"]
    np.testing.assert_array_equal(p.data.Y.sum(1), 1)
    # the autoencoder's η is not for them
    assert p.optimizer.settings == preset("quick")
    # about 1 is advised for classifiers (§6.5)
    p = described("fashion16", likelihood="categorical", preset="authors")
    assert p.optimizer.settings == preset("authors", lambda0=1.0)


def targets_of(rng, kind):
    return {
        "labels": rng.permutation(np.arange(CASES) % 4),
        "one-hot": np.eye(4)[np.arange(CASES) % 4],
        "probabilities": rng.dirichlet(np.ones(4), CASES),
        "numbers": rng.standard_normal(CASES),
        "vectors": rng.standard_normal((CASES, 3)),
        "one share": rng.random((CASES, 1)),
        "negative shares": np.c_[2.0 * np.ones(CASES), -np.ones(CASES)],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "purpose", "likelihood", "outputs"),
    [
        ("labels", "classifier", "categorical", 4),
        ("one-hot", "classifier", "categorical", 4),
        ("probabilities", "classifier", "categorical", 4),
        ("numbers", "regression", "gaussian", 1),
        ("vectors", "regression", "gaussian", 3),
        ("one share", "regression", "gaussian", 1),
        ("negative shares", "regression", "gaussian", 2),
    ],
)
def test_what_is_predicted_follows_from_the_targets(tmp_path, rng, kind, purpose, likelihood, outputs):
    Y = targets_of(rng, kind)
    p = described(save(tmp_path / "a.npz", rng, Y=Y, X_test=rng.random((5, 6)), Y_test=Y[:5]))
    assert (p.purpose, p.network.likelihood.name, p.network.sizes) == (purpose, likelihood, (6, 128, 64, outputs))
    assert p.optimizer.settings.lambda0 == 0.3
    expected = np.eye(4)[Y] if kind == "labels" else np.reshape(Y, (CASES, -1))
    np.testing.assert_allclose(p.data.Y, expected, rtol=1e-6)
    np.testing.assert_allclose(p.data.Y_test, expected[:5], rtol=1e-6)


def test_targets_with_a_likelihood_of_ones_own(tmp_path, rng):
    path = save(tmp_path / "a.npz", rng, Y=targets_of(rng, "one-hot"))
    for likelihood in ("gaussian", "bernoulli"):
        p = described(path, likelihood=likelihood)
        assert (p.purpose, p.network.likelihood.name) == ("regression", likelihood)


@pytest.mark.parametrize(("d", "usual"), [(6, (6, 128, 64, 6, 64, 128, 6)), (40, (40, 128, 64, 16, 64, 128, 40))])
def test_usual_autoencoders(tmp_path, rng, d, usual):
    p = described(save(tmp_path / "a.npz", rng, d))
    assert (p.purpose, p.network.sizes, p.network.likelihood.name) == ("autoencoder", usual, "bernoulli")
    p = described(save(tmp_path / "b.npz", rng, X=rng.standard_normal((9, d))))
    assert (p.network.sizes, p.network.likelihood.name) == (usual, "gaussian")
    assert p.data.X_test is None


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_the_papers_autoencoders(tmp_path, rng, name):
    d = AUTOENCODERS[name][0]
    p = described(save(tmp_path / f"{name}.npz", rng, d))
    assert p.network.sizes == AUTOENCODERS[name]
    # of other data that happen to have such a name, only where they fit
    p = described(save(tmp_path / f"{name}.npz", rng, 10))
    assert p.network.sizes == (10, 128, 64, 10, 64, 128, 10)


@pytest.mark.parametrize(("name", "eta"), [("mnist", 1e-5), ("curves", 1e-5), ("faces", 5e-6)])
def test_the_authors_eta(monkeypatch, rng, name, eta):
    X = rng.random((5, AUTOENCODERS[name][0]))
    likelihood = "gaussian" if name == "faces" else "bernoulli"
    data = Dataset(name, X, None, None, None, None, likelihood, False, "made up")
    monkeypatch.setattr(datasets, "load", lambda name, reading: data)
    settings = described(name).optimizer.settings
    assert settings.eta == eta and settings.gamma_min == math.sqrt(eta)


@pytest.mark.parametrize(
    ("sizes", "linear"),
    [((6, 4, 2, 4, 6), 2), ((6, 2, 6), 1), ((6, 3, 3, 6), 1), ((6, 9, 2, 5, 6), 2), ((6, 6), None)],
)
def test_the_code_layer_is_linear(path, sizes, linear):
    p = described(path, network=sizes, activation="relu")
    names = [a.name for a in p.network.activations]
    assert names == ["identity" if i in (linear, len(sizes) - 1) else "relu" for i in range(1, len(sizes))]


def test_hidden_layers_of_a_classifier_are_not(tmp_path, rng):
    p = described(save(tmp_path / "a.npz", rng, Y=targets_of(rng, "labels")), network=(6, 2, 5, 4))
    assert [a.name for a in p.network.activations] == ["tanh", "tanh", "identity"]


# --- what is chosen ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(path, name):
    assert described(path, network=(6, 5, 2, 6), activation=name).network.activations[0].name == name


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_constants(path, name):
    p = described(path, preset=name, constants={"eta": 0.01, "T1": 3, "inverse": "block-diagonal"})
    assert isinstance(p.optimizer, KFAC)
    assert p.optimizer.settings == preset(name, eta=0.01, T1=3, inverse="block-diagonal")
    assert p.optimizer.settings.gamma_min == (0 if name == "paper" else math.sqrt(0.01))
    assert described(path, preset=name, constants={"gamma_min": 0.5}).optimizer.settings.gamma_min == 0.5


def test_sgd(path):
    p = described(path, optimizer="sgd", constants={"learning_rate": 0.5})
    assert isinstance(p.optimizer, SGD) and p.optimizer.settings == SGDSettings(learning_rate=0.5)
    p = described("fashion16", optimizer="sgd", network=(256, 2, 256))
    assert p.optimizer.settings.eta == 7e-3  # the same objective as K-FAC's
    assert described("fashion16", optimizer="sgd", constants={"eta": 1e-4}).optimizer.settings.eta == 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", INITIALISATIONS)
def test_first_state(path, dtype, name):
    p = described(path, dtype=dtype, initialisation=name, seed=4, network=(6, 5, 2, 6))
    make = {"sparse": sparse_initialisation, "glorot": glorot_initialisation, "he": he_initialisation}[name]
    state = p.first_state()
    assert (state.k, state.seed) == (0, 4)
    for W, expected in zip(state.parameters, make(p.network, 4), strict=True):
        assert W.dtype == dtype and p.data.X.dtype == dtype
        np.testing.assert_array_equal(to_numpy(W), expected.astype(dtype))
    other = described(path, seed=5, network=(6, 5, 2, 6)).first_state()
    assert not np.array_equal(state.parameters[0], other.parameters[0])


# --- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "paper", "seed": 2**63 - 1},
        {"optimizer": "sgd", "constants": {"full_batch_at": None}},
        {"constants": {"gamma_max": math.inf, "full_batch_at": None, "momentum": False, "eta": 0.1 + 0.2}},
        {"dtype": "float64", "initialisation": "glorot", "activation": "relu", "network": [6, 2, 6]},
    ],
)
def test_a_prepared_experiment_goes_through_json(path, options):
    p = described(path, **options)
    text = json.dumps(p.experiment.asdict(), allow_nan=False)
    again = Experiment.fromdict(json.loads(text))
    assert again == replace(p.experiment, network=tuple(p.experiment.network))
    q = prepare(again)
    assert q.optimizer.settings == p.optimizer.settings and q.network == p.network
    assert q.experiment == again


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "kfca"}, 'unknown optimizer "kfca"; did you mean "kfac"'),
        ({"preset": "autors"}, 'unknown preset "autors"; did you mean "authors"'),
        ({"activation": "tanhh"}, 'unknown activation "tanhh"; did you mean "tanh"'),
        ({"likelihood": "bernouli"}, 'unknown likelihood "bernouli"; did you mean "bernoulli"'),
        ({"initialisation": "spars"}, 'unknown initialisation "spars"; did you mean "sparse"'),
        ({"dtype": "float16"}, 'unknown dtype "float16"; did you mean "float'),
        ({"backend": "cuppy"}, 'unknown backend "cuppy"; did you mean "cupy"'),
        ({"constants": {"inverse": "tridiagonal"}}, 'unknown inverse "tridiagonal"; did you mean "block-tridiagonal"'),
        ({"constants": {"pi_norm": "frob"}}, 'unknown norm for π (pi_norm) "frob"'),
        ({"constants": {"lamda0": 1.0}}, 'did you mean "lambda0"'),
        ({"constants": {"learning_rate": 1.0}}, 'learning_rate is not a constant of the optimizer "kfac"'),
        ({"constants": {"T1": 3}, "optimizer": "sgd"}, 'T1 is not a constant of the optimizer "sgd"'),
        ({"constants": {"T1": 0}}, "T1 must be ≥ 1; got 0"),
        ({"constants": {"T1": "3"}}, "T1 must be a whole number; got '3'"),
        ({"seed": -1}, "seed must be a whole number from 0 to 2^63 − 1; got -1"),
        ({"seed": 2**63}, "seed must be"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": "1"}, "seed must be a whole number"),
        ({"network": (5, 2, 6)}, 'begins with 5, but X of "mine" has 6 columns'),
        ({"network": (6, 2, 5)}, 'ends with 5, but X of "mine" has 6 columns'),
        ({"network": (6,)}, "at least two positive"),
        ({"network": (6, 0, 6)}, "at least two positive"),
        ({"network": (6, -1, 6)}, "at least two positive"),
        ({"network": (6, 2.5, 6)}, "sizes"),
        ({"network": (6, "two", 6)}, "sizes"),
        ({"network": (6, None, 6)}, "sizes"),
        ({"likelihood": "categorical"}, "categorical likelihood needs class labels"),
        ({"data": "fasion"}, '"fasion"; did you mean "fashion"?'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_refused(path, options, said):
    with pytest.raises((ValueError, TypeError)) as caught:
        described(**{"data": path} | options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "likelihood", "said"),
    [
        ({"X": [[0.5, 2.0]]}, "bernoulli", "X[0, 1] = 2, but the bernoulli likelihood takes targets between 0 and 1"),
        ({"X": [[0.5, 0.0]], "X_test": [[0, 1], [-1, 0]]}, "bernoulli", "X_test[1, 0] = -1, but the bernoulli"),
        ({"X": [[1.0]] * 2, "Y": [[0.5, 0.5], [0.5, 0.6]]}, "categorical", "row 1 of Y sums to 1.1, but the"),
        ({"X": [[1.0]] * 2, "Y": [[1, 0.0], [2, -1]]}, "categorical", "Y[1, 0] = 2, but the categorical likelihood"),
        (
            {"X": [[1.0]], "Y": [3.0]},
            "categorical",
            "Y has one column, but the categorical likelihood takes one-hot rows",
        ),
        ({"X": [[1.0]], "Y": [[1.0, 0]], "X_test": [[1.0]], "Y_test": [[0, 0.0]]}, "categorical", "row 0 of Y_test"),
    ],
)
def test_targets_outside_the_likelihoods_range(tmp_path, arrays, likelihood, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError) as caught:
        described(str(tmp_path / "a.npz"), likelihood=likelihood)
    assert said in str(caught.value)


def test_every_likelihood_is_known_to_this_file():
    assert sorted(LIKELIHOODS) == ["bernoulli", "categorical", "gaussian"]


@pytest.mark.parametrize("missing", ["data", "network", "constants", "seed", "dtype"])
def test_a_description_lacks_something(path, missing):
    values = described(path, network=(6, 2, 6)).experiment.asdict()
    del values[missing]
    with pytest.raises((KeyError, TypeError, ValueError), match=missing):
        Experiment.fromdict(values)


def test_float64_inputs_keep_their_digits_and_their_range(tmp_path):
    """What a file holds in float64 is not rounded on the way to a float64 run, and not made infinite on that to a
    float32 run."""
    X = 1e6 + np.random.default_rng(0).random((5, 3))
    np.savez(tmp_path / "digits.npz", X=X)
    np.testing.assert_array_equal(described(data=str(tmp_path / "digits.npz"), dtype="float64").data.X, X)
    np.savez(tmp_path / "range.npz", X=X * 1e39)
    with pytest.raises(ValueError, match=r'X of "range" holds 1e\+45, too large for float32; use --dtype float64'):
        described(data=str(tmp_path / "range.npz"))


def test_the_code_is_the_narrowest_hidden_layer(tmp_path):
    """Also where the data are narrower."""
    np.savez(tmp_path / "narrow.npz", X=np.random.default_rng(0).random((5, 2)))
    p = described(data=str(tmp_path / "narrow.npz"), network=(2, 6, 5, 6, 2))
    assert [a.name for a in p.network.activations] == ["tanh", "identity", "tanh", "identity"]
