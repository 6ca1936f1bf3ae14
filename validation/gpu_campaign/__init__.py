"""Shows on a GPU, in minutes, whether all of this works there and how fast: one plan, one page.

Parts: the device; every function of the array library, CuPy against NumPy; the authors' recorded runs; the tests on
CuPy; seconds an iteration beside PyTorch and JAX; MNIST beside the authors' errors. Each is a process of its own with a
share of the time and a hard limit, and prints as it goes, so that a part that hangs or crashes costs nothing but
itself. The page, page.md, is written anew after each, what went wrong first. Data are fetched, or found in the folder
that KFAC_REF_CACHE names; `--pack` gathers what a machine without a network needs.
"""

from __future__ import annotations

import argparse
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from validation.gpu_campaign import pack, plan, processes
from validation.gpu_campaign.page import FILE, Page, log
from validation.gpu_campaign.plan import MINUTES, Part
from validation.gpu_campaign.processes import Outcome

RESULTS = Path(__file__).parents[1] / "results" / "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m validation gpu-campaign [--minutes M]`: exit code 1 if something went wrong; what is cut is not."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m validation gpu-campaign", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="M", help=f"end within M minutes (default: {MINUTES:g})"
    )
    parser.add_argument("--backend", choices=("cupy", "numpy"), default="cupy", help="numpy: to try it without a GPU")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder (default: validation/results/gpu/DATE-DEVICE)"
    )
    parser.add_argument("--pack", type=Path, metavar="DIR", help="gather what must travel in DIR, and run nothing")
    options = parser.parse_args(arguments)
    if options.pack:
        return pack.main(options.pack)
    if not 0 < options.minutes < float("inf"):
        raise ValueError(f"--minutes must be > 0; got {options.minutes:g}")
    device, now = processes.device_name(options.backend), datetime.now(UTC)
    folder = options.out or unused(RESULTS / f"{now:%Y-%m-%d}-{slug(device)}")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--out must be a new or an empty folder, as pages are not mixed; {folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m validation gpu-campaign --minutes {options.minutes:g} --backend {options.backend}"
    page = Page(folder, device, command, f"{now:%Y-%m-%d %H:%M} UTC", plan.parts(options.backend))
    with terminated_as_interrupted():
        outcomes = run(page, options.minutes, begin + 60 * options.minutes)
    print(f"{time.monotonic() - begin:.0f} s; {folder / FILE}")
    return int(any(not outcome.well for outcome in outcomes.values()))


def run(page: Page, minutes: float, end: float) -> dict[str, Outcome]:
    """Run the parts until `end`, by the monotonic clock; the page is there whenever this ends."""
    outcomes: dict[str, Outcome] = {}
    for one in page.todo:
        limit = plan.limit(one, minutes, end - time.monotonic(), last=one is page.todo[-1])
        if not limit:
            print(f"{one.title}: not begun, as time is up", flush=True)
            continue
        print(f"{one.title}: at most {limit:.0f} s", flush=True)
        outcomes[one.name] = _run(page, one, limit, outcomes)
        page.write(outcomes)
        print(f"  {outcomes[one.name].state}, {outcomes[one.name].seconds:.0f} s", flush=True)
    return outcomes


def _run(page: Page, one: Part, limit: float, outcomes: dict[str, Outcome]) -> Outcome:
    log(page.folder, one).touch()
    page.write(outcomes, running=one.name)
    start = time.monotonic()
    try:
        return processes.run(one.command, log(page.folder, one), limit)
    except BaseException:
        page.write(outcomes | {one.name: Outcome("interrupted", time.monotonic() - start, limit)})
        raise


def slug(device: str) -> str:
    """A device's name as part of a folder's."""
    return re.sub("[^a-z0-9]+", "-", device.lower()).strip("-")


def unused(folder: Path) -> Path:
    """The folder, or that with the first number behind it which is not there yet."""
    number = 1
    while (found := folder if number == 1 else folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return found


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Within it, SIGTERM does what Ctrl-C does: what runs is stopped, and the page is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
