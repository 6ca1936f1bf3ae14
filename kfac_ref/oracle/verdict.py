"""What a check says: a verdict on each quantity, and a report over all of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kfac_ref.oracle import expressions
from kfac_ref.oracle.expressions import Decay, Symbols

BIASES = {"first": "bias first", "separate": "bias in a block of its own", "absent": "no bias"}
CLAIMED = (
    *("scale", "expression", "nearest", "fisher", "sharing", "samples", "matrix", "place", "order", "cases"),
    *("bias", "layout", "damping"),
)
"""What JSON has of an explanation, None where nothing is claimed."""
MATCH, MATCH_UNDER, NO_MATCH = "match", "match-under", "no-match"


@dataclass(frozen=True)
class Explanation:
    """One way to explain a quantity: theirs = scale × the matrix named, laid out, damped and averaged as said."""

    residual: float
    """‖theirs − explanation‖_F / ‖theirs‖_F."""
    tolerance: float
    """What rounding, or for Monte-Carlo its standard error, allows the residual to be."""
    scale: float | None = None
    """What the matrix was multiplied by; with a start from the identity, what the averaged matrix was multiplied by."""
    expression: str | None = None
    """The scale as an expression in N, C, d; None if it has no name."""
    nearest: str | None = None
    """The nearest expression, where the scale has no name."""
    fisher: str | None = None
    """Which Fisher G is of: exact, empirical, monte-carlo or identity."""
    sharing: str | None = None
    """Of a layer with T > 1 locations, which factors the scale is relative to: expand, reduce or kfc."""
    samples: int | None = None
    """Of Monte-Carlo: targets sampled for each case, as estimated."""
    scale_error: float | None = None
    """Of Monte-Carlo: the standard error of the scale, relative."""
    matrix: str | None = None
    """Which matrix, where there is a choice: "Fisher block", "Kronecker product", …"""
    place: str | None = None
    """Where its vectors were taken, in place of where they should be; None where they should be, as the next two."""
    order: str | None = None
    """What was done to it in another order, or besides; with an inverse, `scale` is that of the matrix inverted."""
    cases: str | None = None
    """Which cases it was taken over, in place of all."""
    bias: str | None = None
    """last, first, separate or absent."""
    layout: str | None = None
    """transposed, swapped, row-major, column-major …; None where the project's own is followed."""
    history: Decay | None = None
    start: str | None = None
    """What a running average started from: "zero" or "identity"."""
    damping: str | None = None
    damping_values: tuple[float, ...] = ()
    """What was added to the diagonals, as found."""
    added: float | None = None
    """Of weight decay: what θ was multiplied by before it was added."""
    together: bool = False
    """Whether it was found of all layers together, so that more numbers than this quantity's tell its scale."""
    notes: tuple[str, ...] = ()
    """What else differs from the project's conventions."""
    cost: float = 0.0
    """How far-fetched the explanation is."""
    expected: bool = False
    """Whether this is the quantity as the project defines it, but for its scale."""

    @property
    def fits(self) -> bool:
        """Whether the residual is within tolerance."""
        return self.residual <= self.tolerance

    @property
    def as_it_stands(self) -> bool:
        """Whether the numbers are the project's own, with nothing to be converted."""
        one = self.scale is not None and abs(self.scale - 1) <= max(10 * self.tolerance, 1e-12)
        return self.fits and self.expected and one and self.start is None

    def told(self, symbols: Symbols) -> Explanation:
        """The same with the nearest expression, where the scale has no name."""
        if self.scale is None or self.expression is not None or self.nearest is not None:
            return self
        near = expressions.nearest(self.scale, symbols)
        return replace(self, nearest=near.text if near else None)

    def within(self, residual: float, tolerance: float) -> Explanation:
        """The same with its residual and what that may be."""
        return replace(self, residual=residual, tolerance=tolerance)

    def words(self, part: bool = False) -> str:
        """The convention, in a few words; `part`: of weights or biases alone, where the bias has its place by name."""
        parts = [self.fisher_words(), self.sharing_words(), self.matrix or ""]
        parts += [self.place or "", self.order or "", self.cases or ""]
        if self.scale is not None and not (self.expression == "1" and self.start is None):
            parts.append(self.scale_words())
        if self.start:
            start = "zero" if self.start == "zero" else "the identity"
            parts.append(f"running average from {start}, decay {self.history}")
        if self.bias in BIASES and not (part and self.bias == "separate"):
            parts.append(BIASES[self.bias])
        layout = None if self.expected and self.layout == "column-major" else self.layout
        parts += [layout or "", f"damping: {self.damping}" if self.damping else "", *self.notes]
        return "; ".join(part for part in parts if part) or "as defined"

    def fisher_words(self) -> str:
        """Which Fisher, in words."""
        if self.fisher == "monte-carlo":
            count = f", about {self.samples} sample{'s' if self.samples != 1 else ''} a case" if self.samples else ""
            return f"Monte-Carlo Fisher{count}"
        return {None: "", "identity": "identity (forward only)"}.get(self.fisher, f"{self.fisher} Fisher")

    def sharing_words(self) -> str:
        """Which factors of a layer with shared weights, in words."""
        return {None: "", "kfc": "KFC"}.get(self.sharing, f"KFAC-{self.sharing}")

    def scale_words(self) -> str:
        """The scale, in words."""
        if self.expression is not None:
            parts = self.expression.lstrip("-").removeprefix("1/")
            several = parts.isdigit() and int(parts) > 2 and parts not in ("4", "8")
            return f"x {self.expression}" + f" (of {parts} micro-batches or processes?)" * several
        close = f" (nearest: {self.nearest})" if self.nearest else ""
        error = f" +- {abs(self.scale or 0) * self.scale_error:.2g}" if self.scale_error else ""
        return f"x {self.scale:.6g}{error}{close}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one quantity."""

    name: str
    explanation: Explanation | None
    """What explains the numbers; None if nothing does."""
    closest: Explanation | None = None
    """If nothing fits: what comes closest."""
    layer: int | None = None
    """Of which layer it is, as its name was read."""

    @property
    def verdict(self) -> str:
        """match, match-under or no-match."""
        if self.explanation is None:
            return NO_MATCH
        return MATCH if self.explanation.as_it_stands else MATCH_UNDER

    @property
    def residual(self) -> float | None:
        """Of the explanation, or of the closest one."""
        shown = self.explanation or self.closest
        return None if shown is None or not math.isfinite(shown.residual) else shown.residual

    @property
    def convention(self) -> str:
        """In words."""
        part = "_weight_" in self.name or "_bias_" in self.name
        if self.explanation is not None:
            return self.explanation.words(part)
        if self.closest is None:
            return "nothing fits"
        return f"nothing fits; closest: {self.closest.words(part)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        e = self.explanation
        claimed = {name: getattr(e, name, None) for name in CLAIMED}
        history = None if e is None or e.history is None else asdict(e.history) | {"start": e.start}
        shown = e or self.closest
        return _plain(
            {"verdict": self.verdict}
            | claimed
            | {
                "scale_error": e.scale_error if e else None,
                "damping_values": list(e.damping_values) if e else [],
                "history": history,
                "notes": list(e.notes) if e else [],
                "residual": self.residual,
                "tolerance": shown.tolerance if shown else None,
                "convention": self.convention,
            }
        )


