"""A run's folder: `settings.json`, `metrics.jsonl`, `checkpoint.npz`, and the pictures.

A run that was killed at any moment is resumed from its last checkpoint; metrics behind the checkpoint are dropped, for
the resumed run writes them again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from autodiff import arrays
from autodiff.arrays import device
from kfac_ref import machine
from kfac_ref.baselines import SGD, SGDState
from kfac_ref.data.files import write_text
from kfac_ref.machine import ALONE, NARROW, Processes, agreed
from kfac_ref.optimizer import KFAC, Diverged, State
from kfac_ref.training import checkpoints, loop, models
from kfac_ref.training.experiment import Experiment, Prepared, network_of, prepare
from kfac_ref.training.stopping import Patience

SETTINGS, METRICS, CHECKPOINT = "settings.json", "metrics.jsonl", "checkpoint.npz"
FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """When to stop, evaluate and save, and with how many threads to compute.

    ValueError naming the bound that is out of its range.
    """

    iterations: int | None = None
    """Stop after this many, counted from the first; None: no such bound."""
    seconds: float | None = None
    """Stop after this much training time, evaluation and saving not counted, counted from the first iteration."""
    evaluate_every: int = 20
    """Iterations between evaluations on all cases; the last is always evaluated."""
    save_every: float = 30.0
    """Seconds between checkpoints; the last state is always saved, and at 0 every state."""
    threads: int | None = None
    """Of the BLAS, throughout; None: as many as serve, which may change (see `machine.at_full_speed`)."""
    patience: int | None = None
    """Stop after so many evaluations in a row that held-out cases gained nothing from, and keep the model that was best
    for them; None: keep the last."""

    def __post_init__(self) -> None:
        if self.iterations is not None and self.iterations < 1:
            raise ValueError(f"iterations must be ≥ 1; got {self.iterations}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be finite and > 0; got {self.seconds}")
        if self.evaluate_every < 1:
            raise ValueError(f"evaluate_every must be ≥ 1; got {self.evaluate_every}")
        if not 0 <= self.save_every < math.inf:
            raise ValueError(f"save_every must be finite and ≥ 0; got {self.save_every}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be ≥ 1; got {self.threads}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be ≥ 1; got {self.patience}")

    def done(self, k: int, seconds: float) -> bool:
        """Whether the run ends after k iterations and so many seconds."""
        return (self.iterations is not None and k >= self.iterations) or (
            self.seconds is not None and seconds >= self.seconds
        )


@dataclass
class Run:
    """A run in progress in its folder."""

    folder: Path
    prepared: Prepared
    state: loop.AnyState
    seconds: float = 0.0
    """Training time so far, evaluation and saving not counted."""
    stop: bool = False
    """Set to end the run after the present iteration."""
    last: dict[str, Any] = field(default_factory=dict)
    """The last evaluation."""
    evaluated: int = 0
    """The iteration after which it was."""
    best: int | None = None
    """Where there is patience: the iteration after which held-out cases were predicted best."""
    exhausted: bool = False
    """Whether patience has come to its end."""

    @property
    def processes(self) -> Processes:
        """Those that train together. The first alone reads and writes in the folder, looks at the clock and decides."""
        return self.prepared.optimizer.processes

    def train(self, plan: Plan, report: Callable[[dict[str, Any]], None]) -> None:
        """Run Algorithm 2, or the baseline, until the plan says so or `stop` is set.

        Each iteration's metrics go to `metrics.jsonl` and to `report`. Whatever ends the run, what it did is saved; if
        h diverged, that is the last good state.
        """
        saved = time.perf_counter()
        sound = self.state, self.seconds
        patience = self.patience(plan)
        # what overflows is found by the optimizer, which says so
        tell, first = self.processes.tell, self.processes.first
        with (
            open(self.folder / METRICS if first else os.devnull, "a", encoding="utf-8") as metrics,
            np.errstate(over="ignore", invalid="ignore"),
            self.at_full_speed(plan),
        ):
            try:
                iterations = loop.iterate(self.prepared.optimizer, self.state, self.prepared.data)
                while tell(not (self.stop or self.exhausted or plan.done(self.state.k, self.seconds))):
                    before = self.state, self.seconds
                    state, record, seconds = next(iterations)
                    seconds, stop = tell((seconds + self.seconds, self.stop))
                    line: dict[str, Any] = loop.scalars(record) | {"seconds": round(seconds, 6)}
                    del record
                    if state.k % plan.evaluate_every == 0 or stop or plan.done(state.k, seconds):
                        line |= self._evaluate(state)
                    _append(metrics, line)
                    # only now is the iteration done: whatever interrupts, a state is saved with its metrics written
                    self.state, self.seconds = state, seconds
                    sound = before
                    if patience is not None:
                        self._await(patience, line)
                    report(line)
                    if tell(time.perf_counter() - saved >= plan.save_every):
                        self.save()
                        saved = time.perf_counter()
            except BaseException as error:
                if isinstance(error, Diverged):
                    # h was found not to be finite at the present state, so the last good one is that before it
                    self.state, self.seconds = sound
                # what ends one of several processes finds the others elsewhere
                if self.processes.alone or agreed(error):
                    self.save()
                raise
            self.save()
            if self.evaluated != self.state.k:
                self._evaluate(self.state)

    def at_full_speed(self, plan: Plan) -> AbstractContextManager[int | None]:
        """`machine.at_full_speed` for this run; `train` is within it, whether or not its caller is already."""
        # the BLAS has nothing to do for arrays that are not on the host
        widest = self.prepared.network.widest if device(self.prepared.data.X) == "cpu" else 1
        threads = plan.threads or self.processes.threads
        return machine.at_full_speed(widest, 1 if widest <= NARROW and not plan.threads and threads else threads)

    def _evaluate(self, state: loop.AnyState) -> dict[str, Any]:
        p, settings = self.prepared, self.prepared.optimizer.settings
        self.last = loop.evaluate_all(p.network, state, p.data, settings.eta, settings.chunk_size, self.processes)
        self.evaluated = state.k
        return self.last

    def patience(self, plan: Plan) -> Patience | None:
        """What is left of the plan's patience, by the run's metrics; ValueError if no cases are held out."""
        require_held_out(self.prepared, plan)
        if plan.patience is None:
            return None
        patience = Patience(plan.patience)
        self.exhausted = False
        for line in self.processes.by_first(lambda: read_metrics(self.folder)):
            self._await(patience, line, keep=False)
        return patience

    def _await(self, patience: Patience, line: dict[str, Any], keep: bool = True) -> None:
        """Take one line of metrics; write the model if its evaluation is the best so far."""
        if "test_h" not in line:
            return
        h = line.get("test_h_averaged", line["test_h"])
        if patience.better(math.inf if h is None else h):
            self.best = line["k"]
            if keep and self.processes.first:
                self.model().save(self.folder / models.MODEL)
        self.exhausted = patience.exhausted

    def model(self) -> models.Model:
        """The network as it is now, with the averaged iterate θ̄ as its parameters."""
        p = self.prepared
        about = {"data": p.dataset.name, "source": p.dataset.source, "iterations": self.state.k}
        return models.Model(p.network, list(self.state.averaged), p.purpose, p.dataset.preparation, about)

    def save(self) -> None:
        """Write the checkpoint, and the model unless a better one is kept."""
        optimizer, state = self.prepared.optimizer, self.state
        if isinstance(optimizer, KFAC) and isinstance(state, State):
            state = optimizer.gathered(state)
        self.processes.by_first(lambda: self._write(state))

    def _write(self, state: loop.AnyState) -> None:
        checkpoints.save(self.folder / CHECKPOINT, self.prepared.network, state, self.seconds)
        if self.best is None:
            self.model().save(self.folder / models.MODEL)


def require_held_out(prepared: Prepared, plan: Plan) -> None:
    """ValueError if the plan has patience and no cases are held out."""
    if plan.patience is not None and prepared.data.X_test is None:
        raise ValueError("patience needs held-out cases: give --validation 0.1, or data with X_test")


@contextmanager
def at_work(folder: Path, processes: Processes = ALONE) -> Iterator[None]:
    """Keep other runs out of `folder`; ValueError if it is not there, or one is at work in it.

    The lock is the operating system's, so that none is left behind by a process that was killed.
    """
    with ExitStack() as stack:

        def lock() -> None:
            if not folder.is_dir():
                raise ValueError(f"{folder} holds no run: it is no folder")
            try:
                stack.enter_context(FileLock(folder / ".lock", timeout=0))
            except Timeout:
                raise ValueError(f"another kfac-ref is at work in {folder}") from None

        processes.by_first(lock)
        yield


def new_folder(folder: Path) -> Path:
    """Make `folder` for a run, unless it is there; ValueError if it is a file."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the run, which is made if it is not there")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def next_folder(parent: Path, name: str) -> Path:
    """A new folder `name`-1, `name`-2 or so on in `parent`, made at once, so that no other process takes it."""
    number = 1
    while True:
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def start(folder: Path, prepared: Prepared, plan: Plan) -> Run:
    """A new run in `folder`, which must be there; ValueError if there is a run in it already."""
    # the settings are written last, so that what was killed before it had begun is no run
    run = Run(folder, prepared, prepared.first_state())

    def begin() -> None:
        if (folder / SETTINGS).exists():
            raise ValueError(f"{folder} holds a run already; go on with it by --resume, or give another --out")
        write_text(folder / METRICS, "")

    run.processes.by_first(begin)
    run.save()
    run.processes.by_first(lambda: write_settings(run, plan))
    return run


