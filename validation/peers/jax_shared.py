"""A convolutional classifier as a JAX user has it, marked to be captured, its data and its case."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import kfac_jax
import numpy as np
from jax import Array, lax

from kfac_ref.oracle import CapturedCase, capture
from kfac_ref.oracle.capture.jax_layers import mark, patches
from validation.peers import cases

jax.config.update("jax_enable_x64", True)
Parameters = dict[str, Array]
Batch = tuple[Array, Array]
CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")
# T = 30 and 9: stride and padding differ along the axes
SHAPES = {"K1": (3, 3, 2, 3), "b1": (3,), "K2": (2, 3, 3, 4), "W": (36, 3), "b": (3,)}


def parameters() -> Parameters:
    """The same at each call."""
    rng = np.random.default_rng(2015)
    return {name: jnp.asarray(rng.standard_normal(s) / np.sqrt(np.prod(s[:-1]))) for name, s in SHAPES.items()}


def batch() -> Batch:
    """Images, channels last, and classes' numbers."""
    rng = np.random.default_rng(2016)
    return jnp.asarray(rng.standard_normal((cases.CASES, 6, 5, 2))), jnp.asarray(rng.integers(3, size=cases.CASES))


def apply(p: Parameters, x: Array) -> Array:
    """Two convolutions and a dense layer."""
    s = lax.conv_general_dilated(x, p["K1"], (1, 1), "SAME", dimension_numbers=CHANNELS_LAST) + p["b1"]
    a = jnp.tanh(mark("first", s, patches(x, (3, 3))))
    s = lax.conv_general_dilated(a, p["K2"], (2, 1), "VALID", dimension_numbers=CHANNELS_LAST)
    a = jnp.tanh(mark("second", s, patches(a, (2, 3), (2, 1), "VALID"), bias=False)).reshape(len(x), -1)
    return mark("third", a @ p["W"] + p["b"], a)


def loss(p: Parameters, batch: Batch) -> Array:
    """The mean over cases, of which kfac-jax is told."""
    z = apply(p, batch[0])
    kfac_jax.register_softmax_cross_entropy_loss(z, batch[1])
    return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(len(z)), batch[1]])


def case() -> CapturedCase:
    """What the check is asked about."""
    images, classes = batch()
    return capture(apply, images, np.asarray(classes), "categorical", params=parameters())
