"""The parts of the campaign, as commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from validation.work import Work

QUICK_TESTS = ("tests/autodiff", "tests/kfac_ref/curvature/test_quadratic.py", "tests/kfac_ref/test_transfers.py")
RUNS = ("mnist", "curves", "faces")


@dataclass(frozen=True)
class Part:
    """A part, made by one process."""

    name: str
    """Its files in the folder are called so."""
    title: str
    command: tuple[str, ...]
    """What Python is given."""
    backend: str
    least: float
    """Seconds without which it is not begun."""

    @property
    def log(self) -> str:
        """The file of what it prints."""
        return f"{self.name}.txt"


def all_parts(work: Work, backend: str, iterations: int, peers: str | None = None) -> list[Part]:
    """All parts, in their order."""
    quick, out = work.quick, work.out.resolve()
    tests = ["-m", "pytest", "-q", "-rs", *(QUICK_TESTS if quick else ())]
    found = [Part("tests", "The tests", tuple(tests), backend, 20 if quick else 120)]
    for on in (backend, "cupy-tf32") if backend == "cupy" else (backend,):
        name = "benchmark" if on == backend else "benchmark-tf32"
        run = ["-m", "validation", "benchmark", "--backend", on, "--out", f"{out / name}"]
        run += ["--json", f"{out / name}-numbers.json"]
        run += ["--quick", "--only", "curves"] if quick else []
        run += ["--peers", peers] if peers and on == backend else []
        found.append(Part(name, f"The benchmark, {on}", tuple(run), on, 20 if quick else 180))
    for name in RUNS:
        run = ["-m", "validation", "reference-run", name, "--iterations", f"{iterations}", "--backend", backend]
        run += ["--folder", f"{out / 'runs'}", "--out", f"{out / name}.png"]
        title = f"{name}: errors beside the authors'"
        found.append(Part(name, title, tuple(run), backend, 20 if quick else 60))
    return found


def shown(work: Work, part: Part) -> str:
    """The command's arguments with paths that do not depend on where the folder and the peers are."""
    words = [
        "PYTHON" if before == "--peers" else word
        for before, word in zip(("", *part.command), part.command, strict=False)
    ]
    return " ".join(words).replace(f"{work.out.resolve()}/", "")


def made(work: Work, part: Part) -> dict[str, Any] | None:
    """What is kept of a part that the same command made; None if there is none."""
    found = work.made(part.name)
    return found if found is not None and found.get("ran") == shown(work, part) else None
