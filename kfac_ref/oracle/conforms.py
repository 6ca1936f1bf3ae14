"""The check as an assertion, for other projects' tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kfac_ref.oracle.captured import AnyCase
from kfac_ref.oracle.check import check
from kfac_ref.oracle.theirs import kind_of
from kfac_ref.oracle.verdict import MATCH, NO_MATCH, Report


def assert_conforms(
    theirs: str | Path | Mapping[str, Any],
    case: AnyCase | str | Path,
    allow: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """AssertionError, with the table of the check, unless every quantity matches or differs only as allowed.

    Parameters
    ----------
    theirs, case
        As for `check`.
    allow : mapping, optional
        What a project follows on purpose: from a kind of quantity ("A", "G", "gradient", …) or a name ("G_1") to the
        fields of its verdict that may, and then must, be so, as ``{"G": {"expression": "N"}, "A": {"bias": "first"}}``.
        A quantity that is named there is compared with that alone.

    Returns
    -------
    Report
        If all is well.
    """
    report = check(theirs, case)
    allow = allow or {}
    wrong = []
    for name, verdict in report.quantities.items():
        expected = allow.get(name, allow.get(kind_of(name)))
        said = verdict.as_dict()
        if expected is None:
            if verdict.verdict != MATCH:
                wrong.append(f"{name}: {verdict.convention}")
        elif verdict.verdict == NO_MATCH or any(said.get(key) != value for key, value in expected.items()):
            wrong.append(f"{name}: expected {dict(expected)}, but {verdict.convention}")
    assert not wrong, "\n".join(["does not conform:", *wrong, "", str(report)])
    return report
