"""`kfac-ref influence RUN --query K`: which training cases raise or lower the loss of a case (Grosse et al. 2023)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autodiff.arrays import BACKENDS, namespace, to_numpy
from autodiff.passes import forward
from kfac_ref.command import parsers
from kfac_ref.data.dataset import Dataset
from kfac_ref.influence import DIAGONALS, FISHERS, HEURISTIC, Influence
from kfac_ref.training.models import Model
from kfac_ref.training.runs import load, prepare_again

EXACT_OUTPUTS = 32
"""Up to so many outputs F is exact by default: it takes a backward pass for each."""


@dataclass(frozen=True)
class Answer:
    """Of one query."""

    query: int
    about: str
    loss: float
    changes: np.ndarray
    """What leaving out each of the N training cases would add to the loss, to first order: the scores over N."""
    order: np.ndarray
    """The training cases, the most helpful first."""

    def helpful(self, number: int) -> np.ndarray:
        """Those without which the loss would be higher, the most helpful first."""
        return np.array([n for n in self.order[:number] if self.changes[n] > 0], dtype=int)

    def harmful(self, number: int) -> np.ndarray:
        """Those without which it would be lower, the most harmful first."""
        return np.array([n for n in self.order[::-1][:number] if self.changes[n] < 0], dtype=int)


def register(commands: Any) -> None:
    """Add the command to an argument parser's `commands`."""
    parser = parsers.add(
        commands,
        "influence",
        _influence,
        "say which training cases raise or lower the loss of a case",
        "The scores are what leaving a training case out would change, to first order (Grosse et al. 2023).",
        ("influence kfac-runs/fashion16-1 --query 12 37",),
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder; its data are read again")
    parser.add_argument(
        "--query",
        required=True,
        type=int,
        nargs="+",
        metavar="K",
        help="cases to be explained, counted from 0: test cases, or training cases where there are no others",
    )
    parser.add_argument("--top", type=int, default=8, metavar="N", help="cases shown of each kind (default: 8)")
    parser.add_argument(
        "--damping", type=float, metavar="L", help=f"λ+η (default: {HEURISTIC} of the mean of each layer's diagonal)"
    )
    parser.add_argument(
        "--fisher",
        choices=FISHERS,
        help=f"targets of the Fisher (default: exact, or sampled where there are more than {EXACT_OUTPUTS} outputs)",
    )
    parser.add_argument(
        "--diagonal", choices=DIAGONALS, default="ekfac", help="of F in the factors' eigenbasis (default: ekfac)"
    )
    parser.add_argument("--backend", default="numpy", choices=BACKENDS, help="of the arrays (default: numpy)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="the picture of images (default: influence.png in the run's folder)",
    )


def _influence(options: argparse.Namespace) -> int:
    out = options.out or options.run / "influence.png"
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png; got {out}")
    if options.top < 1:
        raise ValueError(f"--top must be at least 1; got {options.top}")
    if not options.run.is_dir():
        raise ValueError(f"{options.run} is no run's folder, and only that says what the network was trained on")
    model, prepared = load(options.run, options.backend), prepare_again(options.run, options.backend)
    data, dataset, held_out = prepared.data, prepared.dataset, prepared.data.X_test is not None
    X, Y = (data.X_test, data.Y_test) if held_out else (data.X, data.Y)
    assert X is not None and Y is not None
    for k in options.query:
        if not 0 <= k < X.shape[0]:
            kind = "test" if held_out else "training"
            raise ValueError(f"there is no {kind} case {k}: they are 0 … {X.shape[0] - 1}")
    fisher = options.fisher or ("exact" if model.network.outputs <= EXACT_OUTPUTS else "sampled")
    found = Influence(
        model.network,
        model.parameters,
        data.X,
        data.Y,
        options.damping,
        fisher,
        options.diagonal,
        seed=prepared.experiment.seed,
    )
    queries = [X[k : k + 1, ...] for k in options.query]
    xp = namespace(X)
    asked, truth = xp.concat(queries), xp.concat([Y[k : k + 1, ...] for k in options.query])
    scores = to_numpy(xp.sum(found.on(asked, truth), axis=0)).astype(np.float64)
    losses = to_numpy(model.network.likelihood.nll(forward(model.network, model.parameters, asked).z, truth))
    answers = []
    # numbers as they were before they were standardised
    undo = model.preparation.outcomes.undo if model.preparation.outcomes is not None else lambda y: y
    targets = to_numpy(undo(truth))
    for k, x, y, loss, row in zip(options.query, queries, targets, losses, scores, strict=True):
        changes = row / row.shape[0]
        about = _about(model, y, to_numpy(model.mean(x))[0])
        answers.append(Answer(k, about, float(loss), changes, np.argsort(-changes, kind="stable")))
    said = {n: _name(model, to_numpy(undo(data.Y[n : n + 1, ...]))[0]) for a in answers for n in _shown(a, options.top)}
    kind = "test case" if held_out else "training case"
    for answer in answers:
        print(_table(answer, kind, options.top, said))
    images = _images(dataset)
    if images is None:
        print("no picture: the cases are no images")
        return 0
    # only now, as Matplotlib takes long to import
    from kfac_ref.command import plots
    from kfac_ref.command.influence_picture import picture

    asked_of = dataset.X_test if held_out else dataset.X
    assert asked_of is not None
    plots.save(picture(answers, images(asked_of), images(dataset.X), said, kind, options.top), out)
    print(f"picture  {out}")
    return 0


def _shown(answer: Answer, top: int) -> Sequence[int]:
    return [int(n) for n in (*answer.helpful(top), *answer.harmful(top))]


def _name(model: Model, y: np.ndarray) -> str:
    """A case's target, in a word: of a classifier or of a single number."""
    if model.classes is not None and len(y) == len(model.classes):
        return str(model.classes[int(y.argmax())])
    return f"{y[0]:.4g}" if len(y) == 1 else ""


def _about(model: Model, y: np.ndarray, mean: np.ndarray) -> str:
    name = _name(model, y)
    if model.classes is None or not name:
        return name
    return f"{name}, taken for {model.classes[int(mean.argmax())]} ({mean.max():.0%})"


def _table(answer: Answer, kind: str, top: int, said: dict[int, str]) -> str:
    about = f" ({answer.about})" if answer.about else ""
    lines = [
        f"{kind} {answer.query}{about}: loss {answer.loss:.4g}",
        "its loss without a training case, to first order:",
    ]
    for title, cases in (("helps", answer.helpful(top)), ("does harm", answer.harmful(top))):
        lines += [f"  {title:<10}{n:>8}  {answer.changes[n]:>+11.3e}  {said[int(n)]}".rstrip() for n in cases]
    return "\n".join(lines) + "\n"


def _images(dataset: Dataset) -> Any:
    """What makes images (N, rows, columns) or (N, rows, columns, 3) of rows of X; None where they are none."""
    if dataset.image_shape is not None:
        shape = dataset.image_shape
        return lambda X: X.reshape(len(X), *shape)
    if dataset.case_shape is not None and len(dataset.case_shape) == 3 and dataset.case_shape[0] in (1, 3):
        shape3 = dataset.case_shape
        return lambda X: np.moveaxis(X.reshape(len(X), *shape3), 1, -1).squeeze(-1 if shape3[0] == 1 else ())
    return None
