"""Preconditioned gradients of all layers together: slips that are one and the same in each of them.

U_i = c (P_i(V_i) + b P_i(W_i)), P_i the damped inverse by a known rule: c, and the weight decay b, are the same for all
layers, so two numbers must explain all of theirs. Looked for only where layer by layer nothing with a name does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kfac_ref.oracle import expressions, fits
from kfac_ref.oracle.clips import named_clip
from kfac_ref.oracle.damping_rules import Pair, Rule, rules
from kfac_ref.oracle.fits import claim
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.order_slips import changed, moment
from kfac_ref.oracle.pi_slips import network_pis, pi_rules
from kfac_ref.oracle.places import Rows, activity_rows, derivative_rows
from kfac_ref.oracle.references import FISHERS, References, dear
from kfac_ref.oracle.trials import said
from kfac_ref.oracle.verdict import Explanation

FEW = 12
"""Rows and columns of each layer that are looked at first."""
SLACK = 30.0
"""How many times what all may be off these may be, if all is to be looked at."""
LEAST = 8
"""How many numbers theirs must hold at least, a scale without a name being claimed."""
Matrices = Mapping[int, np.ndarray]
"""By layer."""
Readings = Mapping[int, Arrangement]
"""Of every layer that is there, its preconditioned gradient in one way."""


@dataclass(frozen=True)
class Factors:
    """Factors of all layers, those that are theirs and others, and what is to be said of them."""

    pairs: dict[int, Pair]
    says: Explanation
    slip: bool = False
    """Whether there is a slip in them."""


Made = Callable[[Matrices, Matrices, Explanation, bool], Factors]
"""Factors from A, G, what is to be said of them, and whether there is a slip in them."""


@dataclass(frozen=True)
class Added:
    """What may have been added to a gradient or to the result, times a constant to be found."""

    text: str
    before: bool
    biases: bool
    cost: float


ADDED = (
    Added("*theta added to the gradient before it was preconditioned (weight decay)", True, True, 1.8),
    Added("*theta, not of biases, added to the gradient before it was preconditioned (weight decay)", True, False, 2.2),
    Added("*theta added to the result (decoupled weight decay)", False, True, 2.2),
    Added("*theta, not of biases, added to the result (decoupled weight decay)", False, False, 2.5),
)


def explain_together(
    ways: Sequence[Readings], references: References, tolerance: float
) -> dict[int, list[Explanation]]:
    """Explanations that fit, by layer.

    Parameters
    ----------
    ways : the ways in which all layers can be read alike
    tolerance : what rounding may have done
    """
    found: dict[int, list[Explanation]] = {i: [] for way in ways for i in way}
    for way in ways:
        columns = {i: a.matrix.shape[1] for i, a in way.items()}
        for factors in _factors(references, columns):
            for i, more in _Together(way, factors, references, tolerance).found().items():
                found[i] += more
    return found


class _Together:
    """One reading of all layers, with one kind of factors."""

    def __init__(self, way: Readings, factors: Factors, references: References, tolerance: float) -> None:
        self.way, self.factors, self.references, self.tolerance = way, factors, references, tolerance
        self.layers = list(way)
        self.U = self._into([a.matrix for a in way.values()])
        self.sizes = [max(float(np.linalg.norm(u)), 1e-300) for u in self.U]
        strong = [np.abs(u) for u in self.U]
        # of each layer the rows and columns in which it is largest
        self.some = [np.ix_(np.argsort(-s.max(1))[:FEW], np.argsort(-s.max(0))[:FEW]) for s in strong]
        everything = references.dampings()
        self.network = network_pis([factors.pairs[i] for i in range(1, references.layers + 1)])
        known = [
            {
                rule.text: rule
                for rule in (
                    *rules(pair, everything, references.case.gamma_used),
                    *pi_rules(pair, everything, self.network),
                )
            }
            for pair in (factors.pairs[i] for i in self.layers)
        ]
        # by each rule that all layers have
        self.ways = [[of[text] for of in known] for text in known[0] if all(text in of for of in known)]

    def _into(self, matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of the layers that are there, in the eigenbases."""
        pairs = (self.factors.pairs[i] for i in self.layers)
        return [pair.into(M) for pair, M in zip(pairs, matrices, strict=True)]

    def _of_layers(self, all_layers: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._into([all_layers[i - 1][:, : self.way[i].matrix.shape[1]] for i in self.layers])

    def found(self) -> dict[int, list[Explanation]]:
        found: dict[int, list[Explanation]] = {i: [] for i in self.layers}
        if sum(u.size for u in self.U) < LEAST or min(map(np.linalg.norm, self.U)) == 0:
            return found
        biased = [W.copy() for W in self.references.case.parameters]
        for W in biased:
            W[:, -1] = 0
        W, W_0 = self._of_layers(self.references.case.parameters), self._of_layers(biased)
        loss = self._of_layers(self.references.gradient)
        ways = self.ways
        denominators = [self._denominators(these) for these in ways]
        good = [k for k, D in enumerate(denominators) if self._condition(D) < 1e10]
        few = np.stack([self._few(denominators[k]) for k in good])
        y = self._few(self.U, scaled=True)
        allowed = np.array([fits.conditioned(self.tolerance, self._condition(denominators[k]) / 100) for k in good])
        for V, notes, cost in self.references.gradients:
            v = self._of_layers(V)
            for j in np.flatnonzero(_off(y, self._few(v, scaled=True) / few) <= SLACK * allowed):
                D = denominators[good[j]]
                P = [x / d for x, d in zip(v, D, strict=True)]
                self._scaled(found, ways[good[j]], P, V, notes, cost, float(allowed[j]))
        for added in ADDED if not self.factors.slip else ():
            w = W if added.biases else W_0
            Q_few = self._few(w, scaled=True) / (few if added.before else np.ones_like(few))
            for j in np.flatnonzero(_off(y, self._few(loss, scaled=True) / few, Q_few) <= SLACK * allowed):
                D = denominators[good[j]]
                P = [x / d for x, d in zip(loss, D, strict=True)]
                Q = [x / d for x, d in zip(w, D, strict=True)] if added.before else w
                self._decayed(found, ways[good[j]], P, Q, added, float(allowed[j]))
        return found

    def _denominators(self, these: Sequence[Rule]) -> list[np.ndarray]:
        return [self.factors.pairs[i].denominators(rule) for i, rule in zip(self.layers, these, strict=True)]

    def _condition(self, D: Sequence[np.ndarray]) -> float:
        return max(float(np.max(d) / max(np.min(d), 1e-300)) for d in D)

    def _few(self, matrices: Sequence[np.ndarray], scaled: bool = False) -> np.ndarray:
        """The entries of each layer that are looked at first, over the size of theirs if `scaled`."""
        sizes = self.sizes if scaled else [1.0] * len(self.U)
        return np.concatenate([(M[k] / s).ravel() for M, k, s in zip(matrices, self.some, sizes, strict=True)])

    def _regressed(
        self, terms: Sequence[Sequence[np.ndarray]], allowed: float
    ) -> tuple[np.ndarray, list[float]] | None:
        """Coefficients of the terms, common to all layers, and the residual of each layer; None if they do not fit."""
        y = np.concatenate([(u / s).ravel() for u, s in zip(self.U, self.sizes, strict=True)])
        X = [np.concatenate([(t / s).ravel() for t, s in zip(term, self.sizes, strict=True)]) for term in terms]
        fit = fits.regress(y, X)
        if fit is None or fit[1] > allowed:
            return None
        coefficients = fit[0]
        off = []
        for k, (u, size) in enumerate(zip(self.U, self.sizes, strict=True)):
            made = sum(c * term[k] for c, term in zip(coefficients, terms, strict=True))
            off.append(float(np.linalg.norm(u - made)) / size)
        return (coefficients, off) if max(off) <= allowed else None

    def _scaled(
        self,
        found: dict[int, list[Explanation]],
        these: Sequence[Rule],
        P: list[np.ndarray],
        V: Sequence[np.ndarray],
        notes: tuple[str, ...],
        cost: float,
        allowed: float,
    ) -> None:
        """U = c P(V)."""
        fit = self._regressed([P], allowed)
        if fit is None:
            return
        c, off = float(fit[0][0]), fit[1]
        symbols = self.references.symbols()
        name = expressions.named(c, symbols, fits.precision(max(off), self.tolerance))
        more: tuple[str, ...] = ()
        if name is None:
            more = (self._clipped(c, these, V, max(off)),)
        for k, i in enumerate(self.layers):
            says = self._says(i, these[k], notes + more, cost + (2.0 if name is None else name.cost))
            scaled = replace(says, scale=name.value if name else c, expression=name.text if name else None)
            found[i].append(scaled.within(off[k], allowed))

    def _clipped(self, c: float, these: Sequence[Rule], V: Sequence[np.ndarray], off: float) -> str:
        """What a scale without a name, common to all layers, may be."""
        if len(self.layers) < self.references.layers:
            return "one factor for all layers"
        directions = []
        for i, rule in zip(self.layers, these, strict=True):
            pair = self.factors.pairs[i]
            cut = V[i - 1][:, : self.way[i].matrix.shape[1]]
            directions.append(pair.U_G @ (pair.into(cut) / pair.denominators(rule)) @ pair.U_A.T)
        if any(u.shape != v.shape for u, v in zip(directions, V, strict=True)):
            return "one factor for all layers"
        precise = fits.precision(off, self.tolerance)
        return named_clip(c, directions, V, self.references, precise)

    def _decayed(
        self,
        found: dict[int, list[Explanation]],
        these: Sequence[Rule],
        P: list[np.ndarray],
        Q: list[np.ndarray],
        added: Added,
        allowed: float,
    ) -> None:
        """U = c P(V) + b Q."""
        fit = self._regressed([P, Q], allowed)
        if fit is None or sum(u.size for u in self.U) < 2 * LEAST:
            return
        (c, b), off = fit
        parts = [
            min(abs(x) * float(np.linalg.norm(t)) / s for t, s in zip(term, self.sizes, strict=True))
            for x, term in ((c, P), (b, Q))
        ]
        if min(parts) < 30 * allowed:
            return
        symbols, precise = self.references.symbols(), fits.precision(max(off), self.tolerance) / min(parts)
        name = expressions.named(float(c), symbols, precise)
        if name is None:
            return
        value = float(b / name.value) if added.before else float(b)
        eta = self.references.case.eta
        if eta and added.before and added.biases and abs(value / eta - 1) < 1e-4:
            return
        notes = (f"{value:.{3 if precise > 1e-6 else 6}g}{added.text}",)
        for k, i in enumerate(self.layers):
            says = self._says(i, these[k], notes, added.cost + name.cost)
            found[i].append(replace(says, scale=name.value, expression=name.text, added=value).within(off[k], allowed))

    def _says(self, layer: int, rule: Rule, notes: tuple[str, ...], cost: float) -> Explanation:
        a, pair = self.way[layer], self.factors.pairs[layer]
        laid_out = claim(bias=a.bias, layout=a.layout, notes=notes, cost=a.cost + cost)
        says = said(laid_out, pair, rule)
        place, order = self.factors.says.place, self.factors.says.order
        return replace(says, place=place, order=order, expected=False, together=True)


def _off(y: np.ndarray, P: np.ndarray, Q: np.ndarray | None = None) -> np.ndarray:
    """How far y (K,) is from a multiple of each row of P, or from a combination of it and that of Q, relatively."""

    def without(X: np.ndarray, Z: np.ndarray) -> np.ndarray:
        squares = np.einsum("rk,rk->r", Z, Z)
        along = np.einsum("rk,rk->r", X, Z) / np.where(squares > 0, squares, np.inf)
        return X - along[:, None] * Z

    rest = without(np.broadcast_to(y, P.shape), P)
    if Q is not None:
        rest = without(rest, without(Q, P))
    return np.linalg.norm(rest, axis=1) / np.linalg.norm(y)


def _factors(references: References, columns: Mapping[int, int]) -> Iterator[Factors]:
    """Right factors of each Fisher, and those with the slips of hooks that are commonest."""
    layers = range(1, references.layers + 1)

    def cut(i: int, A: np.ndarray) -> np.ndarray:
        n = columns.get(i, len(A))
        return A[:n, :n]

    def made(A: Mapping[int, np.ndarray], G: Mapping[int, np.ndarray], says: Explanation, slip: bool) -> Factors:
        return Factors({i: Pair(cut(i, A[i]), G[i], says) for i in layers}, says, slip)

    A = {i: references.A(i) for i in layers}
    G = {kind: {i: references.G(i, kind) for i in layers} for kind in references.kinds}
    for kind in references.kinds:
        yield made(A, G[kind], claim(fisher=FISHERS[kind], cost=dear(kind)), False)
    identity = {i: np.eye(references.d(i)) for i in layers}
    yield made(A, identity, claim(fisher="identity", cost=0.4), False)
    yield from _slipped(A, G, layers, references, made)


def _slipped(
    A: Matrices, G: Mapping[str, Matrices], layers: Sequence[int], references: References, made: Made
) -> Iterator[Factors]:
    """One of the two factors with a slip of place, or of the mean taken first."""
    by_place: dict[tuple[str, str, str | None, str | None], dict[int, np.ndarray]] = {}
    costs: dict[tuple[str, str, str | None, str | None], float] = {}
    for i in layers:
        for side, rows_of in (("A", activity_rows), ("G", derivative_rows)):
            for rows in rows_of(i, references):
                if rows.width != (len(A[i]) if side == "A" else references.d(i)):
                    continue
                for key, M, cost in _moments(side, rows):
                    by_place.setdefault(key, {})[i] = M
                    costs[key] = cost
    for key, matrices in by_place.items():
        side, place, order, fisher = key
        right = A if side == "A" else G.get(_kind(fisher), {})
        # where a layer has no such place, as the last none behind phi, it is right
        if not right and len(matrices) < len(layers):
            continue
        whole = {i: matrices[i] if i in matrices else right[i] for i in layers}
        about = {"place": f"{side}: {place}" if place else None, "order": f"{side}: {order}" if order else None}
        for kind in references.kinds if side == "A" else [None]:
            says = claim(fisher=fisher if kind is None else FISHERS[kind], cost=costs[key], **about)
            if kind is not None:
                says = replace(says, cost=says.cost + dear(kind))
            yield made(whole, G[kind], says, True) if kind is not None else made(A, whole, says, True)


def _moments(side: str, rows: Rows) -> Iterator[tuple[tuple[str, str, str | None, str | None], np.ndarray, float]]:
    M = moment(rows.values)
    if rows.place is not None:
        yield (side, rows.place, None, rows.fisher), M, rows.cost
        return
    mean, order, cost = next(iter(changed(rows.values, M)))
    yield (side, "", order, rows.fisher), mean, rows.cost + cost


def _kind(fisher: str | None) -> str:
    return next((kind for kind, name in FISHERS.items() if name == fisher), "exact")
