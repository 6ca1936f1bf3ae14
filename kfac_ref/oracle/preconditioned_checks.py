"""What somebody else's preconditioned gradient is: which factors, damped how, of which gradient.

With U = c (G + bI)⁻¹ V (A + aI)⁻¹, V = p₀ GUA + p₁ UA + p₂ GU + p₃ U where p = (1, b, a, ab)/c; with the exact damped
inverse of the product, U = c (A⊗G + λI)⁻¹ V, it is p = (1, 0, 0, λ)/c. So one linear regression finds out how U was
damped, whatever the strength; the known strengths are tried first, one by one, as they need no regression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from kfac_ref.oracle import expressions, fits
from kfac_ref.oracle.damping_rules import Pair, Rule, alike, of_unknown_strength, rules, scalar
from kfac_ref.oracle.expressions import Expression
from kfac_ref.oracle.factor_checks import FISHERS
from kfac_ref.oracle.fits import claim
from kfac_ref.oracle.gradient_checks import part_of
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

WORST = 1e-2
"""No fit is claimed whose residual may be larger than this, however ill-conditioned the inverse."""
OWN_FACTORS = "with their own factors"
FEW = 8
"""Fewer numbers than this are not regressed on four terms."""


@dataclass(frozen=True)
class Problem:
    """One layer's preconditioned gradient in one reading."""

    U: np.ndarray
    tolerance: float
    references: References
    layer: int


def explain_preconditioned(
    readings: Iterable[Arrangement],
    layer: int,
    references: References,
    tolerance: float,
    part: str = "",
    own: tuple[np.ndarray, np.ndarray, Explanation] | None = None,
) -> list[Explanation]:
    """Explanations of a layer's preconditioned gradient (its weights' or bias's part).

    Parameters
    ----------
    readings : the ways to read theirs
    tolerance : what rounding may have done to it
    own : their own A, in the project's layout, and G for this layer, and what was found of that G
    """
    trials = [
        (problem, pair, V, says, a)
        for a in readings
        for problem in [Problem(a.matrix, tolerance, references, layer)]
        for pair in _pairs(a, layer, references, part, own)
        for V, says in _gradients(a, layer, references, part)
    ]
    ways: dict[int, list[Rule]] = {}

    def known(problem: Problem, pair: Pair, V: np.ndarray, says: Explanation, a: Arrangement) -> list[Explanation]:
        if id(pair) not in ways:
            ways[id(pair)] = list(rules(pair, references.dampings(), references.case.gamma_used))
            if part == "bias":
                ways[id(pair)] += _as_weights(pair, layer, references, own)
        return [_tried(problem, pair, V, says, rule) for rule in ways[id(pair)]]

    def unknown(problem: Problem, pair: Pair, V: np.ndarray, says: Explanation, a: Arrangement) -> list[Explanation]:
        few = a.matrix.size < FEW
        return list(_tiny(problem, pair, V, says) if few else _regressed(problem, pair, V, says))

    found = [e for trial in trials for e in known(*trial)]
    # what is known to be done comes first; what is left is searched for only where that does not explain theirs
    if not any(e.fits and e.expression is not None for e in found):
        found += [e for trial in trials for e in unknown(*trial)]
    return [replace(e, tolerance=min(e.tolerance, WORST)) for e in found]


def _as_weights(
    pair: Pair, layer: int, references: References, own: tuple[np.ndarray, np.ndarray, Explanation] | None
) -> Iterator[Rule]:
    """The rules by which a bias's block, G alone, is damped as the G of the weights' block is."""
    A = references.A(layer)[:-1, :-1] if not pair.own or own is None else own[0]
    for rule in rules(Pair(A, pair.G, pair.says), references.dampings(), references.case.gamma_used):
        if rule.G and " pi " in rule.text:
            text = f"{rule.text}, as the G of the weights' block"
            yield Rule(text, 0.0, rule.G, cost=rule.cost + 0.8)


def _gradients(
    a: Arrangement, layer: int, references: References, part: str
) -> Iterator[tuple[np.ndarray, Explanation]]:
    for V, notes, cost in references.gradients:
        expected = a.own and part == "" and not notes
        says = claim(bias=a.bias, layout=a.layout, notes=notes, cost=a.cost + cost, expected=expected)
        yield part_of(V[layer - 1], a.matrix.shape[1], part), says


