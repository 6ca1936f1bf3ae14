"""A folder of evidence: what was computed once is kept there and used again, so that what was stopped goes on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from threadpoolctl import threadpool_info

import kfac_ref
from kfac_ref.command import reporting
from kfac_ref.data import datasets
from kfac_ref.data.datasets import Dataset
from kfac_ref.data.fetching import FetchError
from kfac_ref.data.files import write_text, write_whole
from kfac_ref.optimizer import Diverged
from kfac_ref.training import runs
from kfac_ref.training.experiment import Experiment, prepare

Arrays = dict[str, np.ndarray]

FINISHED = "finished\n"
"""How a run ended that did not diverge."""


@dataclass(frozen=True)
class Trained:
    """A training run."""

    lines: list[dict[str, Any]]
    """One mapping per iteration, as in `metrics.jsonl`: k, m, h, error, seconds …; evaluated ones have train_error …"""
    diverged: bool
    """Whether it ended because the objective was not finite any more."""


@dataclass(frozen=True)
class Work:
    """Where evidence goes, and how much of it is made."""

    out: Path
    """The folder."""
    quick: bool = False
    """Whether less is computed, so that all of it takes minutes."""

    def kept(self, name: str, settings: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> Arrays:
        """The arrays that `compute` returns, by name: computed once for these `settings` (JSON) and kept as an npz."""
        path, described = self.out / "kept" / f"{name}.npz", json.dumps(settings, sort_keys=True)
        found = _read(path)
        if found is not None and str(found.pop("settings")) == described:
            return found
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in compute().items()}
        write_whole(path, lambda file: np.savez_compressed(file, settings=described, **arrays))
        return arrays

    def part(self, name: str, what: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Make a part of the evidence and write NAME.json: what `make` returns, and how long it took, when and where.

        `what` is the command that makes it, without the folder.
        """
        start = time.perf_counter()
        content = make()
        made = {
            "command": f"python -m validation {what}",
            "quick": self.quick,
            "seconds": round(time.perf_counter() - start, 1),
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": machine(),
        } | dict(content)
        write_text(self.out / f"{name}.json", json.dumps(made, indent=2, ensure_ascii=False) + "\n")
        return made

    def refuse_other_kind(self, names: Iterable[str]) -> None:
        """ValueError if one of these parts was made quickly and this is not quick, or the other way round: files of
        both kinds have the same names."""
        for name in names:
            other = Work(self.out, not self.quick)
            if other.made(name) is not None:
                kinds = ("the quick", "the full") if self.quick is False else ("the full", "the quick")
                raise ValueError(f"{self.out} holds {kinds[0]} evidence ({name}); give {kinds[1]} another --out")

    def made(self, name: str) -> dict[str, Any] | None:
        """What `part` wrote before, of the same kind (quick or not); None if there is none, or it is damaged."""
        try:
            made = json.loads((self.out / f"{name}.json").read_text(encoding="utf-8"))
            return made if made["quick"] == self.quick else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def train(self, name: str, experiment: Experiment, plan: runs.Plan) -> Trained:
        """Train in the folder runs/`name`, or go on there if this was begun before; nothing if it was finished."""
        folder = self.out / "runs" / name
        request, described = folder / "request.json", json.dumps([experiment.asdict(), asdict(plan)], sort_keys=True)
        ended = folder / "ended.txt"
        if not request.is_file() or request.read_text(encoding="utf-8") != described:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(request, described)
        if not ended.is_file():
            how = self._run(folder, experiment, plan)
            # only now are the last metrics and the last checkpoint those of the same iteration
            write_text(ended, how)
        return Trained(runs.read_metrics(folder), ended.read_text(encoding="utf-8") != FINISHED)

    def _run(self, folder: Path, experiment: Experiment, plan: runs.Plan) -> str:
        """Run to the plan's end, and say how it ended."""
        prepared = prepare(experiment)
        with runs.at_work(folder):
            begun = (folder / runs.SETTINGS).is_file()
            run = runs.resume(folder, prepared) if begun else runs.start(folder, prepared, plan)
            with reporting.progress_bar(plan, run) as bar:
                bar.set_description(folder.name)
                bar.leave = False
                try:
                    run.train(plan, lambda line: reporting.advance(bar, plan, line))
                except Diverged as error:
                    return f"diverged: {error}\n"
        return FINISHED


def _read(path: Path) -> Arrays | None:
    """The arrays in an npz that `Work.kept` wrote; None if there is none, or it is not whole."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:  # NumPy and zipfile raise much besides their own errors at bytes that are not what they should be
        return None
    return arrays if "settings" in arrays else None


def first_to_be_had(*names: str) -> Dataset:
    """The first of these data sets that is here or can be fetched. FetchError if none can."""
    for name in names[:-1]:
        with suppress(FetchError):
            return datasets.load(name)
    return datasets.load(names[-1])


def machine() -> str:
    """Versions, processors and BLAS, as evidence says them."""
    pools = ", ".join(
        sorted(
            {
                f"{x['internal_api']} {x['version']} {x.get('architecture', '')}, {x['num_threads']} threads"
                for x in threadpool_info()
            }
        )
    )
    versions = f"kfac-ref {kfac_ref.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{versions}, SciPy {scipy.__version__}; {platform.machine()}, {os.cpu_count()} processors; {pools}"
