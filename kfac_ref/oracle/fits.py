"""Fitting theirs = c·B (+ b·I): which matrices B explain a symmetric matrix to rounding, and under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kfac_ref.oracle import expressions
from kfac_ref.oracle.expressions import NAMELESS, Symbols
from kfac_ref.oracle.verdict import Explanation

FLOAT64 = 1e-9
"""What rounding in float64 may do to a result, relative to its norm."""
FLOAT32 = 1e-5
"""The same in float32."""
WORST = (1e-7, 1e-4)
"""What it may do at most, in float64 and in float32, where a result is sensitive to rounding."""


def conditioned(tolerance: float, condition: float) -> float:
    """What rounding may do to a result that is `condition` times as sensitive: bounded, as a claim that fits loosely is
    none, and what lies beyond the bound is left unexplained."""
    return min(tolerance * max(1.0, condition), WORST[tolerance >= FLOAT32])


@dataclass(frozen=True)
class Candidate:
    """A matrix (n, n) or (d, p) that theirs may be a multiple of, and what is to be said of it if so."""

    matrix: np.ndarray
    says: Explanation
    """Everything but scale, residual and tolerance."""


def claim(cost: float = 0.0, **attributes: Any) -> Explanation:
    """What a candidate says if it fits."""
    return Explanation(residual=np.inf, tolerance=0.0, cost=cost, **attributes)


def rounding(x: np.ndarray) -> float:
    """What rounding may have done to `x`, of any shape, relative to its norm: by its dtype, or where every number in it
    is one of float32, by that."""
    single = x.dtype == np.float32 or (
        bool(np.any(x)) and not np.array_equal(x, np.round(x)) and np.array_equal(x, x.astype(np.float32))
    )
    return FLOAT32 if single else FLOAT64


def regress(target: np.ndarray, regressors: Sequence[np.ndarray]) -> tuple[np.ndarray, float] | None:
    """Least-squares coefficients (r,) of `target` (…) on r `regressors`, all of its shape, and the relative residual;
    None where the regressors are (nearly) dependent or zero."""
    columns = [np.ravel(r).astype(np.float64, copy=False) for r in regressors]
    y = np.ravel(target).astype(np.float64, copy=False)
    largest = float(np.max(np.abs(y), initial=0.0))
    if largest > 0:
        # so that squares neither overflow nor vanish
        fit = _regress(y / largest, columns)
        return None if fit is None else (fit[0] * largest, fit[1])
    return None


def _regress(y: np.ndarray, columns: list[np.ndarray]) -> tuple[np.ndarray, float] | None:
    norms = np.array([np.linalg.norm(c) for c in columns])
    size = np.linalg.norm(y)
    if not np.all(norms > 0) or size == 0 or y.size < len(columns):
        return None
    if len(columns) == 1:
        coefficients = np.array([columns[0] @ y / norms[0] ** 2])
    else:
        # orthogonal directions of the regressors, by which few of them are told from dependent ones
        Q, R = np.linalg.qr(np.stack([c / n for c, n in zip(columns, norms, strict=True)], axis=1))
        if np.min(np.abs(np.diag(R))) < 1e-7:
            return None
        coefficients = np.linalg.solve(R, Q.T @ y) / norms
    fitted = sum(c * column for c, column in zip(coefficients, columns, strict=True))
    return coefficients, float(np.linalg.norm(y - fitted) / size)


def scaled(
    theirs: np.ndarray,
    candidates: Sequence[Candidate],
    symbols: Symbols,
    unknowns: int | None = None,
    dtype_of: np.ndarray | None = None,
) -> list[Explanation]:
    """An explanation theirs = c·B for each candidate of their shape, whether it fits or not.

    A scale without a name is claimed only if it is overdetermined: `unknowns` is how many independent numbers theirs
    holds (default: those of a symmetric matrix). `dtype_of` is theirs as it was, of any shape, if it was brought into
    another form.
    """
    tolerance, found = rounding(theirs if dtype_of is None else dtype_of), []
    n = theirs.shape[0]
    independent = n * (n + 1) // 2 if unknowns is None else unknowns
    for candidate in candidates:
        if candidate.matrix.shape != theirs.shape:
            continue
        if not np.any(theirs):
            # nothing but what is zero itself explains zeros
            if not np.any(candidate.matrix):
                found.append(replace(candidate.says, scale=1.0, expression="1", residual=0.0, tolerance=tolerance))
            continue
        fit = regress(theirs, [candidate.matrix])
        if fit is None:
            continue
        (c,), residual = fit
        if _is_diagonal(candidate.matrix) and not _is_diagonal(theirs):
            # what is not exactly diagonal is the identity and something else besides
            residual = max(residual, 2 * tolerance)
        # of a single number rounding may have taken more
        precise = None if independent > 1 else tolerance
        explained = with_scale(candidate.says, c, residual, tolerance, symbols, precise)
        if explained.expression is None and independent < 2:
            explained = replace(explained, residual=np.inf)
        found.append(explained)
    return found


def _is_diagonal(M: np.ndarray) -> bool:
    return not np.any(M[~np.eye(len(M), dtype=bool)]) if M.ndim == 2 and M.shape[0] == M.shape[1] else False


def averaged_or_damped(
    theirs: np.ndarray,
    candidates: Sequence[Candidate],
    symbols: Symbols,
    dampings: Mapping[str, float],
) -> list[Explanation]:
    """An explanation theirs (n, n) = c·B + b·I for each candidate: a running average from the identity, or damping.

    Parameters
    ----------
    dampings : mapping from names to values that b may have
    """
    tolerance, found, n = rounding(theirs), [], theirs.shape[0]
    if n < 2:
        return []
    # off the diagonal theirs is c·B alone, known to its own digits however large b·I is
    off, on = ~np.eye(n, dtype=bool), np.eye(n, dtype=bool)
    T, size = theirs.astype(np.float64), np.linalg.norm(theirs)
    for candidate in candidates:
        B = candidate.matrix
        if B.shape != T.shape or candidate.says.fisher == "identity":
            continue
        fit = regress(T[off], [B[off]])
        if fit is None or np.linalg.norm(B[off]) < 1e-3 * np.linalg.norm(B) or n < 3:
            fit = _with_diagonal(T, B)
            if fit is None:
                continue
        (c,), residual = fit
        rest = T[on] - c * B[on]
        b = float(np.mean(rest))
        unlike = float(np.linalg.norm(rest - b) / size)
        part = abs(b) * np.sqrt(n) / size
        if residual > tolerance or unlike > tolerance or part < max(tolerance / 10, 30 * unlike):
            continue
        of_c = precision(residual, tolerance)
        of_b = precision(unlike, tolerance) / part + of_c * abs(c) * float(np.mean(np.abs(B[on]))) / abs(b)
        says, both = candidate.says, max(residual, unlike)
        read = _with_identity(says, float(c), b, both, tolerance, symbols, dampings, (of_c, of_b))
        if read is not None and (n > 2 or not _is_guess(read)):
            found.append(read)
    return found


def _with_diagonal(T: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The coefficient of B when T is regressed on B and I, and the residual relative to that part."""
    fit = regress(T, [B, np.eye(len(T))])
    if fit is None:
        return None
    (c, _), residual = fit
    part = abs(c) * np.linalg.norm(B) / np.linalg.norm(T)
    return np.array([c]), float(residual / max(part, 1e-300))


