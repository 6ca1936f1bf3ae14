"""Estimators with other layers than dense ones: which network they train, and how its inputs are standardised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autodiff.arrays import Array, namespace
from autodiff.network import Network, described
from kfac_ref.data.scaling import Scaling
from kfac_ref.training import networks


def network_of(given: Any, inputs: int, outputs: int, likelihood: str, activation: str) -> Network:
    """The network that is asked for.

    Parameters
    ----------
    given : str or mapping
        A name of `networks.NAMED`, for square images of one channel; a network as a line of text; or a description.
    inputs, outputs : int
        How many numbers it must take and give.
    likelihood : str
    activation : str
        Of hidden layers, where only sizes are given.

    Raises
    ------
    ValueError, TypeError
        Where it is no network, or does not fit the data.
    """
    wanted = networks.given(given) if isinstance(given, str) else given
    if isinstance(wanted, str):
        side = math.isqrt(inputs)
        if side * side != inputs:
            raise ValueError(
                f'the network "{wanted}" is for square images of one channel, and X has {inputs} features; a network '
                "as a line of text, as in 1x4x8: conv 8 3x3 relu, flatten, dense 10, says what images they are"
            )
        wanted = networks.named(wanted, (side, side), outputs)
    if isinstance(wanted, Mapping):
        bare, _ = networks.apart(wanted, likelihood)
        network = described({"likelihood": likelihood} | dict(bare))  # type: ignore[arg-type]
    else:
        network = Network(wanted, activation, likelihood)
    if network.inputs != inputs:
        raise ValueError(f"network takes {network.input}, {network.inputs} numbers, but X has {inputs} features")
    if network.output != (outputs,):
        raise ValueError(f"network gives {network.output}, expected {(outputs,)}, by the targets")
    return network


def scaling_by_channel(mean: Array, variance: Array, shape: tuple[int, ...]) -> Scaling:
    """That which gives each channel of images (c, H, W), or each feature of sequences (T, d), mean 0 and variance 1.

    It is made from the `mean` (d_0,) and `variance` (d_0,) of single columns. A layer that is applied at many locations
    takes the same number for the same thing at all of them.
    """
    xp = namespace(mean)
    if len(shape) == 1:
        return Scaling.from_moments(mean, variance)
    together = (shape[0], -1) if len(shape) == 3 else (-1, shape[1])
    axis = 1 if len(shape) == 3 else 0
    means = xp.reshape(mean, together)
    common = xp.mean(means, axis=axis, keepdims=True)
    spread = xp.mean(xp.reshape(variance, together) + (means - common) ** 2, axis=axis, keepdims=True)
    return Scaling.from_moments(*(xp.reshape(xp.broadcast_to(x, means.shape), (-1,)) for x in (common, spread)))
