"""All evidence on one page, as Markdown and as HTML that stands alone: statements, recorded runs, figures.

Figures that are in the folder already are used again, so that a report that was stopped goes on where it was; after a
change of the code, use another folder. Every part says by which command it is made again.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import markdown
from tqdm import tqdm

from kfac_ref.data.files import write_text
from validation import figures, replay, theorems
from validation.figures.drawn import as_text, escaped
from validation.work import Work, machine

TRACES = Path(__file__).parents[1] / "tests" / "traces"

VERDICTS = ("theorems", "replay")
"""The parts that pass or fail."""

STYLE = """
body { max-width: 88rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #222; }
p { max-width: 60rem; }
p:has(img) { max-width: none; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { min-width: 3.8rem; padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; }
th, td { text-align: left; vertical-align: top; }
img { max-width: 100%; } code { background: #f4f4f4; padding: 0 0.2rem; } h2 { margin-top: 3rem; }
"""


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    name: str
    """Its files in the folder are called so."""
    seconds: float
    """About how long it takes to make, on two quiet cores."""
    make: Callable[[], dict[str, Any]]


def parts(work: Work) -> list[Part]:
    """All sections, in their order."""

    def drawing(name: str, file: str) -> Part:
        module = figures.module(name)
        seconds = module.SECONDS["quick" if work.quick else "full"]
        return Part(module.TITLE, file, seconds, lambda: figures.make(name, work))

    return [
        Part("The paper's statements", "theorems", theorems.SECONDS, lambda: _statements(work)),
        Part("Recorded runs of the authors' program, replayed", "replay", 10, lambda: _replays(work)),
        *(drawing(name, file) for name, file in figures.FIGURES.items()),
    ]


def _statements(work: Work) -> dict[str, Any]:
    def examine() -> dict[str, Any]:
        results = theorems.examine_all(list(theorems.STATEMENTS))
        tried = sum(result.tried for result in results)
        return {
            "caption": f"{len(results)} statements, {tried} random instances, float64.",
            "table": [r.row() | {"again by": f"`python -m validation theorems {r.statement.name}`"} for r in results],
            "failed": [result.statement.name for result in results if result.failed],
        }

    return work.part("theorems", "theorems", examine)


def _replays(work: Work) -> dict[str, Any]:
    def repeat() -> dict[str, Any]:
        replays = {path.name: replay.replay(path) for path in sorted(TRACES.glob("*.npz"))}
        return {
            "caption": "Worst relative differences from what the authors' program recorded.",
            "table": [
                {"run": name, "iterations": r.iterations} | {key: f"{value:.1e}" for key, value in r.worst.items()}
                for name, r in replays.items()
            ],
            "failed": [name for name, r in replays.items() if not r.passed],
        }

    return work.part("replay", "replay tests/traces/*.npz", repeat)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation report --out DIR [--quick]`: exit code 1 if something fails or could not be made."""
    parser = argparse.ArgumentParser(prog="python -m validation report", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("report"), metavar="DIR", help="default: report")
    parser.add_argument("--quick", action="store_true", help="less of everything: under ten minutes on two cores")
    options = parser.parse_args(arguments)
    work = Work(options.out, options.quick)
    work.refuse_other_kind(part.name for part in parts(work))
    # what can fail is tried every time
    todo = [part for part in parts(work) if part.name in VERDICTS or work.made(part.name) is None]
    expected = sum(part.seconds for part in todo)
    print(f"{len(todo)} of {len(parts(work))} parts are to be made: about {_duration(expected)} on two quiet cores.")
    print("If this is stopped, the same command goes on.", flush=True)
    failures = []
    form = "{l_bar}{bar}| {n:.0f} of about {total:.0f} s [{elapsed}]"
    with tqdm(total=expected, bar_format=form, disable=None) as bar:
        for part in todo:
            bar.set_description(part.name)
            try:
                part.make()
            except Exception as error:  # what fails, for want of data say, is no reason to lose the rest
                failures.append(f"{part.name} could not be made: {type(error).__name__}: {error}")
                tqdm.write(traceback.format_exc(), file=sys.stderr)
            bar.update(part.seconds)
    for part in parts(work):
        failures += [f"{part.name}: {what} fails" for what in (work.made(part.name) or {}).get("failed", ())]
    text = page(work, failures)
    write_text(work.out / "report.md", text)
    write_text(work.out / "report.html", as_html(text, work.out))
    print(f"{work.out / 'report.md'}\n{work.out / 'report.html'}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return int(bool(failures))


def page(work: Work, failures: Sequence[str]) -> str:
    """The page as Markdown."""
    command = f"python -m validation report{' --quick' if work.quick else ''}"
    text = ["# The evidence for kfac-ref", f"Made by `{command}` with {escaped(machine())}."]
    text += [f"**{escaped(failure)}**" for failure in failures] or ["All of it passes."]
    rows = []
    for part in parts(work):
        text.append(f"## {part.title}")
        made = work.made(part.name)
        if made is None:
            text.append("Not made.")
            continue
        picture = f"{part.name}.png"
        text += [f"![{part.title}]({picture})"] if (work.out / picture).is_file() else []
        text.append(escaped(made["caption"]))
        text += [as_text(made["table"], "github")] if made["table"] else []
        text.append(f"Again by `{made['command']}` ({made['seconds']} s here, on top of what the folder held).")
        rows.append({key: made[key] for key in ("made", "seconds", "machine")} | {"part": part.title})
    columns = ("part", "made", "seconds", "machine")
    text += ["## When, and on what machine", as_text([{c: row[c] for c in columns} for row in rows], "github")]
    return "\n\n".join(text) + "\n"


def as_html(text: str, folder: Path) -> str:
    """The page as HTML with its pictures inside."""

    def inline(match: re.Match[str]) -> str:
        data = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{data}"'

    body = re.sub(r'src="([^":]+\.png)"', inline, markdown.markdown(text, extensions=["tables"]))
    head = f'<meta charset="utf-8"><title>The evidence for kfac-ref</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
