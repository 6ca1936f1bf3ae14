"""The conformance vectors that come with the package: small cases, their truths, and a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from kfac_ref import oracle
from kfac_ref.data.npz_file import read_archive
from kfac_ref.oracle.captured import AnyCase, load_case
from kfac_ref.oracle.verdict import Report

FOLDER = files("kfac_ref.oracle") / "conformance"


def manifest() -> dict[str, Any]:
    """What `manifest.json` says: what each vector is for, its files with their SHA-256, and tolerances."""
    return json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


def cases() -> dict[str, AnyCase]:
    """The cases by name, in NumPy and float64: of fully connected networks, then of others, then captured ones."""
    found = {}
    for name, vector in manifest()["vectors"].items():
        with as_file(FOLDER / vector["case"]["file"]) as path:
            found[name] = load_case(path)
    return found


def shipped_truth(name: str) -> dict[str, np.ndarray]:
    """The truth of the case called so, as it is in its file: by name, of the shapes that `Truth` says."""
    with as_file(FOLDER / manifest()["vectors"][name]["truth"]["file"]) as path:
        return read_archive(path)[0]


class Oracle:
    """What the pytest fixture `kfac_oracle` gives."""

    @cached_property
    def cases(self) -> dict[str, AnyCase]:
        """The cases of the conformance vectors by name."""
        return cases()

    def truth(self, case: AnyCase) -> Mapping[str, Any]:
        """`kfac_ref.oracle.truth`."""
        return oracle.truth(case)

    def check(self, theirs: str | Path | Mapping[str, Any], case: AnyCase) -> Report:
        """`kfac_ref.oracle.check`."""
        return oracle.check(theirs, case)

    def assert_conforms(
        self,
        theirs: str | Path | Mapping[str, Any],
        case: AnyCase,
        allow: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Report:
        """`kfac_ref.oracle.assert_conforms`."""
        return oracle.assert_conforms(theirs, case, allow)
