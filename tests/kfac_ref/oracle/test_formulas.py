from __future__ import annotations

import numpy as np
import pytest

from kfac_ref.oracle import check
from kfac_ref.oracle.formulas import REMEDIES, remedies, right_formula
from kfac_ref.oracle.order_slips import changed, moment
from kfac_ref.oracle.places import activity_rows, derivative_rows
from kfac_ref.oracle.references import References
from kfac_ref.oracle.theirs import LAYERED
from tests.kfac_ref.oracle.mutations import generate
from tests.kfac_ref.oracle.mutations.situations import Numbers, situation
from tests.kfac_ref.oracle.mutations.slip_words import behind


@pytest.fixture(scope="module")
def case():
    return situation(np.random.default_rng(1), sizes=[3, 4, 2], N=12, likelihood="bernoulli", hidden=["tanh"], lam=0.1)


def test_theirs_and_the_right_one(case):
    n = Numbers(case)
    e = np.einsum("nc,ncd->nd", n.mean - n.Y, behind(n, 1))
    s = np.column_stack([n.s[0], np.ones(12)])
    lines = check({"G_1": e.T @ e, "A_0": n.A(0), "A_1": s.T @ s / 12}, case).explain().splitlines()
    assert lines == [
        "G_1",
        "  yours:  N · (1/N Σ_n g gᵀ), g = ∂L/∂a_1, y the data's",
        "  right:  1/N Σ_n E_y[g gᵀ], g = ∂L/∂s_1, y from the model   (§3, §5)",
        "  change: take the derivative by the pre-activations: hook the linear layer, before phi; divide it by N = 12; "
        "sample targets from the model, or take the expectation over it, in place of the data's targets",
        "A_1",
        "  yours:  1/N Σ_n ā āᵀ, ā = [s_1; 1]",
        "  right:  1/N Σ_n ā āᵀ, ā = [a_1; 1]   (§3, §5)",
        "  change: take the layer's input behind phi",
    ]


def test_what_matches_and_what_nothing_explains(case, rng):
    n = Numbers(case)
    assert check({"G_1": n.G(1)}, case).explain().startswith("Everything matches")
    said = check({"G_1": rng.standard_normal((4, 4))}, case).explain()
    assert "nothing known explains it" in said and "(§3, §5)" in said


def test_every_kind_of_quantity_has_a_formula_and_a_section():
    for kind in (*LAYERED, "fisher"):
        formula, section = right_formula(kind, 2)
        assert formula and section.startswith("§")


def test_every_slip_has_a_remedy(case):
    references = References(case)
    places = {r.place for i in (1, 2) for r in (*activity_rows(i, references), *derivative_rows(i, references))}
    rows = next(activity_rows(1, references)).values
    orders = {name for _, name, _ in changed(rows, moment(rows))}
    for text in (places | orders) - {None}:
        assert any(text.startswith(start) for start in REMEDIES), text


@pytest.mark.parametrize("kind", ["slips-of-factors", "slips-of-gradients", "slips-of-blocks", "history", "damping"])
def test_whatever_is_found_can_be_explained(kind):
    for m in generate(kind, cases=1, seed=4):
        report = check(m.theirs, m.case)
        said = report.explain().splitlines()
        differing = [v for v in report.quantities.values() if v.verdict != "match"]
        assert sum(line.startswith("  yours:") for line in said) == len(differing)
        assert all(remedies(v.explanation) or True for v in differing if v.explanation)
