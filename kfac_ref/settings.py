"""The constants of Algorithm 2, and the presets `paper` and `authors`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from autodiff.arrays import closest
from autodiff.passes import CHUNK_SIZE
from kfac_ref.damping import PI_NORMS

INVERSES = ("block-tridiagonal", "block-diagonal")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Algorithm 2's constants; the defaults are the paper's (§5–§9, §13).

    Raises
    ------
    ValueError, TypeError
        Naming the constant that is out of its range.
    """

    inverse: str = "block-tridiagonal"
    """F̂⁻¹ (§4.3) or F̆⁻¹ (§4.2)."""
    momentum: bool = True
    """Whether δ₀ takes part (§7)."""
    lambda0: float = 150.0
    """λ at the start (§6.5); about 1 is advised for classifiers."""
    eta: float = 1e-5
    """ℓ₂ coefficient η."""
    gamma_min: float = 0.0
    """Lower bound of γ's candidates."""
    gamma_max: float = math.inf
    """Upper bound of γ's candidates."""
    pi_norm: str = "trace"
    """Norm in π (§6.3): "trace", or "frobenius" as in the paper's own runs."""
    tau1: float = 1 / 8
    """Fraction of the mini-batch for the factors (§8)."""
    tau2: float = 1 / 4
    """Fraction of the mini-batch for the exact-Fisher products (§8)."""
    T1: int = 5
    """Iterations between adjustments of λ (§6.5)."""
    T2: int = 20
    """Iterations between adjustments of γ (§6.6)."""
    T3: int = 20
    """Iterations between inversions (§8)."""
    omega: float = 19 / 20
    """ω₁ = ω^T₁, ω₂ = (√ω)^T₂."""
    epsilon_max: float = 0.95
    """Bound of the running average's ε = min(1 − 1/k, ε_max) (§5)."""
    average_from: int = 1
    """First iteration of iterate averaging (§13)."""
    xi_max: float = 0.99
    """Bound of iterate averaging's ξ (§13)."""
    m1: int = 1000
    """Mini-batch at the first iteration (§13)."""
    full_batch_at: int | None = 500
    """Iteration at which the growing mini-batch reaches the whole training set; None: it stays at m1 (§13)."""
    chunk_size: int = CHUNK_SIZE
    """Cases worked through at once."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, (bool, str)):
                if not isinstance(value, type(field.default)):
                    raise TypeError(f"{field.name} must be a {type(field.default).__name__}; got {value!r}")
            elif value is None and field.name == "full_batch_at":
                pass
            elif isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{field.name} must be a number; got {value!r}")
            elif isinstance(field.default, int) and value != int(value):
                raise ValueError(f"{field.name} must be a whole number; got {value!r}")
        closest(self.inverse, INVERSES, "inverse")
        closest(self.pi_norm, PI_NORMS, "norm for π (pi_norm)")
        for name in ("lambda0", "eta", "gamma_min"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a finite number ≥ 0")
        self._require("gamma_max", self.gamma_max > 0 and self.gamma_max >= self.gamma_min, "> 0 and ≥ gamma_min")
        for name in ("tau1", "tau2", "omega"):
            self._require(name, 0 < getattr(self, name) <= 1, "in (0, 1]")
        for name in ("epsilon_max", "xi_max"):
            self._require(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("T1", "T2", "T3", "average_from", "m1", "chunk_size"):
            self._require(name, getattr(self, name) >= 1, "a whole number ≥ 1")
        self._require("full_batch_at", self.full_batch_at is None or self.full_batch_at >= 2, "≥ 2, or None")

    def _require(self, name: str, ok: bool, what: str) -> None:
        if not ok:
            raise ValueError(f"{name} must be {what}; got {getattr(self, name)!r}")

    @property
    def tridiagonal(self) -> bool:
        """Whether the inverse is the block-tridiagonal one."""
        return self.inverse == "block-tridiagonal"

    def asdict(self) -> dict[str, Any]:
        """The constants by name."""
        return asdict(self)


def preset(name: str, **changes: Any) -> Settings:
    """The constants as the `"paper"` states them or as the `"authors"`' program has them, with `changes`.

    The authors' differ in τ₂ = 1 (¼ is called risky there), in γ being kept within [sqrt(η), 1] when it is adjusted,
    and in iterate averaging beginning at iteration 200. An unknown constant in `changes` is a ValueError.
    """
    closest(name, PRESETS, "preset")
    for constant in changes:
        closest(constant, [field.name for field in fields(Settings)], "constant of Algorithm 2")
    settings = PRESETS[name]
    if name == "authors":
        settings = replace(settings, gamma_min=math.sqrt(changes.get("eta", settings.eta)))
    return replace(settings, **changes)


PRESETS = {"paper": Settings(), "authors": Settings(tau2=1.0, gamma_max=1.0, average_from=200)}
