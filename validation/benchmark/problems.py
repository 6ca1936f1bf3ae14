"""What is measured: the networks of §13 on their data, autoencoders of any size on random data, and settings."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autodiff import arrays
from autodiff.initialisation import INITIALISATIONS
from autodiff.network import Network, Parameters
from kfac_ref.data.fetching import FetchError
from kfac_ref.settings import Settings, preset
from kfac_ref.training import loop
from kfac_ref.training.experiment import AUTOENCODERS, Experiment, Prepared, prepare
from validation import reference_run

CONV = "conv"
NETWORKS = ("mnist", "curves", "faces", CONV)
MINIBATCHES = (250, 1000, 4000, 8000)
CONV_MINIBATCHES = (250,)
SETTINGS = {"paper": Settings(), "authors": preset("authors"), "whole": Settings(tau1=1.0, tau2=1.0)}
"""The presets, and τ₁ = τ₂ = 1 with T₃ = 20: the work that kfac-jax does. The mini-batch stays as it is."""


@dataclass(frozen=True)
class Problem:
    """A network with initial parameters, and cases."""

    name: str
    network: Network
    parameters: Parameters
    data: loop.Data
    made_up: bool
    """Whether the cases are random numbers."""


def load(name: str, backend: str) -> Problem:
    """A network of §13 with its data, or the convolutional classifier of Fashion-MNIST that is trained by name; with
    random data if they are not here and cannot be fetched."""
    if name == CONV:
        return _convolutional(backend)
    described = reference_run.experiment(name, backend=backend)
    try:
        return _problem(name, prepare(described), made_up=False)
    except FetchError:
        sizes = AUTOENCODERS[name]
        likelihood = "gaussian" if name == "faces" else "bernoulli"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "random.npz")
            np.savez(path, X=_random_cases(max(MINIBATCHES), sizes[0]))
            described = replace(described, data=str(path), network=sizes, likelihood=likelihood)
            return _problem(name, prepare(described), made_up=True)


def _convolutional(backend: str) -> Problem:
    described = Experiment(data="fashion", network="conv", backend=backend, constants={})
    try:
        return _problem(CONV, prepare(described), made_up=False)
    except FetchError:
        cases = max(CONV_MINIBATCHES)
        labels = np.random.default_rng(1).integers(10, size=cases)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "random.npz")
            np.savez(path, X=_random_cases(cases, 784).reshape(cases, 1, 28, 28), Y=labels)
            return _problem(CONV, prepare(replace(described, data=str(path), likelihood="categorical")), made_up=True)


def random_autoencoder(sizes: Sequence[int], cases: int, backend: str) -> Problem:
    """A logistic autoencoder of these sizes on random cases."""
    network = Network(sizes, "logistic", "bernoulli")
    X = arrays.backend(backend).asarray(_random_cases(cases, sizes[0]))
    parameters = [arrays.from_numpy(W, X) for W in INITIALISATIONS["sparse"](network, 0)]
    return Problem("-".join(map(str, sizes)), network, parameters, loop.Data(X, X), made_up=True)


def settings(name: str, inverse: str, m: int) -> Settings:
    """One of SETTINGS on mini-batches of m cases throughout."""
    return replace(SETTINGS[name], inverse=inverse, m1=m, full_batch_at=None)


def _problem(name: str, prepared: Prepared, made_up: bool) -> Problem:
    parameters = prepared.first_state().parameters
    return Problem(name, prepared.network, parameters, prepared.data, made_up)


def _random_cases(cases: int, d: int) -> np.ndarray:
    return np.random.default_rng(0).random((cases, d), dtype=np.float32)