def _pairs(
    a: Arrangement,
    layer: int,
    references: References,
    part: str,
    own: tuple[np.ndarray, np.ndarray, Explanation] | None,
) -> Iterator[Pair]:
    columns = a.matrix.shape[1]
    A = references.A(layer)
    A = np.ones((1, 1)) if part == "bias" else A[:columns, :columns]
    for kind in references.kinds:
        yield Pair(A, references.G(layer, kind), claim(fisher=FISHERS[kind], cost=0.0 if kind == "exact" else 0.4))
    yield Pair(A, np.eye(a.matrix.shape[0]), claim(fisher="identity", cost=0.4))
    if own is not None and own[1].shape[0] == a.matrix.shape[0]:
        A_own = np.ones((1, 1)) if part == "bias" else own[0]
        if A_own.shape[0] == columns:
            notes = (OWN_FACTORS,)
            yield Pair(A_own, own[1], claim(fisher=own[2].fisher, samples=own[2].samples, notes=notes, cost=1.0), True)


def _tried(
    problem: Problem, pair: Pair, V: np.ndarray, says: Explanation, rule: Rule, nameless: bool = False
) -> Explanation:
    """Whether U is a multiple of what the rule gives; a multiple without a name only where there are numbers enough, or
    where `nameless` ones will do."""
    denominators = pair.denominators(rule)
    largest = float(denominators.max())
    says = _said(says, pair, rule)
    if float(denominators.min()) <= 1e-13 * largest:
        if rule.text != "none":
            return says
        # where the inverse does not exist: the pseudo-inverse
        good = denominators > 1e-10 * largest
        reciprocals = np.where(good, 1 / np.where(good, denominators, 1.0), 0.0)
        says = replace(says, damping="none (pseudo-inverse)", cost=says.cost + 0.5)
    else:
        reciprocals = 1 / denominators
    condition = largest * float(reciprocals.max())
    U = pair.into(problem.U)
    fit = fits.regress(U, [pair.into(V) * reciprocals])
    if fit is None:
        return says
    (c,), residual = fit
    tolerance = problem.tolerance * max(1.0, condition / 100)
    found = fits.with_scale(says, c, residual, tolerance, problem.references.symbols(problem.layer))
    # with a factor that is m·I, a constant without a name may stand for any damping of it
    loose = U.size < 6 or scalar(pair.G) is not None or scalar(pair.A) is not None
    return says if found.expression is None and loose and not nameless else found


def _tiny(problem: Problem, pair: Pair, V: np.ndarray, says: Explanation) -> Iterator[Explanation]:
    """Too few numbers for a regression: the known rules on factors of other scales, one by one."""
    references = problem.references
    for e_A, e_G in _scales(problem, pair):
        for rule in rules(pair, references.dampings(), references.case.gamma_used, e_A.value, e_G.value):
            if (e_A.text, e_G.text) == ("1", "1") or rule.text == "none":
                continue
            tried = _tried(problem, pair, V, says, rule, nameless=True)
            if not tried.fits or tried.scale is None:
                continue
            said = _scaled_factors(says, pair, rule, e_A, e_G)
            scale = tried.scale * e_A.value * e_G.value
            read = fits.with_scale(said, scale, tried.residual, tried.tolerance, references.symbols())
            if read.expression is not None:
                yield read


def _said(says: Explanation, pair: Pair, rule: Rule) -> Explanation:
    values = (rule.product,) if rule.product else (rule.A, rule.G)
    exact = pair.says.fisher == "exact" and not pair.own
    return replace(
        says,
        fisher=pair.says.fisher,
        samples=pair.says.samples,
        notes=(*says.notes, *pair.says.notes),
        damping=rule.text,
        damping_values=tuple(float(v) for v in values),
        cost=says.cost + pair.says.cost + rule.cost,
        expected=says.expected and exact and rule.expected,
    )


