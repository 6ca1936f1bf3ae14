"""Models in other formats: run by those whose formats they are, they give what they give here."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import LIKELIHOODS, Network
from autodiff.layers import KINDS as KINDS_OF_LAYERS
from kfac_ref.data.dataset import Preparation
from kfac_ref.data.scaling import Scaling
from kfac_ref.training import exports
from kfac_ref.training.models import Model
from kfac_ref.training.onnx_graph import LAYERS
from validation.theorems.stacks import random_stack

KINDS = [
    ("classifier", "categorical", ["relu", "tanh"]),
    ("regression", "gaussian", ["softplus", "logistic"]),
    ("regression", "bernoulli", ["identity", "relu"]),
    ("autoencoder", "gaussian", ["tanh", "identity"]),
]


OTHERS = (
    (4, 9, 8),
    [
        {"kind": "conv", "out": 4, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 0], "dilation": [1, 2]},
        {"kind": "batch-norm", "mean": [0.1, -0.2, 0.3, 0.0], "variance": [1.0, 0.5, 2.0, 0.1], "activation": "relu"},
        {"kind": "depthwise-conv", "kernel": [2, 3], "stride": [1, 2], "padding": [1, 1], "activation": "tanh"},
        {"kind": "max-pool", "size": 2, "stride": 1},
        {"kind": "global-mean"},
        {"kind": "batch-norm", "mean": [0.1, -0.2, 0.3, 0.0], "variance": [1.0, 0.5, 2.0, 0.1]},
        {"kind": "dense", "out": 3},
    ],
)
"""What the random stacks do not have."""


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def model(request, rng):
    """A model in float32 with inputs, and numbers that are predicted, that are standardised."""
    purpose, likelihood, activations = request.param
    network = Network([5, 7, 6, 5 if purpose == "autoencoder" else 3], activations, likelihood)
    W = [(0.5 * rng.standard_normal(shape)).astype(np.float32) for shape in network.shapes]

    def scaling(d):
        return Scaling(rng.standard_normal(d).astype(np.float32), rng.uniform(0.5, 2, d).astype(np.float32))

    outcomes = scaling(3) if (purpose, likelihood) == ("regression", "gaussian") else None
    return Model(network, W, purpose, Preparation(None, scaling(5), outcomes))


@pytest.fixture
def X(rng):
    return rng.standard_normal((20, 5)).astype(np.float32)


def test_onnx(model, X, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    exports.onnx(model, tmp_path / "m.onnx")
    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (Y,) = session.run(["Y"], {"X": X})
    np.testing.assert_allclose(Y, model.mean(model.inputs(X)), atol=1e-5)
    texts = session.get_modelmeta().custom_metadata_map
    assert texts["purpose"] == model.purpose and texts["inputs"].split("\n") == model.input_names


@pytest.mark.parametrize("seed", range(30))
def test_onnx_of_other_layers(seed, tmp_path):
    """Random stacks of all kinds, with and without biases, outputs for each position among them."""
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(seed)
    shape, layers = random_stack(rng) if seed else OTHERS
    likelihood = ("categorical", "bernoulli", "gaussian")[seed % 3]
    network = Network.of(layers, shape, likelihood)
    W = [(0.5 * rng.standard_normal(s)).astype(np.float32) for s in network.shapes]
    d = network.inputs
    inputs = Scaling(rng.standard_normal(d).astype(np.float32), rng.uniform(0.5, 2, d).astype(np.float32))
    model = Model(network, W, "regression", Preparation(None, inputs, None))
    exports.onnx(model, tmp_path / "m.onnx")
    X = rng.standard_normal((7, d)).astype(np.float32)
    (Y,) = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"]).run(["Y"], {"X": X})
    np.testing.assert_allclose(Y, model.mean(model.inputs(X)), atol=1e-5)
    with pytest.raises(ValueError, match="export it to onnx"):
        exports.torch_state_dict(model, tmp_path / "m.pt")


def test_every_kind_of_layer_and_likelihood_can_be_written():
    assert set(LAYERS) == set(KINDS_OF_LAYERS)
    assert set(exports.MEANS) == set(LIKELIHOODS)


def test_torch_state_dict(model, X, tmp_path):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    exports.torch_state_dict(model, tmp_path / "m.pt")
    made = {"relu": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus, "logistic": nn.Sigmoid, "identity": nn.Identity}
    sizes, modules = model.network.sizes, []
    for i, phi in enumerate(model.network.activations):
        modules += [nn.Linear(sizes[i], sizes[i + 1]), made[phi.name]()]
    network = nn.Sequential(*modules)
    network.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    with torch.no_grad():
        z = network(torch.from_numpy(X)).numpy()
    Y = model.network.likelihood.mean(z) if model.network.likelihood.name != "gaussian" else z
    np.testing.assert_allclose(Y, model.mean(model.inputs(X)), atol=1e-5)


def test_folded_parameters_do_what_the_model_does(model, X):
    """Without anything standardised; in float64, to rounding."""
    double = model.to(np.zeros(0))
    plain = Model(model.network, exports.folded(double), model.purpose)
    X = X.astype(np.float64)
    np.testing.assert_allclose(plain.mean(plain.inputs(X)), double.mean(double.inputs(X)), rtol=1e-10, atol=1e-12)


def test_without_the_packages(model, tmp_path, monkeypatch):
    for name, write in (("onnx", exports.onnx), ("torch", exports.torch_state_dict)):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(ValueError, match=r"needs (the package onnx|PyTorch)"):
            write(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())
