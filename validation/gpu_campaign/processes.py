"""Parts as processes, each with a hard limit: whatever becomes of one, the next gets its turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from validation.gpu_campaign.part import CUT, DONE

CLONE = Path(__file__).parents[2]
SAY_WHERE = 2.0
"""Seconds before its limit at which a process that should have ended is made to say where it is."""
DESCRIBING = 60.0
"""Seconds within which a device has to say its name."""


@dataclass(frozen=True)
class Outcome:
    """How a part ended."""

    state: str
    """"done", "cut" (it ended itself as time was up), or what went wrong."""
    seconds: float
    limit: float

    @property
    def well(self) -> bool:
        """Whether nothing went wrong."""
        return self.state in ("done", "cut")


def run(command: Sequence[str], log: Path, limit: float) -> Outcome:
    """Run Python with these arguments in the clone, what it prints going to `log`, for at most `limit` seconds.

    It is told by `--until` to end a little earlier. At the limit all processes that it started are killed with it.
    """
    start = time.monotonic()
    until = time.time() + limit - min(2 * SAY_WHERE + 2, limit / 4)
    with open(log, "wb") as file, _started([*command, "--until", f"{until:.3f}"], file.fileno()) as process:
        try:
            code = process.wait(limit - min(SAY_WHERE, limit / 8))
            state = {DONE: "done", CUT: "cut"}.get(code) or _failure(code)
        except subprocess.TimeoutExpired:
            state = f"stopped at its limit of {limit:.0f} s"
            # faulthandler then writes where each thread is
            process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(limit - (time.monotonic() - start), 0))
    return Outcome(state, time.monotonic() - start, limit)


@contextmanager
def _started(command: Sequence[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is killed in the end with all that it started and left running."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONUTF8": "1"},
        # the head of a group of its own, which Ctrl-C reaches through here alone
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if sys.platform == "win32":
            process.kill()
        else:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        # not even that ends what waits for a driver that does not answer
        with suppress(subprocess.TimeoutExpired):
            process.wait(SAY_WHERE)


def _failure(code: int) -> str:
    if code >= 0:
        return f"failed with exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def device_name(backend: str) -> str:
    """What the backend's device is called, asked in a process of its own, as even that may hang or crash.

    ValueError, saying what is missing, where there is none.
    """
    ask = "import sys; from validation.gpu_campaign import device; print(device.name(sys.argv[1]))"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", ask, backend],
            cwd=CLONE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DESCRIBING,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f'backend "{backend}" did not say its name within {DESCRIBING:.0f} s') from None
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or [_failure(answer.returncode)])[-1]
        raise ValueError(said.removeprefix("ValueError: "))
    return answer.stdout.strip()
