"""Who takes part in the race: each trains for so many seconds at a time, and says where its parameters are then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from autodiff.arrays import from_numpy, to_numpy
from autodiff.initialisation import INITIALISATIONS
from kfac_ref.machine import at_full_speed
from kfac_ref.optimizer import Diverged
from kfac_ref.training import loop
from kfac_ref.training.experiment import Prepared, prepare
from validation import reference_run
from validation.benchmark.peer import Peer

OURS, THEIRS = "kfac-ref", "kfac-jax"
RIVALS = ("Adam", "Muon", "SOAP", "L-BFGS")
"""Of PyTorch, which a user might take instead."""
SIDES = (OURS, THEIRS, *RIVALS)

TORCH_WORKER = Path(__file__).with_name("torch_worker.py")
TORCH_NEEDED = "the Python of an environment with torch==2.13.0 pytorch_optimizer==4.1.0"

STARTS: Mapping[str, tuple[str, float]] = {
    "sparse": ("sparse", 1.0),
    "Glorot": ("glorot", 1.0),
    "4 × Glorot": ("glorot", 4.0),
}
"""Initial parameters: which, times what. Four times Glorot's suit logistic units, whose slope is at most ¼."""


@dataclass(frozen=True)
class Setting:
    """Somebody's constants."""

    side: str
    """One of SIDES."""
    name: str
    options: Mapping[str, Any]
    """Constants of the preset `authors` that differ, or options of `kfac_jax.Optimizer` or of a rival."""
    minibatches: Sequence[tuple[int, int]] = ()
    """But for ours: from which iteration on a mini-batch has how many cases."""
    start: str = "sparse"
    """One of STARTS."""

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

    def __init__(self, prepared: Prepared, start: str = "sparse") -> None:
        self.state: loop.AnyState = first_state(prepared, start)
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


@dataclass(frozen=True)
class Pythons:
    """Of the environments that the others need; who has none does not take part."""

    jax: str | Path | None = None
    torch: str | Path | None = None

    def of(self, side: str) -> str | Path | None:
        """That which a side other than ours needs."""
        return self.jax if side == THEIRS else self.torch

    def take_part(self, settings: Sequence[Setting]) -> list[Setting]:
        """Those of `settings` that can be run."""
        return [s for s in settings if s.side == OURS or self.of(s.side)]


@contextmanager
def at_start(setting: Setting, pythons: Pythons) -> Iterator[Racer]:
    """A run with this setting, ready to go: what is compiled is compiled."""
    if setting.side == OURS:
        prepared = experiment(setting.options)
        with at_full_speed(prepared.network.widest), np.errstate(over="ignore", invalid="ignore"):
            yield Ours(prepared, setting.start)
        return
    python = pythons.of(setting.side)
    assert python is not None
    prepared = experiment({})
    network = prepared.network
    start = [to_numpy(W) for W in first_state(prepared, setting.start).parameters]
    other = Peer(python) if setting.side == THEIRS else Peer(python, TORCH_WORKER, TORCH_NEEDED)
    options = dict(setting.options) | ({} if setting.side == THEIRS else {"optimizer": setting.side})
    with other as peer:
        names = [phi.name for phi in network.activations]
        eta = prepared.optimizer.settings.eta
        peer.prepare(network.sizes, names, network.likelihood.name, to_numpy(prepared.data.X), start, eta)
        peer.begin(options, setting.minibatches)
        yield peer


def first_state(prepared: Prepared, start: str) -> loop.AnyState:
    """The state before the first iteration, with the parameters of seed 0 that STARTS has under this name."""
    name, factor = STARTS[start]
    parameters = INITIALISATIONS[name](prepared.network, 0)
    return prepared.optimizer.init([from_numpy(factor * W, prepared.data.X) for W in parameters], 0)


def experiment(constants: Mapping[str, Any]) -> Prepared:
    """MNIST's autoencoder and the authors' constants, but for these, with the first parameters of seed 0."""
    return prepare(reference_run.experiment("mnist", constants=dict(constants)))
