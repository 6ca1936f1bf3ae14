"""The tests of one array library alone, in the order of what matters.

What fails is printed as it fails, and what is not reached is named. They run in a process of their own. If that dies,
or if the device does not answer in it any more, the tests after that which was running go on in a new one.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from validation.gpu_campaign import part
from validation.gpu_campaign.part import CUT, DONE, FAILED, Options
from validation.gpu_campaign.tests_selected import LOST, MERCY, read

INTERRUPTED = 2
"""pytest's exit code when it stopped early: here, as time was up."""
WHERE = ("tests",)


@dataclass
class Record:
    """What became of the tests."""

    todo: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    """passed, failed or skipped."""

    @classmethod
    def of(cls, lines: Sequence[Mapping[str, Any]]) -> Record:
        """From the lines that the processes wrote."""
        found = cls()
        for line in lines:
            found.todo = found.todo or line.get("todo", [])
            found.begun += [line["begun"]] if "begun" in line else []
            if "ended" in line and found.outcomes.get(line["ended"]) != "failed":
                found.outcomes[line["ended"]] = line["outcome"]
        return found

    @property
    def lost(self) -> list[str]:
        """Those that began and did not end."""
        return [name for name in self.begun if name not in self.outcomes]

    @property
    def not_reached(self) -> list[str]:
        """Those that did not begin."""
        begun = set(self.begun)
        return [name for name in self.todo if name not in begun]

    def __str__(self) -> str:
        counts = Counter(self.outcomes.values())
        said = [f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped")]
        lines = [f"{', '.join(said)}, of {len(self.todo)}"]
        lines += [f"failed: {name}" for name, outcome in self.outcomes.items() if outcome == "failed"]
        lines += [f"died or was ended in: {name}" for name in self.lost]
        if self.not_reached:
            lines.append(f"not reached: {len(self.not_reached)}, which are")
            lines += [f"  {name} ({count})" for name, count in Counter(map(_function, self.not_reached)).items()]
        return "\n".join(lines)


def _function(nodeid: str) -> str:
    return nodeid.split("[")[0]


def run(options: Options, where: Sequence[str] = WHERE) -> int:
    """Run all that are below the paths `where`, and print what became of them; an exit code."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "record.jsonl")
        record.touch()
        code = _until_all_ended(options, record, where)
        found = Record.of(read(record))
    print(f"\n{found}", flush=True)
    if not found.todo or found.lost or "failed" in found.outcomes.values() or code == FAILED:
        return FAILED
    return CUT if found.not_reached else DONE


def _until_all_ended(options: Options, record: Path, where: Sequence[str]) -> int:
    until = options.clock.until
    command = [sys.executable, "-m", "validation.gpu_campaign.tests_selected", options.backend, str(until), str(record)]
    while True:
        before = len(Record.of(read(record)).begun)
        try:
            # which should end itself
            patience = None if until == math.inf else max(options.clock.left, 0) + MERCY + 1
            code = subprocess.run([*command, *where], check=False, timeout=patience).returncode
        except subprocess.TimeoutExpired:
            print("\nthe process did not end when time was up", flush=True)
            return CUT
        found = Record.of(read(record))
        # otherwise it died
        if code in (DONE, FAILED, CUT, INTERRUPTED):
            return code
        last = found.begun[-1] if found.begun else "the collection"
        why = "lost the device" if code == LOST else f"ended with exit code {code}"
        print(f"\nthe process {why}, after or in {last}", flush=True)
        if len(found.begun) == before or not found.not_reached or options.clock.left < 1:
            return FAILED
        print("the tests after that go on in a new one", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them all."""
    return run(part.options(__doc__, arguments))


if __name__ == "__main__":
    sys.exit(main())
