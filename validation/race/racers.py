"""The two sides of the race: each trains for so many seconds at a time, and says where its parameters are then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autodiff.arrays import to_numpy
from kfac_ref.machine import at_full_speed
from kfac_ref.optimizer import Diverged
from kfac_ref.training import loop
from kfac_ref.training.experiment import Prepared, prepare
from validation import reference_run
from validation.benchmark.peer import Peer

OURS, THEIRS = "kfac-ref", "kfac-jax"


@dataclass(frozen=True)
class Setting:
    """Somebody's constants."""

    side: str
    """OURS or THEIRS."""
    name: str
    options: Mapping[str, Any]
    """Constants of the preset `authors` that differ, or options of `kfac_jax.Optimizer`."""
    minibatches: Sequence[tuple[int, int]] = ()
    """Theirs: from which iteration on a mini-batch has how many cases."""

    def __str__(self) -> str:
        return f"{self.side}, {self.name}"


class Racer(Protocol):
    """A run in progress."""

    def advance(self, until: float) -> tuple[int, float]:
        """Train, one iteration at least, until so many seconds of training have gone by in all: iterations and seconds
        so far. Diverged if the objective is not finite any more."""

    def parameters(self) -> list[np.ndarray]:
        """Each W_i."""


class Ours:
    """K-FAC as it is here."""

    def __init__(self, prepared: Prepared) -> None:
        self.state: loop.AnyState = prepared.first_state()
        self.iterations = loop.iterate(prepared.optimizer, self.state, prepared.data)
        self.seconds = 0.0

    def advance(self, until: float) -> tuple[int, float]:
        """See `Racer`; the same seconds as in `metrics.jsonl`."""
        while True:
            try:
                self.state, _, seconds = next(self.iterations)
            except ValueError as error:  # a damped factor that is not positive definite
                raise Diverged(str(error)) from error
            self.seconds += seconds
            if self.seconds >= until:
                return self.state.k, self.seconds

    def parameters(self) -> list[np.ndarray]:
        """Of the last iterate θ."""
        return [to_numpy(W) for W in self.state.parameters]


@contextmanager
def at_start(setting: Setting, python: str | Path | None) -> Iterator[Racer]:
    """A run with this setting, ready to go: what theirs compiles is compiled."""
    if setting.side == OURS:
        prepared = experiment(setting.options)
        with at_full_speed(prepared.network.widest), np.errstate(over="ignore", invalid="ignore"):
            yield Ours(prepared)
        return
    assert python is not None
    prepared = experiment({})
    network = prepared.network
    start = [to_numpy(W) for W in prepared.first_state().parameters]
    with Peer(python) as peer:
        names = [phi.name for phi in network.activations]
        eta = prepared.optimizer.settings.eta
        peer.prepare(network.sizes, names, network.likelihood.name, to_numpy(prepared.data.X), start, eta)
        peer.begin(setting.options, setting.minibatches)
        yield peer


def experiment(constants: Mapping[str, Any]) -> Prepared:
    """MNIST's autoencoder and the authors' constants, but for these, with the first parameters of seed 0."""
    return prepare(reference_run.experiment("mnist", constants=dict(constants)))
