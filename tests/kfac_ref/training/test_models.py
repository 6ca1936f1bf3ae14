"""Models: files that hold all that is needed to use a network, and what a network says of data."""

from __future__ import annotations

import json

import numpy as np
import polars
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from sklearn import metrics

import kfac_ref
from autodiff import Affine, Network, glorot_initialisation
from autodiff.activations import ACTIVATIONS
from autodiff.arrays import to_numpy
from kfac_ref.data.dataset import Preparation
from kfac_ref.data.scaling import Scaling
from kfac_ref.data.table import recipe
from kfac_ref.training.models import Model, read
from tests.conftest import assert_close, assert_home, to

TABLE = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array(["u", "v", "u"]), "y": np.array(["no", "yes", "no"])}


@pytest.fixture
def classifier(rng):
    """Of a table: one number, two categories, two classes."""
    network = Network([3, 4, 2], "tanh", "categorical")
    made = recipe(TABLE, np.arange(3), "t", target="y")
    inputs = Scaling(np.array([2.0, 0.5, 0.5]), np.array([0.5, 1.0, 1.0]))
    W = [rng.standard_normal(shape) for shape in network.shapes]
    return Model(network, W, "classifier", Preparation(made, inputs, None, made.classes), {"data": "t"})


@pytest.fixture
def regressor(rng):
    network = Network([3, 4, 1], "relu", "gaussian")
    outcomes = Scaling(np.array([100.0]), np.array([20.0]))
    return Model(network, glorot_initialisation(network, 0), "regression", Preparation(None, None, outcomes))


def by_hand(model, X):
    """E[y|x] by the definition, one matrix product after another."""
    W1, W2 = (to_numpy(W) for W in model.parameters)
    if model.preparation.inputs is not None:
        X = (X - model.preparation.inputs.mean) / model.preparation.inputs.scale
    hidden = X @ W1[:, :-1].T + W1[:, -1]
    hidden = np.tanh(hidden) if model.purpose == "classifier" else np.maximum(hidden, 0)
    z = hidden @ W2[:, :-1].T + W2[:, -1]
    return softmax(z, axis=1) if model.purpose == "classifier" else z * 20 + 100


def test_predictions_of_a_classifier(classifier):
    X = np.array([[1.0, 1, 0], [2.0, 0, 1], [3.0, 1, 0]])
    p = by_hand(classifier, X)
    for data in (TABLE, polars.DataFrame(TABLE), X, X.tolist()):
        np.testing.assert_allclose(classifier.predict_proba(data), p, rtol=1e-12)
        np.testing.assert_array_equal(classifier.predict(data), np.array(["no", "yes"])[p.argmax(1)])
    assert classifier.input_names == ["a", "b=u", "b=v"] and classifier.output_names == ["no", "yes"]


def test_predictions_of_a_regressor(regressor, rng):
    X = rng.standard_normal((2500, 3))  # more than are worked through at once
    np.testing.assert_allclose(regressor.predict(X), by_hand(regressor, X)[:, 0], rtol=1e-12)
    with pytest.raises(ValueError, match="a regression has no classes"):
        regressor.predict_proba(X)


def test_an_evaluation_is_scikit_learn_s(classifier, regressor, rng):
    X = np.c_[rng.standard_normal(200), np.eye(2)[rng.integers(2, size=200)]]
    truth = rng.choice(["no", "yes"], 200)
    found, p = classifier.evaluate(X, truth), classifier.predict_proba(X)
    said = classifier.predict(X)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, said))
    assert found.log_loss == pytest.approx(metrics.log_loss(truth, p))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(truth, said))
    np.testing.assert_allclose(found.recall, metrics.recall_score(truth, said, average=None))
    np.testing.assert_allclose(
        found.precision, metrics.precision_score(truth, said, average=None, zero_division=np.nan)
    )
    assert f"accuracy   {found.accuracy:.4f}" in str(found)
    y = 100 + 20 * rng.standard_normal(200)
    found, predicted = regressor.evaluate(X, y), regressor.predict(X)
    assert found.r2 == pytest.approx(metrics.r2_score(y, predicted))
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(y, predicted))
    assert found.mae == pytest.approx(metrics.mean_absolute_error(y, predicted))


