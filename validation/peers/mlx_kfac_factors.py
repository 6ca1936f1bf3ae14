"""mlx-kfac, in float32, after a step: whose targets, which scale and damping, what is left of its start? Needs it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_kfac import KFAC
from mlx_kfac.optimizer import _state_key

from kfac_ref.oracle import Case
from validation.peers import cases

RATE = 2.0**10
"""The learning rate: so that what a step subtracts is large beside the rounding of the parameters."""
LOSSES = {"categorical": nn.losses.cross_entropy, "gaussian": nn.losses.mse_loss}


def network(case: Case) -> nn.Sequential:
    """Linear layers and tanh, with the case's parameters."""
    modules = []
    for W in case.parameters:
        linear = nn.Linear(W.shape[1] - 1, W.shape[0])
        linear.weight, linear.bias = mx.array(W[:, :-1], mx.float32), mx.array(W[:, -1], mx.float32)
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


def step(case: Case, decay: float, damping: str) -> dict[str, np.ndarray]:
    """Its factors after one step, and what it subtracted, by the learning rate; the loss is a mean over cases, and over
    outputs, unless they are classes."""
    model, loss = network(case), LOSSES[case.network.likelihood.name]
    X, Y = mx.array(case.X, mx.float32), mx.array(case.Y, mx.float32)
    how = {"damping": cases.DAMPING, "damping_strategy": damping, "factor_decay": decay, "loss_reduction": "mean"}
    optimizer = KFAC(RATE, model=model, **how)
    _, gradients = nn.value_and_grad(model, lambda: loss(model(X), Y, reduction="mean"))()
    optimizer.update(model, gradients)
    theirs: dict[str, np.ndarray] = {}
    for i, W in enumerate(case.parameters):
        state, layer = optimizer.state["layers"][_state_key(f"layers.{2 * i}")], model.layers[2 * i]
        theirs |= {f"A_{i}": np.array(state["A"]), f"G_{i + 1}": np.array(state["G"])}
        if decay == 0:
            moved = W.astype(np.float32) - np.column_stack([np.array(layer.weight), np.array(layer.bias)])
            theirs[f"preconditioned_{i + 1}"] = moved / np.float32(RATE)
    return theirs


def found() -> Iterator[tuple[str, Case, dict[str, np.ndarray]]]:
    """With a running average, and without one, with both ways to damp."""
    for likelihood, (decay, damping) in product(LOSSES, ((0.95, "pi"), (0.0, "pi"), (0.0, "uniform"))):
        case = cases.case(likelihood)
        yield f"mlx-kfac: {likelihood}, decay {decay}, {damping} damping", case, step(case, decay, damping)


if __name__ == "__main__":
    cases.show(found())
