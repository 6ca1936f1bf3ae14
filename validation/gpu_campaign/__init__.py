"""Runs all that is to be shown on a GPU: the tests, the benchmark, and the authors' runs with their errors beside.

Each part is a process of its own, as an error on a device can end a process. What a part printed and drew is kept in
the folder, with hardware, versions and date, and is shown on one page, campaign.md. The same command goes on with what
is not made yet: a part that failed is made again, a run that was stopped goes on from its checkpoint. Data are fetched,
or found in the folder that KFAC_REF_CACHE names.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodiff import arrays
from kfac_ref.data.files import write_text
from validation.gpu_campaign.page import as_page
from validation.gpu_campaign.parts import Part, all_parts, made, shown
from validation.gpu_campaign.processes import Unfinished, hardware, run_python
from validation.work import Work

ITERATIONS = {"full": 1500, "quick": 3}
"""Of the authors' runs."""


def make(work: Work, part: Part, seconds: float, asked: str) -> str:
    """Make a part in at most so many seconds, unless it is made already; "made", or why it is not.

    `asked` is the command that makes it, without the folder.
    """
    if made(work, part) is not None:
        return "made"
    if seconds < part.least:
        return f"not begun: it is given no less than {part.least:.0f} s, and {max(seconds, 0):.0f} s were left"
    print(f"{part.name}: python {shown(work, part)}", flush=True)

    def run() -> dict[str, Any]:
        run_python(part.command, work.out / part.log, seconds)
        return {"ran": shown(work, part), "hardware": hardware(part.backend)}

    try:
        work.part(part.name, asked, run)
    except Unfinished as error:
        return str(error)
    return "made"


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation gpu-campaign --out DIR [--minutes M]`: exit code 0 once all parts are made, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m validation gpu-campaign", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-campaign"), metavar="DIR", help="default: gpu-campaign")
    parser.add_argument("--backend", default="cupy", metavar="NAME", help="cupy (default), or numpy to try it out")
    parser.add_argument("--iterations", type=int, metavar="N", help="of the authors' runs (default: 1500; 3 if quick)")
    parser.add_argument("--quick", action="store_true", help="little of everything: minutes, without a GPU too")
    parser.add_argument("--peers", metavar="PYTHON", help="the Python with JAX and kfac-jax, for the benchmark")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="M", help="begin nothing that is not over by then, and stop"
    )
    options = parser.parse_args(arguments)
    iterations = options.iterations
    if iterations is None:
        iterations = ITERATIONS["quick" if options.quick else "full"]
    if iterations < 1 or not options.minutes > 0:
        raise ValueError(f"--iterations must be ≥ 1 and --minutes > 0; got {iterations} and {options.minutes:g}")
    arrays.backend(options.backend)  # says what is missing where there is no device
    end = time.monotonic() + 60 * options.minutes
    work = Work(options.out, options.quick)
    todo = all_parts(work, options.backend, iterations, options.peers)
    work.refuse_other_kind(part.name for part in todo)
    asked = f"gpu-campaign --backend {options.backend}{' --quick' if work.quick else ''}"
    ended = dict.fromkeys((part.name for part in todo), "not begun")
    try:
        for part in todo:
            ended[part.name] = make(work, part, end - time.monotonic(), asked)
            print(f"{part.name}: {ended[part.name]}\n", flush=True)
    finally:
        text = as_page(work, todo, ended)
        write_text(work.out / "campaign.md", text)
    print(text)
    print(work.out / "campaign.md")
    return int(any(how != "made" for how in ended.values()))
