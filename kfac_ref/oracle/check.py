"""Comparing somebody else's numbers with the truth, and naming the convention or the mistake that explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kfac_ref.oracle import (
    damping_slips,
    dense_checks,
    factor_checks,
    fits,
    gradient_checks,
    gradient_slips,
    hook_slips,
    preconditioned_checks,
    sampled_factors,
    sharing_checks,
    whole_checks,
)
from kfac_ref.oracle.captured import AnyCase, load_case
from kfac_ref.oracle.choose import choose, undecided
from kfac_ref.oracle.formulas import explain
from kfac_ref.oracle.layouts import Arrangement
from kfac_ref.oracle.numbering import numbering
from kfac_ref.oracle.references import References
from kfac_ref.oracle.summary import summarise
from kfac_ref.oracle.theirs import kind_of, read_theirs
from kfac_ref.oracle.verdict import Explanation, Report, Verdict
from kfac_ref.oracle.whole_checks import Joint

Explanations = dict[str, list[Explanation]]


def check(theirs: str | Path | Mapping[str, Any], case: AnyCase | str | Path) -> Report:
    """Compare what another implementation computed for a case with the truth, and say where and why they differ.

    For each quantity the known conventions and mistakes are tried, and the simplest that explains the numbers to
    rounding (or, of a Monte-Carlo estimate, within its standard error) is named. Where none does, that is said, with
    the closest; nothing is claimed that does not fit.

    Parameters
    ----------
    theirs : path of an .npz, or mapping of names to arrays of any library
        Names as A_i, G_i, G_bias_i, gradient_i, preconditioned_i, block_i, fisher; see `read_theirs`.
    case : Case or CapturedCase, or path of its file

    Returns
    -------
    Report
        `str(report)` is a table; `report.as_dict()` what the command prints as JSON.

    Raises
    ------
    ValueError
        In one line, where theirs or the case cannot be read.
    """
    if isinstance(case, (str, Path)):
        case = load_case(case)
    arrays, references = read_theirs(theirs, case), References(case)
    # what overflows is found first, and what is divided by zero does not fit
    with np.errstate(all="ignore"):
        references.require_finite()
        return _Check(arrays, references).report()


class _Check:
    def __init__(self, arrays: dict[str, np.ndarray], references: References) -> None:
        self.arrays, self.references = arrays, references
        self.kinds = {name: kind_of(name) for name in arrays}
        self.numbering = numbering(arrays, references)
        self.layers = self.numbering.layers
        self.found: Explanations = {}
        self.chosen: dict[str, Explanation | None] = {}

    def report(self) -> Report:
        self._gradients()
        self._factors()
        self._preconditioned()
        self._dense()
        self._mixed()
        verdicts = {}
        for name in self.arrays:
            e = self.chosen.get(name)
            if e is not None and self.kinds[name] == "A" and self.numbering.note:
                e = replace(e, notes=(*e.notes, self.numbering.note), expected=False)
            closest = None if e else min(self.found.get(name, []), key=lambda e: e.residual, default=None)
            symbols = self.references.symbols(self.layers[name] or None)
            verdicts[name] = Verdict(
                name, e and e.told(symbols), closest and closest.told(symbols), self.layers[name] or None
            )
        about = f"{self.references.network}, N = {self.references.cases}"
        return Report(verdicts, summarise(verdicts), about, explain(verdicts))

    def _choose(self, *kinds: str) -> None:
        """Choose among what was found for the quantities of these kinds."""
        found = {name: e for name, e in self.found.items() if self.kinds[name] in kinds}
        groups = {name: kinds[0] if self.kinds[name].startswith(kinds[0]) else self.kinds[name] for name in found}
        best = choose(found, groups)
        decided = [e for name, e in best.items() if e is not None and not undecided(e, found[name], [])]
        for name, e in best.items():
            self.chosen[name] = None if e is None or undecided(e, found[name], decided) else e

    def _of(self, *kinds: str) -> dict[str, tuple[int, np.ndarray]]:
        return {n: (self.layers[n], self.arrays[n]) for n in self.arrays if self.kinds[n] in kinds}

    def _factors(self) -> None:
        separate = bool(self._of("G_bias"))
        for name, (layer, x) in self._of("A").items():
            self.found[name] = factor_checks.explain_A(x, layer, self.references, separate)
        self._choose("A")
        G = self._of("G", "G_bias")
        for name, (layer, x) in G.items():
            self.found[name] = factor_checks.explain_G(x, layer, self.references)
        self._choose("G", "G_bias")
        self._slips(separate)
        kind_of_A = {layer: e.sharing for n, (layer, _) in self._of("A").items() if (e := self.chosen[n]) is not None}
        kinds = {name: kind_of_A.get(layer) for name, (layer, _) in G.items()}
        positions = self.references.network.likelihood.positions > 1
        self.chosen |= sharing_checks.of_one_kind(self.found, self.chosen, kinds, positions)
        unexplained = {n: lx for n, lx in G.items() if self.chosen[n] is None}
        open_ = {n: (layer, x) for n, (layer, x) in unexplained.items() if len(x) == self.references.d(layer)}
        # one pass gives all G: where one of them is known to rounding, the others are not of sampled targets
        if any(n not in unexplained and len(x) > 1 for n, (_, x) in G.items()):
            return
        told = self._samples_by_A()
        sharings = sharing_checks.likely_kinds([s for s in kind_of_A.values() if s], self.references)
        sampled = sampled_factors.explain_sampled(
            open_, self.references, self._starts(open_), self._hints(), set(told.values()), sharings
        )
        if not sampled:
            sampled = sampled_factors.explain_behind(open_, self.references, self._hints(), set(told.values()))
        if not sharing_checks.near_their_own(self.found, sampled):
            return
        self.chosen |= sampled
        if any(e.expression == "1/sqrt(S)" for e in sampled.values()):
            # a root of the number of samples on each factor
            named = {name: replace(e, expression="sqrt(S)") for name in told if (e := self.chosen[name]) is not None}
            self.chosen |= named

    def _slips(self, separate: bool) -> None:
        """Slips of place, order and cases, where nothing that is done on purpose explains a factor: of those large
        enough to tell first, then those slips again of what is left."""
        factors = self._of("A", "G", "G_bias")
        for only in (False, True):
            known = hook_slips.known_slips(self.chosen, self.arrays) if only else None
            for name, (layer, x) in factors.items():
                if hook_slips.open_to(self.chosen[name]) and (only or hook_slips.tells(x)):
                    more = hook_slips.explain_factor(x, self.kinds[name], layer, self.references, separate, known)
                    # beside one scale without a name another says nothing
                    nameless = any(e.fits and e.expression is None for e in self.found[name])
                    self.found[name] += [e for e in more if e.expression is not None or not nameless]
            self._choose("A")
            self._choose("G", "G_bias")

    def _mixed(self) -> None:
        """Say it where A and G of a layer are not of one kind, so that T is in both or in neither."""
        A = {layer: name for name, (layer, _) in self._of("A").items()}
        for G, (layer, _) in self._of("G").items():
            a, g = self.chosen.get(A.get(layer, "")), self.chosen.get(G)
            note = sharing_checks.mixture(a.sharing, g.sharing) if a and g else None
            if a is None or g is None or note is None:
                continue
            for name, e in ((A[layer], a), (G, g)):
                self.chosen[name] = replace(e, notes=(*e.notes, note), expected=False)

    def _starts(self, names: Mapping[str, tuple[int, np.ndarray]]) -> dict[str, float]:
        """By how much of the identity each G may have started, as the A of its layer did."""
        starts: dict[str, float] = {}
        for a, (layer, _) in self._of("A").items():
            e = self.chosen[a]
            if e is not None and e.start == "identity" and e.history is not None:
                starts |= {name: e.history.weight for name, (other, _) in names.items() if other == layer}
        return starts

    def _samples_by_A(self) -> dict[str, int]:
        """Of those A that are √S times what they should be, S a whole number: S."""
        scales = {name: e.scale for name in self._of("A") if (e := self.chosen[name]) is not None and e.scale}
        told = {name: round(c**2) for name, c in scales.items() if c > 1}
        return {name: S for name, S in told.items() if S > 1 and abs(scales[name] / S**0.5 - 1) < 1e-6}

    def _hints(self) -> set[float]:
        """Scales that G is likely to have: as the gradients say, that of the loss, or its square where gradients were
        squared, summed or averaged; and as the A say, a root where a scale is split over both factors."""
        N, hints = float(self.references.cases), set()
        for name in self._of("gradient", "gradient_weight", "gradient_bias"):
            e = self.chosen[name]
            if e is not None and e.expression is not None and e.scale:
                losses = {abs(e.scale) * n for n in (1, N, 1 / N)}
                hints |= {s**p * n for s in losses for p in (1, 2) for n in (1, N, 1 / N)}
        roots = (self.chosen[name] for name in self._of("A"))
        return hints | {e.scale for e in roots if e and e.scale and (e.expression or "").startswith("sqrt(")}

    def _gradients(self) -> None:
        for kind in ("gradient", "gradient_weight", "gradient_bias"):
            part = kind.partition("_")[2]
            for name, (layer, x) in self._of(kind).items():
                self.found[name] = gradient_checks.explain_gradient(x, layer, self.references, part)
        self._choose("gradient", "gradient_weight", "gradient_bias")
        self._gradient_slips()

    def _gradient_slips(self) -> None:
        """Slips, where nothing that is done on purpose explains a gradient; those of others again for what is left."""
        kinds = ("gradient", "gradient_weight", "gradient_bias")
        for only in (False, True):
            known = hook_slips.known_slips(self.chosen, self.arrays) if only else None
            for name, (layer, x) in self._of(*kinds).items():
                part = self.kinds[name].partition("_")[2]
                if hook_slips.open_to(self.chosen[name]) and (only or x.size >= 6):
                    more = gradient_slips.explain_gradient_slips(x, layer, self.references, part, known)
                    self.found[name] += more
            self._choose(*kinds)

    def _preconditioned(self) -> None:
        whole, weights = self._of("preconditioned"), self._of("preconditioned_weight")
        biases = self._of("preconditioned_bias")
        joint: dict[int, list[Joint]] = {}
        for name, (layer, x) in whole.items():
            self.found[name] = self._explain_preconditioned(x, layer)
            readings = list(self.references.arrangements(x, layer))
            joint[layer] = whole_checks.joints(readings, layer, self.references, fits.rounding(x))
        for part, these in (("weight", weights), ("bias", biases)):
            for name, (layer, x) in these.items():
                self.found[name] = self._explain_preconditioned(x, layer, part)
        for name, (layer, x) in weights.items():
            partner = f"preconditioned_bias_{layer}"
            if partner not in biases:
                continue
            # perhaps computed together and handed out in two parts
            bias = biases[partner][1].astype(np.float64).reshape(-1, 1)
            together = [
                Arrangement(np.hstack([a.matrix, bias]), "last", a.layout, a.cost - 0.1)
                for a in self.references.arrangements(x, layer, "weight")
            ]
            joint[layer] = whole_checks.joints(together, layer, self.references, fits.rounding(x))
            explained = self._explain_preconditioned(x, layer, readings=together)
            self.found[name] += explained
            self.found[partner] += explained
        members = {i: [n for n, (j, _) in (whole | weights | biases).items() if j == i] for i in joint}
        if all(any(e.fits and e.expression for e in self.found[name]) for names in members.values() for name in names):
            joint = {}
        extra = whole_checks.explain_all(joint, self.references)
        for layer, names in members.items():
            more = extra[layer]
            if not any(e.fits for name in names for e in self.found[name]):
                more = more + whole_checks.explain_layer(joint[layer], layer, self.references)
            for name in names:
                self.found[name] += more
        self._choose("preconditioned", "preconditioned_weight", "preconditioned_bias")
        if any(hook_slips.open_to(self.chosen[name]) for name in whole | weights | biases):
            self._preconditioned_together()
            self._choose("preconditioned", "preconditioned_weight", "preconditioned_bias")

    def _preconditioned_together(self) -> None:
        """Slips that all layers have in common; of weights and biases as well as of whole layers."""
        ways: dict[tuple[str | None, str | None], dict[int, Arrangement]] = {}
        members: dict[int, list[str]] = {}
        given = self._of("preconditioned", "preconditioned_weight")
        if not all(self.references.network.has_one_row(layer) for layer, _ in given.values()):
            return
        for name, (layer, x) in given.items():
            part, bias = self.kinds[name].partition("_")[2], f"preconditioned_bias_{layer}"
            members[layer] = [name]
            for a in self.references.arrangements(x, layer, part):
                ways.setdefault((a.bias, a.layout), {})[layer] = a
                if part and bias in self.arrays:
                    members[layer] = [name, bias]
                    both = np.hstack([a.matrix, self.arrays[bias].astype(np.float64).reshape(-1, 1)])
                    ways.setdefault(("last", a.layout), {})[layer] = replace(a, matrix=both, bias="last")
        alike = [way for way in ways.values() if len(way) == len(members)]
        if alike:
            names = [name for together in members.values() for name in together]
            tolerance = max(fits.rounding(self.arrays[name]) for name in names)
            found = damping_slips.explain_together(alike, self.references, tolerance)
            for layer, together in members.items():
                for name in together:
                    self.found[name] += [e for e in found[layer] if e.bias != "separate" or name == together[0]]

    def _explain_preconditioned(
        self, x: np.ndarray, layer: int, part: str = "", readings: Sequence[Arrangement] | None = None
    ) -> list[Explanation]:
        if readings is None:
            readings = list(self.references.arrangements(x, layer, part))
        return preconditioned_checks.explain_preconditioned(
            readings, layer, self.references, fits.rounding(x), part, self._own(layer)
        )

    def _own(self, layer: int) -> tuple[np.ndarray, np.ndarray, Explanation] | None:
        """Their own A, in the project's layout, and G of a layer, where both are there; and what G was found to be."""
        A = [n for n in self._of("A") if self.layers[n] == layer]
        G = f"G_{layer}"
        if not A or G not in self.arrays:
            return None
        says = self.chosen[G] or Explanation(np.inf, 0.0)
        about_A = self.chosen[A[0]]
        own = self.arrays[A[0]].astype(np.float64)
        if about_A is not None and about_A.bias == "first":
            own = np.roll(np.roll(own, -1, axis=0), -1, axis=1)
        return own, self.arrays[G].astype(np.float64), says

    def _dense(self) -> None:
        for name, (layer, x) in self._of("block").items():
            self.found[name] = dense_checks.explain_block(x, layer, self.references)
        for name, (_, x) in self._of("fisher").items():
            self.found[name] = dense_checks.explain_fisher(x, self.references)
        for kind in ("block", "fisher"):
            self._choose(kind)
            for name, (layer, x) in self._of(kind).items():
                if hook_slips.open_to(self.chosen[name]):
                    self.found[name] += dense_checks.explain_slips(x, layer or None, self.references)
            self._choose(kind)
            for name, (layer, x) in self._of(kind).items():
                if self.chosen[name] is None:
                    sampled = dense_checks.explain_sampled(x, layer or None, self.references)
                    nearest = min((e.residual for e in self.found[name]), default=np.inf)
                    if sampled is not None and sampled.residual <= sharing_checks.FARTHER * nearest:
                        self.chosen[name] = sampled
