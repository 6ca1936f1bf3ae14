"""The oracle: the right numbers for a case, and a verdict on somebody else's."""

from kfac_ref.oracle.capture import capture
from kfac_ref.oracle.captured import CapturedCase, CapturedLayer, load_case
from kfac_ref.oracle.case import Case
from kfac_ref.oracle.check import check
from kfac_ref.oracle.conforms import assert_conforms
from kfac_ref.oracle.truth import Truth, truth
from kfac_ref.oracle.verdict import Report, Verdict

__all__ = [
    "CapturedCase",
    "CapturedLayer",
    "Case",
    "Report",
    "Truth",
    "Verdict",
    "assert_conforms",
    "capture",
    "check",
    "load_case",
    "truth",
]
