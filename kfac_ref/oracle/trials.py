"""One explanation of a layer's preconditioned gradient, tried: these factors, damped so, of this gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kfac_ref.oracle import fits
from kfac_ref.oracle.damping_rules import Pair, Rule, rules, scalar
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

FEW_ROWS, NEAR = 24, 0.05
"""Rows and columns that are looked at first, and how near they must be if all are to be looked at."""
PSEUDO = "none (pseudo-inverse)"


@dataclass(frozen=True)
class Trial:
    """One reading U (d, p) of a layer's preconditioned gradient, and factors and a gradient V (d, p) that may explain
    it."""

    U: np.ndarray
    pair: Pair
    V: np.ndarray
    says: Explanation
    """What the reading and the gradient say if they fit."""
    rules: list[Rule]
    """The known ways to damp these factors."""
    tolerance: float
    references: References
    layer: int

    @cached_property
    def rotated(self) -> tuple[np.ndarray, np.ndarray]:
        """U and V (d, p) in the eigenbases of the pair."""
        return self.pair.into(self.U), self.pair.into(self.V)

    @cached_property
    def strongest(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows and columns, at most FEW_ROWS of each, in which U is largest in the eigenbases: (r,) and (c,)."""
        U = np.abs(self.rotated[0])
        return np.argsort(-U.max(axis=1))[:FEW_ROWS], np.argsort(-U.max(axis=0))[:FEW_ROWS]

    def at_a_glance(self, rule: Rule) -> float:
        """How far U is from a multiple of what the rule gives in these; 0 where they are all."""
        rows, columns = self.strongest
        if max(self.U.shape) <= FEW_ROWS:
            return 0.0
        U, V = (x[np.ix_(rows, columns)] for x in self.rotated)
        fit = fits.regress(U, [V / self.pair.denominators(rule, rows, columns)])
        return 0.0 if fit is None else fit[1]

    def known_rules(self, s_A: float, s_G: float) -> Iterator[Rule]:
        """The known ways for factors that are so many times the pair."""
        return rules(self.pair, self.references.dampings(), self.references.case.gamma_used, s_A, s_G)


def tried(trial: Trial, rule: Rule, nameless: bool = False) -> Explanation:
    """Whether U is a multiple of what the rule gives; a multiple without a name only where there are numbers enough, or
    where `nameless` ones will do."""
    pair, says = trial.pair, trial.says
    largest, smallest = pair.range(rule)
    if smallest > 1e-13 * largest:
        off = trial.at_a_glance(rule)
        if off > NEAR:
            return replace(said(says, pair, rule), residual=off)
    denominators = pair.denominators(rule)
    if smallest > 1e-13 * largest:
        reciprocals = 1 / denominators
    elif rule.text == "none":
        # where the inverse does not exist: the pseudo-inverse
        good = denominators > 1e-10 * largest
        reciprocals = np.where(good, 1 / np.where(good, denominators, 1.0), 0.0)
        rule = replace(rule, text=PSEUDO, cost=rule.cost + 0.5)
    else:
        return says
    U, V = trial.rotated
    if not np.any(trial.U) and not np.any(trial.V):
        return replace(said(says, pair, rule), scale=1.0, expression="1", residual=0.0, tolerance=trial.tolerance)
    fit = fits.regress(U, [V * reciprocals])
    if fit is None:
        return says
    (c,), residual = fit
    tolerance = fits.conditioned(trial.tolerance, largest * float(reciprocals.max()) / 100)
    found = fits.with_scale(said(says, pair, rule), c, residual, tolerance, trial.references.symbols(trial.layer))
    # with a factor that is m·I, a constant without a name may stand for any damping of it
    loose = rule.text == PSEUDO or U.size < 6 or scalar(pair.G) is not None or scalar(pair.A) is not None
    return says if found.expression is None and loose and not nameless else found


def said(says: Explanation, pair: Pair, rule: Rule) -> Explanation:
    """What the reading says, and with it what the pair of factors and the rule say."""
    values = (rule.product,) if rule.product else (rule.A, rule.G)
    exact = pair.says.fisher == "exact" and not pair.own
    return replace(
        says,
        fisher=pair.says.fisher,
        sharing=pair.says.sharing,
        samples=pair.says.samples,
        notes=(*says.notes, *pair.says.notes),
        damping=rule.text,
        damping_values=tuple(float(v) for v in values),
        cost=says.cost + pair.says.cost + rule.cost,
        expected=says.expected and exact and rule.expected,
    )
