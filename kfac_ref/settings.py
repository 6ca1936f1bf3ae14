"""The constants of Algorithm 2, and the presets `quick`, `authors` and `paper`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from autodiff.names import closest
from autodiff.passes import CHUNK_SIZE
from kfac_ref.curvature.damping import PI_NORMS
from kfac_ref.curvature.factors import FULL_BLOCKS, SHARINGS, TIMES, Kinds

INVERSES = ("block-tridiagonal", "block-diagonal")


def constant(default: Any, meaning: str) -> Any:
    """A field of a dataclass of constants: its default and what it is, which the command's help says too."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """The constants of every optimizer here: ℓ₂ and the mini-batches (§9, §13). ValueError or TypeError naming one that
    is out of its range."""

    eta: float = constant(1e-5, "ℓ₂ coefficient η")
    m1: int = constant(1000, "cases in the mini-batch of the first iteration (§13)")
    full_batch_at: int | None = constant(
        500, "iteration at which the mini-batch has grown to all cases; none: never (§13)"
    )
    chunk_size: int = constant(CHUNK_SIZE, "cases worked through at once")

    def __post_init__(self) -> None:
        check_types(self)
        require(self, "finite and ≥ 0", lambda v: 0 <= v < math.inf, "eta")
        require(self, "≥ 1", lambda v: v >= 1, "m1", "chunk_size")
        require(self, "≥ 2, or None", lambda v: v is None or v >= 2, "full_batch_at")


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """Algorithm 2's constants; the defaults are the paper's (§5–§9, §13).

    Raises
    ------
    ValueError, TypeError
        Naming the constant that is out of its range.
    """

    inverse: str = constant("block-tridiagonal", "F̂⁻¹ (§4.3) or, with block-diagonal, F̆⁻¹ (§4.2)")
    sharing: str = constant(
        "expand", "factors of layers whose weights are applied at many locations: expand (KFC's), or reduce"
    )
    full_blocks: str = constant(
        "full", "blocks of normalisation layers, which have no factors: full, or diagonal for comparison"
    )
    time: str = constant(
        "independent",
        "blocks of recurrent layers, their steps taken for independent (expand), or correlated over time: symmetric "
        "or stationary (RNN §3)",
    )
    momentum: bool = constant(True, "whether the previous update δ₀ takes part (§7)")
    lambda0: float = constant(150.0, "λ at the start (§6.5); about 1 is advised for classifiers")
    lambda_min: float = constant(0.0, "lower bound of λ (§6.5)")
    lambda_max: float = constant(math.inf, "upper bound of λ (§6.5)")
    gamma_min: float = constant(0.0, "lower bound of γ when it is adjusted (§6.6)")
    gamma_max: float = constant(math.inf, "upper bound of γ when it is adjusted (§6.6)")
    pi_norm: str = constant("trace", "norm in π (§6.3): trace, or frobenius as in the paper's own runs")
    tau1: float = constant(1 / 8, "fraction of the mini-batch for the factors (§8)")
    tau2: float = constant(1 / 4, "fraction of the mini-batch for the exact-Fisher products (§8)")
    T1: int = constant(5, "iterations between adjustments of λ (§6.5)")
    T2: int = constant(20, "iterations between adjustments of γ (§6.6)")
    T3: int = constant(20, "iterations between inversions (§8)")
    candidates_inverted: bool = constant(
        True, "whether candidates for γ have inverses of their own between inversions too (§9); else the first is taken"
    )
    omega: float = constant(19 / 20, "ω₁ = ω^T₁ (§6.5), ω₂ = (√ω)^T₂ (§6.6)")
    epsilon_max: float = constant(0.95, "bound of the factors' averaging weight ε = min(1 − 1/k, ε_max) (§5)")
    average_from: int = constant(1, "first iteration of iterate averaging (§13)")
    xi_max: float = constant(0.99, "bound of iterate averaging's weight ξ (§13)")

    def __post_init__(self) -> None:
        super().__post_init__()
        closest(self.inverse, INVERSES, "inverse")
        closest(self.pi_norm, PI_NORMS, "norm for π (pi_norm)")
        closest(self.sharing, SHARINGS, "way to share weights (sharing)")
        closest(self.full_blocks, FULL_BLOCKS, "kind of full blocks (full_blocks)")
        closest(self.time, TIMES, "way to treat time (time)")
        require(self, "finite and ≥ 0", lambda v: 0 <= v < math.inf, "lambda0", "lambda_min", "gamma_min")
        require(self, "≥ lambda_min", lambda v: v >= self.lambda_min, "lambda_max")
        least = f"> 0 and ≥ gamma_min, which is {self.gamma_min:g} (sqrt(eta) in the presets quick and authors)"
        require(self, least, lambda v: v > 0 and v >= self.gamma_min, "gamma_max")
        require(self, "in (0, 1]", lambda v: 0 < v <= 1, "tau1", "tau2", "omega")
        require(self, "in [0, 1)", lambda v: 0 <= v < 1, "epsilon_max", "xi_max")
        require(self, "≥ 1", lambda v: v >= 1, "T1", "T2", "T3", "average_from")
        self.kinds  # noqa: B018  that they go together

    @property
    def tridiagonal(self) -> bool:
        """Whether the inverse is the block-tridiagonal one."""
        return self.inverse == "block-tridiagonal"

    @property
    def kinds(self) -> Kinds:
        """Of factors of layers with shared weights, of full blocks, and of time."""
        return Kinds(self.sharing, self.full_blocks, self.time)


def check_types(constants: Any) -> None:
    """Make the fields of a dataclass of constants plain Python values of their types, as a NumPy scalar would widen
    float32 arrays; TypeError or ValueError naming the first that cannot be."""
    for f in fields(constants):
        value, wanted = getattr(constants, f.name), str(f.type).split(" | ")
        if value is None and "None" in wanted:
            continue
        kind: Any = {"str": str, "bool": bool}.get(wanted[0], (int, float))
        if not isinstance(value, kind) or (isinstance(value, bool) and wanted[0] != "bool"):
            names = {"str": "a name", "bool": "True or False", "int": "a whole number"}
            raise TypeError(f"{f.name} must be {names.get(wanted[0], 'a number')}; got {value!r}")
        if wanted[0] == "int" and value % 1 != 0:
            raise ValueError(f"{f.name} must be a whole number; got {value!r}")
        object.__setattr__(constants, f.name, {"int": int, "float": float}.get(wanted[0], kind)(value))


def require(constants: Any, what: str, ok: Callable[[Any], bool], *names: str) -> None:
    """ValueError naming the first of the fields `names` that is not `ok`; NaN never is."""
    for name in names:
        if not ok(getattr(constants, name)):
            raise ValueError(f"{name} must be {what}; got {getattr(constants, name)!r}")


def preset(name: str, **changes: Any) -> Settings:
    """The constants as the `"paper"` states them, as the `"authors"`' program has them, or those that train in less
    time, `"quick"`; with `changes`.

    The authors' differ in τ₂ = 1 (¼ is called risky there), in γ being kept within [sqrt(η), 1] when it is adjusted
    (§6.6; at sqrt(η) where that is more than 1), in iterate averaging beginning at iteration 200, and in computing
    inverses (§8) when T₃ divides k or k ≤ 3 and at no other time: where T₂ is no multiple of T₃, the candidates for γ
    then share the old inverse, and the first is taken.

    Those of `"quick"` were found by trying, on the autoencoders of `fashion16`, MNIST and `curves` and on the classes
    of `fashion16` (`python -m validation figures presets` compares them with the authors', on other data too). They are
    the paper's but for the block-diagonal inverse; λ, which is small from the start and falls faster (λ₀, ω), though
    not below η; fewer cases in the first mini-batches (m₁), all of them sooner; a quarter of them for the factors (τ₁);
    and an average of iterates that forgets sooner (ξ). γ is bounded as the authors' is.

    An unknown constant in `changes` is a ValueError.
    """
    closest(name, PRESETS, "preset")
    for changed in changes:
        closest(changed, [f.name for f in fields(Settings)], "constant of Algorithm 2")
    settings = replace(PRESETS[name], **{k: v for k, v in changes.items() if k == "eta"})
    if settings.gamma_min > 0:
        least = math.sqrt(settings.eta)
        changes = {"gamma_min": least, "gamma_max": max(settings.gamma_max, least)} | changes
    if settings.lambda_min > 0:
        changes = {"lambda_min": settings.eta} | changes
    return replace(settings, **changes)


_BOUNDS: dict[str, Any] = {"gamma_min": math.sqrt(Settings.eta), "gamma_max": 1.0}
PRESETS = {
    "quick": Settings(
        inverse="block-diagonal",
        lambda0=0.3,
        lambda_min=Settings.eta,
        omega=0.8,
        m1=250,
        full_batch_at=400,
        tau1=1 / 4,
        xi_max=0.9,
        **_BOUNDS,
    ),
    "authors": Settings(tau2=1.0, average_from=200, candidates_inverted=False, **_BOUNDS),
    "paper": Settings(),
}
