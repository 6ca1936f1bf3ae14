"""The page: what each part printed and drew, and where it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kfac_ref.settings import INVERSES
from kfac_ref.training import runs
from validation import reference_run
from validation.figures.drawn import as_text, escaped
from validation.gpu_campaign.parts import RUNS, Part, made, shown
from validation.work import Work

LAST_LINES = 15
"""How much is shown of what the tests print, and of what a part that failed printed."""


def as_page(work: Work, todo: Sequence[Part], ended: Mapping[str, str]) -> str:
    """The page as Markdown; `ended` says of each part whether it is made, or why it is not."""
    kept = {part.name: made(work, part) or {} for part in todo}
    gpu = any(part.backend != "numpy" for part in todo)
    text = ["# What was measured on a GPU" if gpu else "# The GPU's campaign, tried out on NumPy"]
    rows = [
        {"part": name, "state": ended[name], "made": found.get("made"), "seconds": found.get("seconds")}
        for name, found in kept.items()
    ]
    text.append(as_text(rows, "github"))
    text += [f"Made with {escaped(where)}." for where in dict.fromkeys(k["hardware"] for k in kept.values() if k)]
    for part in todo:
        text += [f"## {part.title}", f"`python {shown(work, part)}`"]
        text += [] if kept[part.name] else [f"**{escaped(ended[part.name])}**"]
        printed = _printed(work, part, whole=bool(kept[part.name]) and part.name != "tests")
        text += [f"```text\n{printed}\n```"] if printed else []
        pictures = [*sorted(work.out.glob(f"{part.name}/*.png")), *work.out.glob(f"{part.name}.png")]
        text += [f"![{path.stem}]({path.relative_to(work.out).as_posix()})" for path in pictures]
    # where the folder is does not matter
    return "\n\n".join(text).replace(f"{work.out.resolve()}/", "") + "\n"


def _printed(work: Work, part: Part, whole: bool) -> str:
    """What a part printed, or its last lines; of a run that is not finished, how far it has come."""
    if part.name in RUNS and not whole and (so_far := _so_far(work, part.name)):
        return so_far
    log = work.out / part.log
    text = log.read_text(encoding="utf-8", errors="replace").strip() if log.is_file() else ""
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(lines if whole else lines[-LAST_LINES:])


def _so_far(work: Work, name: str) -> str:
    try:
        lines = runs.read_metrics(work.out / "runs" / INVERSES[0] / "runs" / f"{name}-0")
    except ValueError:
        return ""
    rows = reference_run.from_metrics(lines).rows
    authors = {row["k"]: row for row in reference_run.authors_run(name).rows}
    return f"{len(lines)} iterations so far" + (f"\n\n{reference_run.table(rows, authors)}" if rows else "")
