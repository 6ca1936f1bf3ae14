"""Preconditioned gradients damped with an unknown strength, or with factors of another scale.

With U = c (G + bI)⁻¹ V (A + aI)⁻¹, V = p₀ GUA + p₁ UA + p₂ GU + p₃ U where p = (1, b, a, ab)/c; with the exact damped
inverse of the product, U = c (A⊗G + λI)⁻¹ V, it is p = (1, 0, 0, λ)/c. So one linear regression finds out how U was
damped, whatever the strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kfac_ref.oracle import expressions, fits
from kfac_ref.oracle.damping_rules import Rule, alike, of_unknown_strength, scalar
from kfac_ref.oracle.expressions import Expression
from kfac_ref.oracle.pi_slips import named_pi
from kfac_ref.oracle.trials import Trial, said, tried
from kfac_ref.oracle.verdict import Explanation

FEW = 8
"""Fewer numbers than this are not regressed on four terms."""
SIMPLE = 0.8
"""What a reading and a gradient may cost at most for such a search one by one."""


def searched(trial: Trial) -> list[Explanation]:
    """What explains U, if the known rules on factors of the right scale do not."""
    found = [] if trial.U.size < FEW else list(_regressed(trial))
    # in float32 a regression of few numbers says little
    few = FEW if trial.tolerance < fits.FLOAT32 else 5 * FEW
    return found or (list(_tiny(trial)) if trial.U.size < few else [])


def _tiny(trial: Trial) -> Iterator[Explanation]:
    """Too few numbers for a regression: the known rules on factors of other scales, one by one."""
    for e_A, e_G in _scales(trial) if trial.says.cost <= SIMPLE else []:
        for rule in trial.known_rules(e_A.value, e_G.value):
            if e_A.value == e_G.value == 1 or rule.text == "none":
                continue
            found = tried(trial, rule, nameless=True)
            if not found.fits or found.scale is None:
                continue
            says, scale = _scaled_factors(trial, rule, e_A, e_G), found.scale * e_A.value * e_G.value
            read = fits.with_scale(says, scale, found.residual, found.tolerance, trial.references.symbols())
            if read.expression is not None:
                yield read


def _regressed(trial: Trial) -> Iterator[Explanation]:
    """U with a damping of unknown strength, or with factors of another scale."""
    U, V, A, G = trial.U, trial.V, trial.pair.A, trial.pair.G
    scalar_A, scalar_G = scalar(A), scalar(G)
    if (scalar_A is not None and scalar_G is not None) or 0 in (scalar_A, scalar_G):
        return
    if scalar_G is not None:  # (g+b) and c are one constant
        terms = [U @ A, U]
    elif scalar_A is not None:
        terms = [G @ U, U]
    else:
        terms = [G @ U @ A, U @ A, G @ U, U]
    if U.size < 2 * len(terms):
        return
    fit = fits.regress(V, terms)
    if fit is None:
        return
    p, residual = fit
    sizes = [np.linalg.norm(t) for t in terms]
    weights = np.array([abs(x) * n for x, n in zip(p, sizes, strict=True)]) / np.linalg.norm(V)
    if p[0] == 0:
        return
    tolerance = fits.conditioned(trial.tolerance, float(weights.sum()))
    if residual > tolerance or weights[0] < 30 * tolerance:
        return
    # what p/p₀ is known to: the error of each coefficient is that of V along its term
    precise = np.array([tolerance * np.linalg.norm(V) / n for n in sizes]) / abs(p[0]) + tolerance / weights[0] * abs(
        p / p[0]
    )
    ratios = p / p[0]
    found = _Found(1 / p[0], residual, tolerance, float(tolerance / weights[0]))
    if len(terms) == 2:
        if abs(ratios[1]) > 3 * precise[1]:
            on_A = scalar_G is not None
            constant = scalar_G if on_A else scalar_A
            assert constant is not None
            yield from _one_sided(trial, found, ratios[1], precise[1], on_A, constant)
        return
    b, a, ab = ratios[1:]
    of_b, of_a, of_ab = precise[1:]
    if abs(b) <= 3 * of_b and abs(a) <= 3 * of_a:
        if ab <= 3 * of_ab:
            return
        rule, off = Rule(f"{ab:.6g} on the product", 0.0, 0.0, ab, cost=5.0), of_ab / max(abs(ab), 1e-300)
    else:
        if abs(ab - a * b) > 5 * (of_ab + abs(a) * of_b + abs(b) * of_a) or min(a, b) < -3 * max(of_a, of_b):
            return
        rule, off = of_unknown_strength(trial.pair, a, b), max(of_a / max(abs(a), 1e-300), of_b / max(abs(b), 1e-300))
    if off < 1e-2:
        yield from _named(trial, rule, found, off)


@dataclass(frozen=True)
class _Found:
    """What a regression found of the scale."""

    scale: float
    residual: float
    tolerance: float
    precise: float


def _one_sided(
    trial: Trial,
    found: _Found,
    added: float,
    precise: float,
    on_A: bool,
    constant: float,
) -> Iterator[Explanation]:
    """Where one factor is m·I, what was added to it cannot be told from the scale: read with the known rules alone, or
    with another π if then the scale has a name."""
    known = False
    for e_A, e_G in _scales(trial):
        for rule in trial.known_rules(e_A.value, e_G.value):
            if rule.product:
                expected, absorbed = rule.product / constant, constant
            else:
                expected, other = (rule.A, rule.G) if on_A else (rule.G, rule.A)
                absorbed = constant + other
            if expected == 0 or abs(expected - added) > 3 * precise:
                continue
            says = _scaled_factors(trial, rule, e_A, e_G)
            scale = found.scale * absorbed * e_A.value * e_G.value
            read = fits.with_scale(
                says,
                scale,
                found.residual,
                found.tolerance,
                trial.references.symbols(),
                found.precise + precise / expected,
            )
            if read.expression is not None:
                known = True
                yield read
    if not known and added > 0:
        yield from _with_any_pi(trial, found, added, precise / added, on_A, constant)


def _with_any_pi(
    trial: Trial, found: _Found, added: float, precise: float, on_A: bool, constant: float
) -> Iterator[Explanation]:
    """The same with factored Tikhonov damping of a known strength γ and a π that is none of the known ones: what was
    added to one factor gives π, and so what was added to the other."""
    for x in trial.references.dampings().values():
        root = float(np.sqrt(max(x, 0.0)))
        a, b = (added, root**2 / added) if on_A else (root**2 / added, added)
        rule = named_pi(trial.pair, a, b, trial.references.dampings(), max(precise, 1e-9))
        if rule is None:
            continue
        scale = found.scale * (constant + (b if on_A else a))
        read = fits.with_scale(
            said(trial.says, trial.pair, rule),
            scale,
            found.residual,
            found.tolerance,
            trial.references.symbols(),
            found.precise + precise,
        )
        # two numbers are fitted to two where the scale may be any
        if read.expression == "1":
            yield read


def _scales(trial: Trial) -> list[tuple[Expression, Expression]]:
    """Scales that both factors may have."""
    references = trial.references
    usual = expressions.usual(references.symbols())
    scales, N = [e for e in usual if e.cost <= 2], float(references.cases)
    pairs = [(a, g) for a in scales if a.value in (1.0, N, 1 / N) for g in scales]
    return [pair for pair in pairs if pair[0].text == pair[1].text == "1"] if trial.pair.own else pairs


def _scaled_factors(trial: Trial, rule: Rule, e_A: Expression, e_G: Expression) -> Explanation:
    """What is said of a rule for factors of other scales."""
    notes = tuple(f"{n} scaled by {e.text}" for n, e in (("A", e_A), ("G", e_G)) if e.text != "1")
    read = replace(rule, cost=rule.cost + e_A.cost + e_G.cost, expected=rule.expected and not notes)
    return said(replace(trial.says, notes=(*trial.says.notes, *notes)), trial.pair, read)


def _named(trial: Trial, rule: Rule, found: _Found, off: float) -> Iterator[Explanation]:
    """The rule found, read as a known one on factors of another scale where that works, else as it is."""
    symbols = trial.references.symbols()

    def scaled(says: Explanation, factor: float) -> Explanation:
        return fits.with_scale(says, found.scale * factor, found.residual, found.tolerance, symbols, found.precise)

    for e_A, e_G in _scales(trial):
        for known in trial.known_rules(e_A.value, e_G.value):
            if known.text != "none" and alike(known, rule, 3 * off):
                yield scaled(_scaled_factors(trial, known, e_A, e_G), e_A.value * e_G.value)
    pi = named_pi(trial.pair, rule.A, rule.G, trial.references.dampings(), off)
    own = scaled(said(trial.says, trial.pair, pi or rule), 1.0)
    # a strength and a scale that are both unheard of would explain too much
    if own.expression is not None or trial.U.size >= 20:
        yield own
