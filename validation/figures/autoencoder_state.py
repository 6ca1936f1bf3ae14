"""The state of K-FAC after some iterations on the autoencoder of MNIST (§13), from which figures 7 and 9 start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kfac_ref.optimizer import Diverged, State
from kfac_ref.training import checkpoints
from kfac_ref.training.experiment import Experiment, Prepared, prepare
from kfac_ref.training.runs import CHECKPOINT, Plan
from validation.reference_run import experiment
from validation.work import Work, first_to_be_had

STARTS: dict[str, tuple[int, dict[str, Any]]] = {"quick": (60, {"lambda0": 1.0}), "full": (200, {})}
"""Iterations (the paper's figures: 500), and constants that differ from the authors' preset. With λ₀ = 150 not much is
learnt, and λ is still large, after as few as the quick figures can have. Both figures start from the same run."""


@dataclass(frozen=True)
class Origin:
    """The run whose end the figures start from, and how long it is."""

    experiment: Experiment
    iterations: int

    @cached_property
    def prepared(self) -> Prepared:
        """The run, ready to go: with its data, and all that the description leaves open."""
        return prepare(self.experiment)

    def asdict(self) -> dict[str, Any]:
        """All that decides the run, its data and constants included, as JSON can hold it."""
        data, filled_in = self.prepared.dataset.crc32(), self.prepared.experiment.asdict()
        return {"experiment": filled_in, "data": data, "iterations": self.iterations}


@dataclass(frozen=True)
class EndOfRun:
    """What that run came to."""

    prepared: Prepared
    state: State
    error: float
    """‖y − E[y|z]‖², mean over the training cases."""

    def described(self) -> str:
        """How the state was come by, for captions."""
        e, rows = self.prepared.experiment, self.prepared.data.X.shape[0]
        return (
            f"{self.state.k} iterations (the paper: 500) on {e.data}'s autoencoder {self.prepared.network}, {rows} "
            f"training cases, K-FAC with the {e.constants['inverse']} inverse, preset {e.preset}, λ₀ = "
            f"{e.constants['lambda0']:g}, {e.initialisation} initialisation, {e.dtype}, seed {e.seed}; there the "
            f"training error is {self.error:.4g}, λ = {self.state.lam:.3g} and γ = {self.state.gamma:.3g}"
        )


def origin(work: Work) -> Origin:
    """On MNIST; on `fashion16`, which is in the package, where MNIST is not to be had."""
    iterations, constants = STARTS["quick" if work.quick else "full"]
    return Origin(experiment(first_to_be_had("mnist", "fashion16").name, constants=constants), iterations)


def trained(work: Work, origin: Origin) -> EndOfRun:
    """Train to the end of the run, which is kept in its folder.

    Raises
    ------
    Diverged
        If the run does not get there.
    ValueError
        If the folder's checkpoint is of another iteration than the run's last.
    """
    name, k = f"{origin.experiment.data}-{origin.iterations}", origin.iterations
    run = work.train(name, origin.experiment, Plan(iterations=k, evaluate_every=k))
    if run.diverged:
        raise Diverged(f"{name}: the objective was not finite any more")
    path = work.out / "runs" / name / CHECKPOINT
    state, _ = checkpoints.load(path, origin.prepared.network, origin.prepared.data.X)
    assert isinstance(state, State)
    if state.k != k:
        raise ValueError(f"{path} is of iteration {state.k}, expected {k}; without {path.parent} it is trained anew")
    return EndOfRun(origin.prepared, state, run.lines[-1]["train_error"])