def _regressed(problem: Problem, pair: Pair, V: np.ndarray, says: Explanation) -> Iterator[Explanation]:
    """U with a damping of unknown strength, or with factors of another scale."""
    U, A, G = problem.U, pair.A, pair.G
    scalar_A, scalar_G = scalar(A), scalar(G)
    if scalar_A is not None and scalar_G is not None:
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
    tolerance = problem.tolerance * max(1.0, float(weights.sum()))
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
            yield from _one_sided(problem, pair, says, found, ratios[1], precise[1], on_A, constant)
        return
    b, a, ab = ratios[1:]
    of_b, of_a, of_ab = precise[1:]
    if abs(b) <= 3 * of_b and abs(a) <= 3 * of_a:
        if ab <= 3 * of_ab:
            return
        rule, off = Rule(f"{ab:.6g} on the product", 0.0, 0.0, ab, cost=5.0), of_ab / abs(ab)
    else:
        if abs(ab - a * b) > 5 * (of_ab + abs(a) * of_b + abs(b) * of_a) or min(a, b) < -3 * max(of_a, of_b):
            return
        rule, off = of_unknown_strength(pair, a, b), max(of_a / max(abs(a), 1e-300), of_b / max(abs(b), 1e-300))
    if off < 1e-2:
        yield from _named(problem, pair, says, rule, found, off)


@dataclass(frozen=True)
class _Found:
    """What a regression found of the scale."""

    scale: float
    residual: float
    tolerance: float
    precise: float


def _one_sided(
    problem: Problem,
    pair: Pair,
    says: Explanation,
    found: _Found,
    added: float,
    precise: float,
    on_A: bool,
    constant: float,
) -> Iterator[Explanation]:
    """Where one factor is m·I, what was added to it cannot be told from the scale: read with the known rules alone."""
    references = problem.references
    for e_A, e_G in _scales(problem, pair):
        for rule in rules(pair, references.dampings(), references.case.gamma_used, e_A.value, e_G.value):
            if rule.product:
                expected, absorbed = rule.product / constant, constant
            else:
                expected, other = (rule.A, rule.G) if on_A else (rule.G, rule.A)
                absorbed = constant + other
            if expected == 0 or abs(expected - added) > 3 * precise:
                continue
            said = _scaled_factors(says, pair, rule, e_A, e_G)
            scale = found.scale * absorbed * e_A.value * e_G.value
            read = fits.with_scale(
                said, scale, found.residual, found.tolerance, references.symbols(), found.precise + precise / expected
            )
            if read.expression is not None:
                yield read


def _scales(problem: Problem, pair: Pair) -> list[tuple[Expression, Expression]]:
    """Scales that both factors may have."""
    references = problem.references
    usual = expressions.usual(references.symbols())
    scales, N = [e for e in usual if e.cost <= 2], float(references.cases)
    pairs = [(a, g) for a in scales if a.value in (1.0, N, 1 / N) for g in scales]
    return [pair for pair in pairs if pair[0].text == pair[1].text == "1"] if pair.own else pairs


def _scaled_factors(says: Explanation, pair: Pair, rule: Rule, e_A: Expression, e_G: Expression) -> Explanation:
    notes = tuple(f"{n} scaled by {e.text}" for n, e in (("A", e_A), ("G", e_G)) if e.text != "1")
    read = replace(rule, cost=rule.cost + e_A.cost + e_G.cost, expected=rule.expected and not notes)
    return _said(replace(says, notes=(*says.notes, *notes)), pair, read)


def _named(
    problem: Problem, pair: Pair, says: Explanation, rule: Rule, found: _Found, off: float
) -> Iterator[Explanation]:
    """The rule found, read as a known one on factors of another scale where that works, else as it is."""
    references = problem.references
    symbols = references.symbols()

    def scaled(said: Explanation, factor: float) -> Explanation:
        return fits.with_scale(said, found.scale * factor, found.residual, found.tolerance, symbols, found.precise)

    for e_A, e_G in _scales(problem, pair):
        for known in rules(pair, references.dampings(), references.case.gamma_used, e_A.value, e_G.value):
            if known.text != "none" and alike(known, rule, 3 * off):
                yield scaled(_scaled_factors(says, pair, known, e_A, e_G), e_A.value * e_G.value)
    own = scaled(_said(says, pair, rule), 1.0)
    # a strength and a scale that are both unheard of would explain too much
    if own.expression is not None or problem.U.size >= 20:
        yield own
