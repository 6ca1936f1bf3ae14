"""The settings that take part in the race: what trains fastest for a hundred iterations of K-FAC or so, on any side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kfac_ref.settings import preset
from validation.race.racers import OURS, THEIRS, Setting


def _ours(name: str, **constants: Any) -> Setting:
    return Setting(OURS, name, constants)


def _theirs(name: str, m: int | Sequence[tuple[int, int]], **options: Any) -> Setting:
    return Setting(THEIRS, name, options, [(1, m)] if isinstance(m, int) else m)


def _rival(side: str, lr: float, m: int, start: str = "sparse", **options: Any) -> Setting:
    more = "".join(f", {name} = {value}" for name, value in options.items())
    return Setting(side, f"m = {m}, lr = {lr:g}, {start}{more}", {"lr": lr} | options, [(1, m)], start)


DIAGONAL: dict[str, Any] = {"inverse": "block-diagonal"}
PRESET = {name: value for name, value in asdict(preset("quick")).items() if value != getattr(preset("authors"), name)}
"""What the preset `quick` has in the place of the authors' constants."""
QUICK: dict[str, Any] = DIAGONAL | {"lambda0": 0.3, "omega": 0.8, "tau2": 0.25}
"""λ₀ and ω are the authors' for 1500 iterations; for a hundred λ has to be lower, and to fall faster. τ₂ is
the paper's."""
FASTER: dict[str, Any] = {"damping_adaptation_decay": 0.8, "inverse_update_period": 10}
"""The same in kfac-jax's terms, whose usual decay is 0.9, with the inverses that serve it best."""
GROWING = [(1, 250), (41, 500), (81, 1000)]
SETTINGS: Sequence[Setting] = (
    # the most promising first, as what is behind them is stopped
    _ours("preset quick", **PRESET),
    _ours("m growing from 250, λ₀ = 0.3, ω = 0.8, τ₁ = ½", **QUICK, m1=250, tau1=0.5),
    _ours("m growing from 250, λ₀ = 0.1, ω = 0.8, τ₁ = ½", **QUICK | {"lambda0": 0.1}, m1=250, tau1=0.5),
    _ours("m growing from 250, λ₀ = 0.3, ω = 0.9, τ₁ = ½", **QUICK | {"omega": 0.9}, m1=250, tau1=0.5),
    _ours("m growing from 500, λ₀ = 0.3, ω = 0.8, τ₁ = ½", **QUICK, m1=500, tau1=0.5),
    _ours("m growing from 250, λ₀ = 3, ω = 0.8", **QUICK | {"lambda0": 3.0}, m1=250),
    _ours("m = 1000, λ₀ = 0.3, ω = 0.8", **QUICK, full_batch_at=None),
    _ours(
        "m growing from 250, λ₀ = 0.3, ω = 0.8, τ₁ = ½, block-tridiagonal",
        **QUICK | {"inverse": "block-tridiagonal"},
        m1=250,
        tau1=0.5,
    ),
    *(
        Setting(
            OURS,
            f"m growing from 250, λ₀ = 0.3, ω = 0.8, τ₁ = ½, {start}",
            QUICK | {"m1": 250, "tau1": 0.5},
            start=start,
        )
        for start in ("Glorot", "4 × Glorot")
    ),
    _ours("as the authors, block-diagonal", **DIAGONAL),
    _ours("as the authors", inverse="block-tridiagonal"),
    _theirs("m = 500, λ₀ = 1, faster λ, T₃ = 10", 500, **FASTER, initial_damping=1.0),
    _theirs("m = 500, λ₀ = 10, faster λ, T₃ = 10", 500, **FASTER, initial_damping=10.0),
    _theirs("m = 500, λ₀ = 0.3, faster λ, T₃ = 10", 500, **FASTER, initial_damping=0.3),
    _theirs("m = 500, λ₀ = 1, faster λ, T₃ = 5", 500, **FASTER | {"inverse_update_period": 5}, initial_damping=1.0),
    _theirs("m = 250, 500, 1000, λ₀ = 1, faster λ, T₃ = 10", GROWING, **FASTER, initial_damping=1.0),
    _theirs("m = 500, λ₀ = 1", 500, initial_damping=1.0),
    _theirs("m = 250, λ₀ = 10", 250, initial_damping=10.0),
    _theirs("m = 1000, λ₀ = 1, faster λ, T₃ = 10", 1000, **FASTER, initial_damping=1.0),
    _theirs("m = 1000, λ₀ = 150", 1000, initial_damping=150.0),
    # each rival in mini-batches, step and start
    *(_rival("Adam", lr, 250, "4 × Glorot") for lr in (3e-3, 2e-3, 1e-3)),
    *(_rival("Adam", lr, m) for m in (250, 500) for lr in (2e-3, 1e-3)),
    _rival("Adam", 3e-3, 500, "4 × Glorot"),
    _rival("Adam", 2e-3, 250, "Glorot"),
    *(
        _rival("Muon", lr, 250, start, adjust_lr_fn="match_rms_adamw")
        for start in ("4 × Glorot", "sparse")
        for lr in (3e-3, 1e-3, 1e-2)
    ),
    _rival("Muon", 3e-3, 500, "4 × Glorot", adjust_lr_fn="match_rms_adamw"),
    _rival("Muon", 3e-3, 250, "Glorot", adjust_lr_fn="match_rms_adamw"),
    *(_rival("SOAP", lr, 500, start) for start in ("4 × Glorot", "sparse") for lr in (3e-3, 1e-3, 1e-2)),
    _rival("SOAP", 3e-3, 1000, "4 × Glorot"),
    _rival("SOAP", 3e-3, 500, "Glorot"),
    # on large mini-batches, several steps on each
    *(
        _rival("L-BFGS", 1.0, m, start, max_iter=steps, history_size=50)
        for start in ("4 × Glorot", "sparse", "Glorot")
        for m, steps in ((10000, 20), (60000, 20))
    ),
)
