"""The state of K-FAC after some iterations on the autoencoder of MNIST (§13), from which figures 7 and 9 start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kfac_ref import checkpoints
from kfac_ref.experiment import Experiment, Prepared, prepare
from kfac_ref.optimizer import Diverged, State
from kfac_ref.runs import CHECKPOINT, Plan
from validation.reference_run import experiment
from validation.work import Work, first_to_be_had

STARTS: dict[str, tuple[int, dict[str, Any]]] = {"quick": (60, {"lambda0": 1.0}), "full": (200, {})}
"""Iterations (the paper's figures: 500), and constants that differ from the authors' preset. With λ₀ = 150 not much is
learnt, and λ is still large, after as few as the quick figures can have. Both figures start from the same run."""


@dataclass(frozen=True)
class Start:
    """A run, and when it ends."""

    experiment: Experiment
    iterations: int

    def asdict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"experiment": self.experiment.asdict(), "iterations": self.iterations}


@dataclass(frozen=True)
class Trained:
    """The end of that run."""

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


def start(work: Work) -> Start:
    """On MNIST; on `fashion16`, which is in the package, where MNIST is not to be had."""
    iterations, constants = STARTS["quick" if work.quick else "full"]
    return Start(experiment(first_to_be_had("mnist", "fashion16").name, constants=constants), iterations)


def trained(work: Work, start: Start) -> Trained:
    """The state at the end of the run, which is kept in its folder. Diverged if the run does not get there."""
    name, k = f"{start.experiment.data}-{start.iterations}", start.iterations
    run = work.train(name, start.experiment, Plan(iterations=k, evaluate_every=k))
    if run.diverged:
        raise Diverged(f"{name}: the objective was not finite any more")
    prepared = prepare(start.experiment)
    state, _ = checkpoints.load(work.out / "runs" / name / CHECKPOINT, prepared.network, prepared.data.X)
    assert isinstance(state, State)
    return Trained(prepared, state, run.lines[-1]["train_error"])