def test_targets_may_be_in_the_table(classifier):
    expected = classifier.evaluate(TABLE, TABLE["y"])
    found = classifier.evaluate(TABLE)
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    assert found.log_loss == expected.log_loss


def test_a_file_brings_all_back(tmp_path, classifier, regressor):
    for model in (classifier, regressor):
        model.save(tmp_path / "m.safetensors")
        found = kfac_ref.load(tmp_path / "m.safetensors")
        assert found.network == model.network and found.purpose == model.purpose and found.about == model.about
        assert found.preparation.recipe == model.preparation.recipe
        for W, V in zip(found.parameters, model.parameters, strict=True):
            np.testing.assert_array_equal(W, V)
        X = np.ones((2, 3))
        np.testing.assert_array_equal(found.mean(found.inputs(X)), model.mean(model.inputs(X)))


def test_others_read_the_parameters(tmp_path, classifier):
    classifier.save(tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    assert sorted(tensors) == ["W.1", "W.2", "inputs.mean", "inputs.scale"]
    np.testing.assert_array_equal(tensors["W.2"], classifier.parameters[1])


def test_on_every_library(like, classifier):
    found = classifier.to(like)
    X = np.array([[1.0, 1, 0], [2.0, 0, 1]])
    p = found.predict_proba(X)
    assert_home(p, like)
    assert_close(p, by_hand(classifier, X), like)
    assert_close(found.predict_proba(to(like, X)), by_hand(classifier, X), like)
    assert list(found.predict(TABLE)) == list(classifier.predict(TABLE))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "is not a whole safetensors file"),
        (lambda path: path.unlink(), "is not there"),
        (lambda path: save_file({"W": np.ones(2)}, path), "not one of kfac-ref"),
        (lambda path: save_file({}, path, {"kfac_ref": "{}"}), "its metadata are damaged: KeyError: 'format'"),
        (lambda path: save_file({}, path, {"kfac_ref": json.dumps({"format": 9})}), "it has format 9, expected 1"),
    ],
)
def test_files_that_are_damaged(tmp_path, regressor, damage, said):
    path = tmp_path / "m.safetensors"
    regressor.save(path)
    damage(path)
    with pytest.raises(ValueError, match=said):
        read(path)


def test_parameters_of_the_wrong_shape(tmp_path, regressor):
    path = tmp_path / "m.safetensors"
    regressor.parameters[1] = regressor.parameters[1][:, :-1]
    regressor.save(path)
    with pytest.raises(ValueError, match=r"layer 2 has shape \(1, 4\), expected \(1, 5\)"):
        read(path)


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (np.ones((2, 4)), ValueError, r"X has shape \(2, 4\), expected \(cases, 3\): a, b=u, b=v"),
        ([[1.0, np.nan, 0.0]], ValueError, "X has an entry that is not finite"),
        ({"a": [1.0]}, ValueError, 'the table has no column "b"'),
    ],
)
def test_data_that_do_not_fit(classifier, data, error, said):
    with pytest.raises(error, match=said):
        classifier.predict(data)


def test_targets_that_do_not_fit(classifier, regressor):
    with pytest.raises(ValueError, match='"maybe" is none of the classes: no, yes'):
        classifier.evaluate(TABLE, ["no", "yes", "maybe"])
    with pytest.raises(ValueError, match='there are no targets "y" to evaluate with'):
        classifier.evaluate({k: v for k, v in TABLE.items() if k != "y"})
    with pytest.raises(TypeError, match=r"the model was trained on arrays; expected X \(N, 3\)"):
        regressor.predict(TABLE)


def test_an_activation_without_a_name_cannot_be_written(tmp_path, rng):
    own = Affine(ACTIVATIONS["tanh"], np.eye(2), np.zeros(2), np.eye(2))
    network = Network([2, 2, 1], [own], "gaussian")
    with pytest.raises(ValueError, match=r"unknown activation .affine\(tanh\)."):
        Model(network, glorot_initialisation(network, 0), "regression").save(tmp_path / "m.safetensors")
