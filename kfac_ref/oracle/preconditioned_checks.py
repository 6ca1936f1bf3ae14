"""What somebody else's preconditioned gradient is: which factors, damped how, of which gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from kfac_ref.oracle import fits
from kfac_ref.oracle.damping_rules import Pair, Rule, rules
from kfac_ref.oracle.fits import claim
from kfac_ref.oracle.gradient_checks import part_of
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.references import FISHERS, SHARINGS, References, dear
from kfac_ref.oracle.searches import searched
from kfac_ref.oracle.small_blocks import through_small_blocks
from kfac_ref.oracle.trials import Trial, tried
from kfac_ref.oracle.verdict import Explanation

OWN_FACTORS = "with their own factors"


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
    own : their own A (p, p), in the project's layout, and G (d, d) for this layer, and what was found of that G
    """
    readings = list(readings)
    trials: list[Trial] = []
    found: list[Explanation] = []
    if not references.kronecker(layer):
        found += through_small_blocks(readings, layer, references, tolerance, part)
    for a in readings:
        found += [
            _not_preconditioned(a, V, says, references, tolerance) for V, says in _gradients(a, layer, references, part)
        ]
        for pair in _pairs(a, layer, references, part, own):
            ways = list(rules(pair, references.dampings(), references.case.gamma_used))
            if part == "bias":
                ways += _as_weights(pair, layer, references, own)
            for V, says in _gradients(a, layer, references, part):
                trials.append(Trial(a.matrix, pair, V, says, ways, tolerance, references, layer))
    found += [tried(trial, rule) for trial in trials for rule in trial.rules]
    # what is known to be done comes first; what is left is searched for only where that does not explain theirs
    if not any(e.fits and e.expression is not None for e in found):
        for trial in trials:
            found += searched(trial)
    return found


def _not_preconditioned(
    a: Arrangement, V: np.ndarray, says: Explanation, references: References, tolerance: float
) -> Explanation:
    """U as the gradient itself."""
    note = "the gradient itself, not preconditioned"
    says = replace(says, notes=(note, *says.notes), cost=says.cost + 0.2, expected=False)
    fit = fits.regress(a.matrix, [V])
    if fit is None or a.matrix.size < 2:
        return says
    return fits.with_scale(says, fit[0][0], fit[1], tolerance, references.symbols())


def _as_weights(
    pair: Pair, layer: int, references: References, own: tuple[np.ndarray, np.ndarray, Explanation] | None
) -> Iterator[Rule]:
    """The rules by which a bias's block, G alone, is damped as the G of the weights' block is."""
    A = references.A(layer, pair.says.sharing)[:-1, :-1] if not pair.own or own is None else own[0]
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
    for sharing in references.sharings(layer) if references.kronecker(layer) else []:
        A, far = references.A(layer, sharing), SHARINGS.get(sharing or "", 0.0)
        A = np.ones((1, 1)) if part == "bias" else A[:columns, :columns]
        for kind in references.kinds:
            says = claim(fisher=FISHERS[kind], sharing=sharing, cost=dear(kind) + far)
            yield Pair(A, references.G(layer, kind, sharing), says)
        yield Pair(A, np.eye(a.matrix.shape[0]), claim(fisher="identity", sharing=sharing, cost=0.4 + far))
    if own is not None and own[1].shape[0] == a.matrix.shape[0]:
        A_own = np.ones((1, 1)) if part == "bias" else own[0]
        if A_own.shape[0] == columns:
            notes = (OWN_FACTORS,)
            yield Pair(A_own, own[1], claim(fisher=own[2].fisher, samples=own[2].samples, notes=notes, cost=1.0), True)
