"""Models in other formats: run by those whose formats they are, they give what they give here."""

from __future__ import annotations

import numpy as np
import pytest

from autodiff import Network
from kfac_ref.data.dataset import Preparation
from kfac_ref.data.scaling import Scaling
from kfac_ref.training import exports
from kfac_ref.training.models import Model

KINDS = [
    ("classifier", "categorical", ["relu", "tanh"]),
    ("regression", "gaussian", ["softplus", "logistic"]),
    ("regression", "bernoulli", ["identity", "relu"]),
    ("autoencoder", "gaussian", ["tanh", "identity"]),
]


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