def _plain(x: Any) -> Any:
    """The same with Python's own numbers, and None for those that JSON has not: NaN and infinities."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    x = x.item() if isinstance(x, np.generic) else x
    return None if isinstance(x, float) and not math.isfinite(x) else x


@dataclass(frozen=True)
class Report:
    """What a check found."""

    quantities: dict[str, Verdict]
    summary: str
    """Two lines."""
    about: str = ""
    """The case, in a line."""
    formulas: str = ""
    """What `explain` says."""

    def explain(self) -> str:
        """For each quantity that does not match: the formula that theirs computes, the right one with its section in
        the paper, and where it is known what to change."""
        return self.formulas

    @property
    def matches(self) -> bool:
        """Whether every quantity matches as it stands."""
        return all(v.verdict == MATCH for v in self.quantities.values())

    def as_dict(self) -> dict[str, Any]:
        """What `kfac-ref check --json` prints."""
        quantities = {name: verdict.as_dict() for name, verdict in self.quantities.items()}
        return {"quantities": quantities, "summary": self.summary, "case": self.about}

    def __str__(self) -> str:
        rows = [("quantity", "verdict", "residual", "convention")]
        for name, v in self.quantities.items():
            residual = "" if v.residual is None else f"{v.residual:.1e}"
            rows.append((name, v.verdict, residual, v.convention))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]) for row in rows]
        lines.insert(1, "-" * min(100, max(map(len, lines))))
        head = [self.about, ""] if self.about else []
        return "\n".join([*head, *lines, "", self.summary])
