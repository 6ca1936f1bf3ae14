"""Which of somebody else's G are Monte-Carlo estimates, of what scale and from how many samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kfac_ref.oracle import expressions, fits, monte_carlo, sampling
from kfac_ref.oracle.fits import claim
from kfac_ref.oracle.places import BEHIND, by_activities
from kfac_ref.oracle.references import References
from kfac_ref.oracle.verdict import Explanation

ALONE = 8
"""Rows of the smallest G that is believed to be sampled where others beside it are not."""
TOGETHER, APART = 3.3, 6.0
"""How much likelier than others a scale must be to be named: of all G together; and of some of them, as where not all
fit together something else is the matter."""
LARGEST = 50_000_000
"""Numbers in the Jacobians of all G at most; beyond that nothing is looked for."""

Quantities = Mapping[str, tuple[int, np.ndarray]]
"""Layer and matrix by name."""


def explain_sampled(
    theirs: Quantities,
    references: References,
    starts: Mapping[str, float],
    hints: Collection[float],
    told: Collection[int] = (),
    sharings: Collection[str] = ("expand",),
) -> dict[str, Explanation]:
    """Those of the G that are Monte-Carlo estimates, explained: of the kind of `sharings` that explains most of them.

    The parameters are those of `explain_shared`.
    """
    best: dict[str, Explanation] = {}
    for sharing in sharings:
        found = explain_shared(theirs, references, starts, hints, told, sharing)
        if _believed(found) > _believed(best):
            best = found
        if len(best) == len(theirs) and all(e.expression is not None for e in best.values()):
            break
    return best


def explain_behind(
    theirs: Quantities, references: References, hints: Collection[float], told: Collection[int]
) -> dict[str, Explanation]:
    """Those of the G that are estimates of derivatives by activities, the hooks being behind φ."""
    if references.layers < 2 or not all(references.network.has_one_row(layer) for layer, _ in theirs.values()):
        return {}
    return explain_shared(theirs, references, {}, hints, told, "expand", behind=True)


def _believed(found: Mapping[str, Explanation]) -> tuple[int, int]:
    return sum(e.expression is not None for e in found.values()), len(found)


def explain_shared(
    theirs: Quantities,
    references: References,
    starts: Mapping[str, float],
    hints: Collection[float],
    told: Collection[int],
    sharing: str,
    behind: bool = False,
) -> dict[str, Explanation]:
    """Those of the G that are Monte-Carlo estimates, explained.

    Parameters
    ----------
    theirs : (layer, matrix) by name
    starts : the weights, where known, that running averages still give to an identity that they started from
    hints : scales that other quantities make likely
    told : numbers of samples that they tell of
    sharing : which factors they are of, of layers with T > 1 locations
    behind : whether hooks were behind φ
    """
    # one pass gives all of them: where one is no second moment, the others are of no samples either
    if not all(is_moment(M) for _, M in theirs.values()):
        return {}
    open_ = {n: (i, M) for n, (i, M) in theirs.items() if not _is_mixture(M, i, references, sharing)}
    numbers = sum(references.d(i) * references.locations(i) for i, _ in open_.values())
    if not open_ or numbers * references.cases * references.network.outputs > LARGEST:
        return {}
    if behind:
        return _Search(open_, references, hints, told, sharing, behind).found()
    if not starts:
        return _Search(open_, references, hints, told, sharing).found()
    bare = {}
    for name, (layer, M) in open_.items():
        weight = starts.get(name, 0.0)
        bare[name] = layer, ((M - weight * np.eye(len(M))) / (1 - weight)).astype(M.dtype)
    found = _Search(bare, references, hints, told, sharing).found()
    averaged = {
        name: replace(e, start="identity", history=expressions.decay_of(starts[name], 1e-6)) if name in starts else e
        for name, e in found.items()
    }
    return averaged or _Search(open_, references, hints, told, sharing).found()


def is_moment(M: np.ndarray) -> bool:
    """Whether M (n, n) is symmetric and positive semi-definite, as every second moment is, but for rounding."""
    size = np.linalg.norm(M)
    if not np.allclose(M, M.T, rtol=0, atol=1e-5 * size):
        return False
    return bool(np.linalg.eigvalsh((M + M.T) / 2).min() >= -fits.rounding(M) * size)


def _is_mixture(M: np.ndarray, layer: int, references: References, sharing: str) -> bool:
    """Whether it is a sum of multiples of the exact and of the empirical G, to rounding."""
    fit = fits.regress(M, [references.G(layer, kind, sharing) for kind in ("exact", "empirical")])
    return fit is not None and len(M) > 2 and fit[1] <= fits.rounding(M)


class _Search:
    """All G together first, as one pass with sampled targets gives all of them; then those of weights and those of
    biases, then one by one, and the small ones beside those that were recognised."""

    def __init__(
        self,
        theirs: Quantities,
        references: References,
        hints: Collection[float],
        told: Collection[int],
        sharing: str,
        behind: bool = False,
    ) -> None:
        self.theirs, self.references, self.told, self.sharing = theirs, references, told, sharing
        self.names = list(theirs)
        self.hints = list(hints)
        self.rounding = max(fits.rounding(M) for _, M in theirs.values())
        self.behind = behind
        self.models: dict[bool, sampling.Model] = {}

    def jacobian(self, layer: int) -> np.ndarray:
        """dz/ds_i of every case, or dz/da_i where hooks were behind φ."""
        elsewhere = by_activities(self.references, layer) if self.behind else None
        return self.references.derivatives(layer, self.sharing) if elsewhere is None else elsewhere

    def found(self) -> dict[str, Explanation]:
        """What is recognised."""
        found: dict[str, Explanation] = {}
        biases = [name for name in self.names if name.startswith("G_bias")]
        groups = [self.names, [name for name in self.names if name not in biases], biases]
        groups += [[name] for name in self.names if self._tells(name)]
        for names in groups:
            for signs in (False,) if self.behind else (False, True):
                left = [name for name in names if name not in found]
                margin = TOGETHER if len(left) == len(self.names) and not signs else APART
                more = self.recognised(left, signs, margin=margin) if left else {}
                if len(left) == 1 < len(self.names):
                    more = {name: e for name, e in more.items() if e.expression is not None}
                found |= more
        known = {name: e.scale for name, e in found.items() if e.expression is not None}
        for name in self.names:
            if name not in found and known:
                both = self.recognised([*known, name], False, known)
                found |= {name: both[name]} if name in both else {}
        return found

    def _tells(self, name: str) -> bool:
        """Whether a G is large enough to be recognised alone where those beside it are not."""
        return len(self.theirs[name][1]) >= ALONE or len(self.names) == 1

    def model(self, signs: bool) -> sampling.Model:
        """Draws of all of them."""
        if signs not in self.models:
            rng, references = np.random.default_rng(77), self.references
            most = sampling.widest(len(self.names), references.cases)
            projections = [sampling.projection(rng, len(M), most) for _, M in self.theirs.values()]
            layers = [layer for layer, _ in self.theirs.values()]
            projected = [self.jacobian(i) @ P for i, P in zip(layers, projections, strict=True)]
            likelihood = references.network.likelihood
            self.models[signs] = sampling.Model(likelihood, references.z, projected, projections, signs)
        return self.models[signs]

    def recognised(
        self,
        names: Sequence[str],
        signs: bool,
        known: Mapping[str, float | None] | None = None,
        margin: float = APART,
    ) -> dict[str, Explanation]:
        """Explanations of these, if they are estimates from the same samples, of known scales or of one."""
        symbols = self.references.symbols()
        # a bias has no A over which its scale could be split
        biases = all(name.startswith("G_bias") for name in names)
        hints = [hint for hint in self.hints if not biases or not expressions.is_root(hint, symbols)]
        sampled = monte_carlo.recognise(
            [self.theirs[name][1].astype(np.float64) for name in names],
            self.model(signs).only([self.names.index(name) for name in names]),
            expressions.hinted(expressions.usual(symbols), hints, symbols),
            self.rounding,
            [(known or {}).get(name) for name in names],
            margin,
            self.told,
        )
        if sampled is None or any(self._too_regular(name, sampled.samples) for name in names):
            return {}
        notes = ("random signs on the root of F_R (curvature propagation)",) if signs else ()
        shared = [self.sharing if self.references.locations(self.theirs[name][0]) > 1 else None for name in names]
        last = self.references.layers
        places = [BEHIND if self.behind and self.theirs[name][0] < last else None for name in names]
        return {
            name: sampled_explanation(sampled, k, notes=notes, sharing=shared[k], place=places[k])
            for k, name in enumerate(names)
        }

    def _too_regular(self, name: str, samples: int) -> bool:
        """Whether a matrix has more rank than so many samples a case can give it."""
        layer, M = self.theirs[name]
        terms = self.references.cases * samples
        if self.sharing != "reduce":
            terms *= self.references.locations(layer)
        if len(M) <= terms:
            return False
        values = np.linalg.eigvalsh(M.astype(np.float64))
        return int(np.sum(values > 100 * self.rounding * values[-1])) > terms


def sampled_explanation(sampled: monte_carlo.Sampled, k: int, **attributes: Any) -> Explanation:
    """What is to be said of the k-th of the matrices recognised."""
    return claim(
        fisher="monte-carlo",
        samples=sampled.samples,
        scale=sampled.scale.value if sampled.scale else sampled.estimate,
        expression=sampled.scale.text if sampled.scale else None,
        nearest=None if sampled.scale else sampled.likeliest.text,
        scale_error=sampled.error,
        **attributes,
    ).within(sampled.residuals[k], 4 * sampled.expected[k])
