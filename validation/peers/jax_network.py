"""A case's network and loss as a kfac-jax user has them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import kfac_jax
from jax import Array

from kfac_ref.oracle import Case

Parameters = list[tuple[Array, Array]]
Batch = tuple[Array, Array]

jax.config.update("jax_enable_x64", True)
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "logistic": jax.nn.sigmoid, "identity": lambda s: s}


def parameters(case: Case) -> Parameters:
    """Weights of shape (inputs, outputs), and biases: the last column of W_i."""
    return [(jnp.asarray(W[:, :-1].T), jnp.asarray(W[:, -1])) for W in case.parameters]


def batch(case: Case) -> Batch:
    """Inputs and targets."""
    return jnp.asarray(case.X), jnp.asarray(case.Y)


def loss(case: Case) -> Callable[[Parameters, Batch], Array]:
    """The mean over cases of the loss that kfac-jax is told of: sums over outputs, of squares without a half."""
    activations = [ACTIVATIONS[a.name] for a in case.network.activations]
    likelihood = case.network.likelihood.name

    def evaluate(parameters: Parameters, batch: Batch) -> Array:
        a, Y = batch
        for (w, b), phi in zip(parameters, activations, strict=True):
            a = phi(a @ w + b)
        if likelihood == "categorical":
            kfac_jax.register_softmax_cross_entropy_loss(a, jnp.argmax(Y, axis=1))
            return jnp.mean(-jnp.sum(Y * jax.nn.log_softmax(a), axis=1))
        if likelihood == "bernoulli":
            kfac_jax.register_sigmoid_cross_entropy_loss(a, Y)
            return jnp.mean(jnp.sum(jax.nn.softplus(a) - Y * a, axis=1))
        kfac_jax.register_squared_error_loss(a, Y)
        return jnp.mean(jnp.sum((a - Y) ** 2, axis=1))

    return evaluate
