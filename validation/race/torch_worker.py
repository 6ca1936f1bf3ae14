"""Optimizers of PyTorch at work in a process, and a Python, of their own: the other side of `benchmark.peer.Peer`.

It reads a request a line from stdin and writes an answer a line to stdout, both JSON, as `benchmark/jax_worker.py`
does. Run as a file: only NumPy, PyTorch and pytorch_optimizer are imported, the latter for SOAP alone. All is float32,
with as many threads as PyTorch takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

VERSIONS = ("torch", "pytorch-optimizer")
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}
MINIBATCHES = 1
"""Purpose of a random key, as `kfac_ref.training.loop` has it: the same mini-batches are drawn."""


def _soap(parameters: list[Tensor], **options: Any) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP

    return SOAP(parameters, weight_decay=0.0, **options)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "Muon": partial(torch.optim.Muon, weight_decay=0.0),
    "SOAP": _soap,
    "L-BFGS": partial(torch.optim.LBFGS, line_search_fn="strong_wolfe"),
}


class Training:
    """A run of one of OPTIMIZERS.

    Parameters
    ----------
    model : nn.Sequential
        It is trained.
    likelihood, eta : str, float
        Of the objective: the mean over cases of the loss, a sum over outputs, and (η/2)‖θ‖².
    X : Tensor
        All cases, inputs and targets at once.
    options : mapping
        "optimizer", one of OPTIMIZERS, and its options. Muon is for matrices; biases have Adam then.
    minibatches : sequence of (int, int)
        From which step on a mini-batch has how many cases.
    seed : int
    """

    k = 0
    """Steps so far."""
    seconds = 0.0
    """How long they took."""

    def __init__(
        self,
        model: nn.Sequential,
        likelihood: str,
        eta: float,
        X: Tensor,
        options: Mapping[str, Any],
        minibatches: Sequence[tuple[int, int]],
        seed: int,
    ) -> None:
        self.model, self.likelihood, self.eta = model, likelihood, eta
        self.X, self.minibatches, self.seed = X, minibatches, seed
        name, options = options["optimizer"], {k: v for k, v in options.items() if k != "optimizer"}
        if name not in OPTIMIZERS:
            raise ValueError(f"no optimizer {name!r}, expected one of {', '.join(OPTIMIZERS)}")
        parameters = list(model.parameters())
        if name == "Muon":
            biases = torch.optim.Adam([p for p in parameters if p.ndim == 1])
            self.optimizers = [OPTIMIZERS[name]([p for p in parameters if p.ndim == 2], **options), biases]
        else:
            self.optimizers = [OPTIMIZERS[name](parameters, **options)]

    def objective(self, x: Tensor) -> Tensor:
        """h of these cases."""
        z = self.model(x)
        cases = nn.functional.softplus(z) - x * z if self.likelihood == "bernoulli" else 0.5 * (x - z) ** 2
        squares = sum(torch.sum(p * p) for p in self.model.parameters())
        return cases.sum(1).mean() + 0.5 * self.eta * squares

    def step(self) -> float:
        """A step; the objective before it."""
        m = next(m for first, m in reversed(self.minibatches) if first <= self.k + 1)
        rows = np.random.default_rng([self.seed, MINIBATCHES, self.k + 1]).choice(len(self.X), m, replace=False)
        x = self.X[torch.from_numpy(rows)]

        def closure() -> Tensor:
            self.model.zero_grad()
            h = self.objective(x)
            h.backward()
            return h

        first, *others = self.optimizers
        # L-BFGS asks again and again, the others once
        h = first.step(closure)
        for optimizer in others:
            optimizer.step()
        self.k += 1
        return float(h)

    def advance(self, until: float) -> float:
        """Steps until so many seconds of training have gone by, at least one; the last objective."""
        while True:
            start = time.perf_counter()
            h = self.step()
            self.seconds += time.perf_counter() - start
            if self.seconds >= until:
                return h


class Worker:
    """Answers requests: each method but `prepare` needs what `prepare` was given."""

    training: Training | None = None

    def prepare(
        self, activations: Sequence[str], likelihood: str, eta: float, X: str, parameters: Sequence[str]
    ) -> None:
        """Data and parameters, each W_i with its bias in the last column, from .npy files."""
        for name in activations:
            if name not in ACTIVATIONS:
                raise ValueError(f"no activation {name!r}, expected one of {', '.join(ACTIVATIONS)}")
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"no likelihood {likelihood!r}, expected bernoulli or gaussian")
        self.activations, self.likelihood, self.eta = activations, likelihood, eta
        self.X = torch.from_numpy(np.load(X))
        self.parameters = [np.load(path) for path in parameters]

    def begin(self, options: Mapping[str, Any], minibatches: Sequence[tuple[int, int]], seed: int) -> float:
        """Begin a run; the seconds that compiling took: none."""
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for W, name in zip(self.parameters, self.activations, strict=True):
            linear = nn.Linear(W.shape[1] - 1, W.shape[0])
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(W[:, :-1]))
                linear.bias.copy_(torch.from_numpy(W[:, -1]))
            layers += [linear, ACTIVATIONS[name]()]
        model = nn.Sequential(*layers)
        self.training = Training(model, self.likelihood, self.eta, self.X, options, minibatches, seed)
        return 0.0

    def advance(self, until: float) -> dict[str, float]:
        """Go on with the run until it has trained for so many seconds."""
        training = self._running()
        h = training.advance(until)
        return {"k": training.k, "seconds": training.seconds, "loss": h}

    def save(self, paths: Sequence[str]) -> None:
        """Write the run's parameters, each W_i to an .npy file."""
        linears = [layer for layer in self._running().model if isinstance(layer, nn.Linear)]
        for path, linear in zip(paths, linears, strict=True):
            np.save(path, torch.cat([linear.weight, linear.bias[:, None]], dim=1).detach().numpy())

    def _running(self) -> Training:
        if self.training is None:
            raise ValueError("no run was begun")
        return self.training


def main() -> None:
    """Answer until stdin ends."""
    # what libraries print is not to be taken for an answer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({"answer": {name: metadata.version(name) for name in VERSIONS}})
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer({"answer": getattr(worker, request.pop("do"))(**request)})
        except Exception as error:  # whatever it is, the other side says it
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