def write_settings(run: Run, plan: Plan) -> None:
    """Write `settings.json`: all that decides the run, and its plan."""
    p = run.prepared
    about = {"format": FORMAT, "purpose": p.purpose, "source": p.dataset.source, "data_crc32": p.dataset.crc32()}
    settings = about | p.experiment.asdict()
    write_text(run.folder / SETTINGS, json.dumps(settings | {"plan": asdict(plan)}, indent=2) + "\n")


def read_settings(folder: Path) -> tuple[Experiment, Plan]:
    """The description of the run in `folder`, and its plan; ValueError if there is none, or it cannot be read."""
    path, values = folder / SETTINGS, _settings(folder)
    try:
        return Experiment.fromdict(values), Plan(**values["plan"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, or not the settings of a run: {type(error).__name__}: {error}") from error


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        raise ValueError(f"{folder} holds no run: there is no {SETTINGS} in it")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or not the settings of a run: {type(error).__name__}: {error}") from error
    if found != FORMAT:
        raise ValueError(f"{path} has format {found}, expected {FORMAT}")
    return values


def resume(folder: Path, prepared: Prepared) -> Run:
    """The run in `folder`, as it was at its last checkpoint. ValueError if that is missing, damaged or another's, or if
    the data are not those that the run began with."""
    processes, optimizer = prepared.optimizer.processes, prepared.optimizer
    nothing: tuple[Any, float] = None, 0.0
    state, seconds = processes.agree(lambda: _resumed(folder, prepared) if processes.first else nothing)
    state = optimizer.told(state) if isinstance(optimizer, KFAC) else processes.tell(state)
    return Run(folder, prepared, state, processes.tell(seconds))


def _resumed(folder: Path, prepared: Prepared) -> tuple[Any, float]:
    _require_same_data(folder, prepared)
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{folder} holds no checkpoint: there is no {CHECKPOINT} in it")
    state, seconds = checkpoints.load(path, prepared.network, prepared.data.X)
    if isinstance(state, SGDState) != isinstance(prepared.optimizer, SGD):
        raise ValueError(f"{path} is not a checkpoint of the optimizer {prepared.experiment.optimizer}")
    lines = [line for line in read_metrics(folder) if line["k"] <= state.k]
    write_text(folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
    return state, seconds


def prepare_again(folder: Path, backend: str = "numpy") -> Prepared:
    """What the run in `folder` was of, its data read again. ValueError if there is no run, or its data are not there as
    they were."""
    experiment, _ = read_settings(folder)
    prepared = prepare(replace(experiment, backend=backend))
    _require_same_data(folder, prepared)
    return prepared


def _require_same_data(folder: Path, prepared: Prepared) -> None:
    if prepared.dataset.crc32() != _settings(folder).get("data_crc32"):
        raise ValueError(f'"{prepared.experiment.data}" does not hold the data that the run in {folder} began with')


def load(path: str | Path, backend: str = "numpy") -> models.Model:
    """The model that a run left, or that `Model.save` wrote.

    Parameters
    ----------
    path : str or Path
        A run's folder, or a safetensors file. Of a run, also of one that is not finished, it is the averaged iterate
        θ̄ as last saved, or, with patience, that which was best for held-out cases.
    backend : {"numpy", "cupy", "cupy-tf32"}
        Whose arrays it computes with.

    Raises
    ------
    ValueError
        If there is no such run or file, it is damaged, or there is no such backend.
    """
    path = Path(path)
    if path.is_dir():
        model = models.read(path / models.MODEL) if (path / models.MODEL).is_file() else _from_checkpoint(path)
    else:
        model = models.read(path)
    xp = arrays.backend(backend)
    return model if backend == "numpy" else model.to(xp.zeros(0, dtype=getattr(xp, str(model.parameters[0].dtype))))


def _from_checkpoint(folder: Path) -> models.Model:
    # a run of a version that left no model
    experiment, _ = read_settings(folder)
    network = network_of(experiment, purpose := _settings(folder)["purpose"])
    state, _ = checkpoints.load(folder / CHECKPOINT, network, np.zeros(0, dtype=experiment.dtype))
    about = {"data": experiment.data, "iterations": state.k}
    return models.Model(network, list(state.averaged), purpose, about=about)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """One dictionary per iteration; a last line that is not whole, as a killed run may leave it, is left out.

    ValueError if `metrics.jsonl` is missing, or another line of it cannot be read.
    """
    path = folder / METRICS
    if not path.is_file():
        raise ValueError(f"{folder} holds no run: there is no {METRICS} in it")
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not text") from error
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append(record | {"k": int(record["k"])})
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}, line {number}: not a record of an iteration ({line.strip()[:60]!r})") from error
    return records


def _append(metrics: IO[str], line: dict[str, Any]) -> None:
    metrics.write(json.dumps(line) + "\n")
    metrics.flush()
