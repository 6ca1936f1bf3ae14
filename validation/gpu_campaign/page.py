"""The page: what each part printed, what went wrong first."""

from __future__ import annotations

import re
import site
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kfac_ref.data.files import write_text
from validation.figures.drawn import as_text, escaped
from validation.gpu_campaign.plan import Part
from validation.gpu_campaign.processes import CLONE, Outcome
from validation.work import machine

FILE = "page.md"
HEAD, TAIL = 1500, 500
"""Lines shown of what a part printed, of its beginning and of its end."""
RUNNING, NOT_BEGUN = "running", "not begun"


@dataclass(frozen=True)
class Page:
    """What is known before anything is run."""

    folder: Path
    device: str
    command: str
    """That makes the page."""
    date: str
    todo: Sequence[Part]

    def write(self, outcomes: Mapping[str, Outcome], running: str | None = None) -> str:
        """Write what is known by now, and return it. `running` is the part that has been begun."""
        states = {one.name: RUNNING if one.name == running else NOT_BEGUN for one in self.todo}
        states |= {name: outcome.state for name, outcome in outcomes.items()}
        text = [f"# K-FAC on {self.device}", f"`{self.command}`, begun {self.date}", machine()]
        rows = [
            {
                "part": one.title,
                "how it ended": states[one.name],
                "seconds": f"{found.seconds:.0f}" if found else None,
                "of at most": f"{found.limit:.0f}" if found else None,
            }
            for one in self.todo
            for found in [outcomes.get(one.name)]
        ]
        text.append(as_text(rows, "github"))
        failed = [one for one in self.todo if one.name in outcomes and not outcomes[one.name].well]
        if failed:
            text.append("## What went wrong")
            text += [block for one in failed for block in self._section(one, states[one.name])]
            text.append("## What went well")
        others = [one for one in self.todo if one not in failed and states[one.name] != NOT_BEGUN]
        text += [block for one in others for block in self._section(one, states[one.name])]
        whole = "\n\n".join(text) + "\n"
        write_text(self.folder / FILE, whole)
        return whole

    def _section(self, one: Part, state: str) -> list[str]:
        printed = without_places(log(self.folder, one).read_text(encoding="utf-8", errors="replace"))
        lines = [line.rstrip() for line in printed.strip().splitlines()]
        if len(lines) > HEAD + TAIL:
            lines[HEAD:-TAIL] = [f"… {len(lines) - HEAD - TAIL} lines, which are in {log(self.folder, one).name} …"]
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", printed)), default=0))
        said = [] if state == "done" else [f"**{escaped(state)}**"]
        return [
            f"### {one.title}",
            *said,
            f"`python {' '.join(one.command)}`",
            "\n".join([f"{fence}text", *lines, fence]),
        ]


def log(folder: Path, one: Part) -> Path:
    """The file of what a part prints."""
    return folder / f"{one.name}.txt"


def without_places(text: str) -> str:
    """A text without the folders of this machine, which are nobody's business and differ from run to run."""
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    places = {f"{CLONE}/": "", str(CLONE): "."} | dict.fromkeys(packages, "site-packages")
    places |= {sys.prefix: "PREFIX", sys.base_prefix: "PREFIX", str(Path.home()): "~"}
    for place in sorted(places, key=len, reverse=True):
        if place.strip("/"):
            text = text.replace(place, places[place])
    return text
