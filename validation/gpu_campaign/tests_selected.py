"""A process of pytest with the tests of one array library, in the order of what matters; started by `library_tests`.

It writes a line of JSON for each test that begins and that ends, so that whoever started it knows what became of all of
them if it dies.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from autodiff.arrays import DTYPES, to_numpy
from validation.gpu_campaign.part import CUT, FAILED, Clock, Options
from validation.gpu_campaign.processes import CLONE

ORDER = {
    "passes": r"autodiff/(test_passes|test_objective|test_network|layers/)",
    "arrays": r"autodiff/",
    "fisher": r"curvature/test_(fisher|cotangents|quadratic|monte_carlo)",
    "factors": r"curvature/test_(factors|implicit|kronecker|cumulants|targets)",
    "inverses": r"curvature/",
    "optimizer": r"kfac_ref/test_(optimizer|algorithm|baselines|bad_input)",
    "transfers": r"kfac_ref/test_transfers",
    "oracle": r"kfac_ref/oracle/",
    "others": r"",
}
"""What comes first, and where it is."""
LOST = 70
"""Exit code: the device does not answer in this process any more."""
HANGING = 20.0
"""Seconds from which on a test that is running when time is up is taken to hang."""
MERCY = 2.0
"""Seconds that a test may go on when time is up."""


def topic(nodeid: str) -> str:
    """The first in ORDER that a test belongs to."""
    return next(name for name, pattern in ORDER.items() if re.search(pattern, nodeid.split("::")[0]))


def about(library: str, parameters: Iterable[Any], fixtures: Iterable[str]) -> bool:
    """Whether a test with these parameters and fixtures runs on a library: a parameter is called so, as
    "cupy-float64", or it asks for CuPy itself."""
    names = {f"{library}-{dtype}" for dtype in DTYPES}
    return any(isinstance(p, str) and p in names for p in parameters) or (library == "cupy" and "cupy" in fixtures)


class Selection:
    """The plugin: it selects, sorts, ends in time, and keeps the record."""

    def __init__(self, options: Options, record: Path) -> None:
        self.options, self.record = options, record
        self.begun = {line["begun"] for line in read(record) if "begun" in line}
        self.running: str | None = None
        self.since = 0.0
        # pytest takes the other while a test runs
        self.stderr = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        with open(self.record, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write({"begun": report.nodeid})
            self.write({"ended": report.nodeid, "outcome": "failed"})
            print(f"\nFAILED {report.nodeid} (collection)\n{report.longreprtext}\n", flush=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = []
        for item in items:
            call = getattr(item, "callspec", None)
            parameters = call.params.values() if call else ()
            if about(self.options.backend, parameters, getattr(item, "fixturenames", ())):
                chosen.append(item)
        places = list(ORDER)
        chosen.sort(key=lambda item: places.index(topic(item.nodeid)))
        self.write({"todo": [item.nodeid for item in chosen]})
        items[:] = [item for item in chosen if item.nodeid not in self.begun]
        threading.Thread(target=self._watch, daemon=True).start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if self.options.clock.left <= 0:
            item.session.shouldstop = "time is up"
            return True  # that is, there is nothing more to do for this test
        self.running, self.since = item.nodeid, time.monotonic()
        self.write({"begun": item.nodeid})
        return None

    def pytest_runtest_logfinish(self) -> None:
        self.running = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.write({"ended": report.nodeid, "outcome": report.outcome, "seconds": report.duration})
        if report.failed:
            print(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}\n", flush=True)
            for title, content in report.sections:
                print(f"{title}\n{content}", flush=True)
            self._still_there()

    def _still_there(self) -> None:
        try:
            to_numpy(self.options.like("float64") + 1)
        except Exception as error:
            print(f"the device does not answer in this process any more: {error}", flush=True)
            os._exit(LOST)

    def _watch(self) -> None:
        """End the process if a test is still running some time after it should have ended."""
        while self.options.clock.left > -MERCY:
            time.sleep(min(max(self.options.clock.left + MERCY, 0.1), 60))
        if self.running:
            took = time.monotonic() - self.since
            print(f"running for {took:.0f} s when time was up: {self.running}", file=self.stderr, flush=True)
            faulthandler.dump_traceback(self.stderr)
            os._exit(FAILED if took > HANGING else CUT)


def read(record: Path) -> list[dict[str, Any]]:
    """The lines of a record; one that a dying process did not finish is left out."""
    lines = []
    for line in record.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def main(backend: str, until: float, record: Path, *where: str) -> int:
    """Run them, once; pytest's exit code, but 0 where there is nothing left to run."""
    selection = Selection(Options(backend, Clock(until)), record)
    # what fails is printed when it fails
    quiet = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(CLONE)]
    quiet.append("--continue-on-collection-errors")
    code = pytest.main([*quiet, *where], plugins=[selection])
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]))