def precision(residual: float, tolerance: float) -> float:
    """How well a coefficient is known, relatively, that was fitted with this residual."""
    return 5 * residual + tolerance / 10


def with_scale(
    says: Explanation,
    c: float,
    residual: float,
    tolerance: float,
    symbols: Symbols,
    precise: float | None = None,
) -> Explanation:
    """What `says` with the scale c, and the name of c if it has one; c is known to a relative precision `precise`
    (default: that of a single coefficient)."""
    name = None
    if residual <= tolerance:
        name = expressions.named(c, symbols, precision(residual, tolerance) if precise is None else precise)
    if name is not None:
        says = replace(says, scale=name.value, expression=name.text, cost=says.cost + name.cost)
    else:
        says = replace(says, scale=float(c), cost=says.cost + NAMELESS)
    return replace(says, residual=residual, tolerance=tolerance)


def _with_identity(
    says: Explanation,
    c: float,
    b: float,
    residual: float,
    tolerance: float,
    symbols: Symbols,
    dampings: Mapping[str, float],
    precise: tuple[float, float],
) -> Explanation | None:
    """The simplest reading of c·B + b·I, the coefficients being known to these relative precisions."""
    of_c, of_b = precise
    readings = []
    for name, value in dampings.items():
        if abs(b - value) <= of_b * abs(value):
            damped = replace(says, damping=f"{name} added to the diagonal", damping_values=(float(b),), expected=False)
            readings.append(with_scale(replace(damped, cost=damped.cost + 1), c, residual, tolerance, symbols, of_c))
    decay = expressions.decay_of(b, of_b)
    if decay is not None:
        usual = expressions.is_usual(decay)
        averaged = replace(says, history=decay, start="identity", cost=says.cost + (1.5 if usual else 4.0))
        s = c / (1 - decay.weight)
        readings.append(with_scale(averaged, s, residual, tolerance, symbols, of_c + (0 if usual else of_b)))
    if b > 0:
        text = f"{b:.6g} added to the diagonal"
        anything = replace(says, damping=text, damping_values=(b,), cost=says.cost + 5, expected=False)
        readings.append(with_scale(anything, c, residual, tolerance, symbols, of_c))
    return min(readings, key=lambda e: e.cost, default=None)


def _is_guess(read: Explanation) -> bool:
    """Whether two numbers that nothing else is known of explain the three of a (2, 2) matrix."""
    free = read.expression is None, read.history is not None and not expressions.is_usual(read.history)
    return any(free) or (read.damping or "x")[0].isdigit()


def from_zero(explanation: Explanation, symbols: Symbols) -> Explanation:
    """The same scale read as (1 − ε^k) × a simple one, if that is a simpler reading."""
    if explanation.scale is None or not explanation.fits:
        return explanation
    precise = precision(explanation.residual, explanation.tolerance)
    name = expressions.named(explanation.scale, symbols, precise)
    bare = explanation.cost - (NAMELESS if name is None else name.cost)
    best = explanation
    for whole in expressions.usual(symbols):
        remainder = 1 - explanation.scale / whole.value
        decay = expressions.start_of(remainder, precise) if whole.cost <= 1.5 else None
        if decay is None:
            continue
        cost = bare + 2.0 + whole.cost + 0.1 * (decay.updates - 1)
        if cost < best.cost:
            text = f"(1-{decay})" + ("" if whole.text == "1" else f"*{whole.text}")
            best = replace(explanation, expression=text, nearest=None, history=decay, start="zero", cost=cost)
    return best
