"""The oracle's commands: `kfac-ref case`, `truth` and `check`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from autodiff import arrays
from autodiff.initialisation import INITIALISATIONS
from autodiff.network import Network
from autodiff.passes import forward
from kfac_ref.command import parsers
from kfac_ref.data import datasets
from kfac_ref.oracle.captured import load_case
from kfac_ref.oracle.case import Case
from kfac_ref.oracle.check import check
from kfac_ref.oracle.truth import Truth, truth
from kfac_ref.training.experiment import Experiment, prepare

CASES = 100
"""In a case, unless told otherwise."""
PROBE, SAMPLED = 1, 2
"""Purposes of random numbers: with the seed, their keys."""


def register(commands: Any) -> None:
    """Add the three to an argument parser's `commands`."""
    case = parsers.add(
        commands,
        "case",
        _case,
        "make a case to check another implementation of K-FAC with: a network, its parameters and data",
        "That implementation is to compute its factors, gradient or steps for the case and to save them; `truth` says "
        "what is right, and `check` what theirs are.",
        ("case --network 256-20-10 --likelihood categorical --cases 40 --lambda 0.01 --out case.npz",),
    )
    case.add_argument(
        "--data",
        default=datasets.DEFAULT,
        metavar="NAME|PATH",
        help="as for train; without targets of its own, an autoencoder's inputs are its targets (default: %(default)s)",
    )
    case.add_argument(
        "--network",
        type=parsers.network,
        metavar="NETWORK",
        help="sizes, as 256-20-20-10; or of other layers, by name, as a line or the path of a JSON file, as for train",
    )
    case.add_argument(
        "--activation",
        metavar="NAME[,NAME…]",
        help="of networks by sizes: of all hidden layers, an autoencoder's code layer being linear, or of each in turn "
        "(default: tanh)",
    )
    case.add_argument("--likelihood", metavar="NAME", help="bernoulli, categorical or gaussian")
    case.add_argument(
        "--initialisation",
        metavar="NAME",
        help="sparse (default for networks by sizes), he (default for others) or glorot",
    )
    case.add_argument("--cases", type=int, metavar="N", help=f"the first N training cases (default: {CASES})")
    case.add_argument("--seed", type=int, default=0, metavar="N", help="of parameters, V and samples (default: 0)")
    for name, meaning in (
        ("gamma", "γ of the damping; sqrt(lambda + eta) if lambda alone is given"),
        ("lambda", "λ; lambda + eta is gamma² if gamma alone is given"),
        ("eta", "ℓ₂ coefficient η (default: 0)"),
    ):
        case.add_argument(f"--{name}", type=float, metavar="X", help=meaning)
    case.add_argument("--probe", action="store_true", help="add a random direction V, for products with the Fisher")
    case.add_argument("--sampled", action="store_true", help="add targets drawn from the model")
    case.add_argument("--out", required=True, type=Path, metavar="CASE.npz", help="the case")

    of = parsers.add(
        commands,
        "truth",
        _truth,
        "write the exact gradient, factors, Fisher, inverses and steps of a case",
        examples=("truth case.npz --out truth.npz",),
    )
    of.add_argument("case", type=Path, metavar="CASE.npz", help="what `case` made, or a capture")
    of.add_argument("--out", required=True, type=Path, metavar="TRUTH.npz", help="the arrays, by name")

    judge = parsers.add(
        commands,
        "check",
        _check,
        "say which conventions somebody else's numbers for a case follow",
        "Exit code 0 if everything matches as it stands, 1 if something differs, 2 for bad input.",
        ("check theirs.npz --case case.npz --explain",),
    )
    judge.add_argument(
        "theirs",
        type=Path,
        metavar="THEIRS.npz",
        help="their arrays, named as those of a truth: A_0, G_1 …",
    )
    judge.add_argument("--case", required=True, type=Path, metavar="CASE.npz", help="for which they were computed")
    judge.add_argument("--json", action="store_true", help="print JSON instead of a table")
    judge.add_argument(
        "--explain",
        action="store_true",
        help="for what differs, add the formula that theirs computes, the right one and its section in the paper",
    )


def _case(options: argparse.Namespace) -> int:
    names = options.activation.split(",") if options.activation is not None else []
    prepared = prepare(
        Experiment(
            data=options.data,
            network=options.network,
            activation=names[0] if names else None,
            likelihood=options.likelihood,
            initialisation=options.initialisation,
            seed=options.seed,
            dtype="float64",
            constants={},
        )
    )
    network = prepared.network
    if len(names) > 1:
        network = Network(network.sizes, names, network.likelihood)
    X, Y = prepared.data.X, prepared.data.Y
    N = min(CASES, len(X)) if options.cases is None else options.cases
    if not 1 <= N <= len(X):
        raise ValueError(f"--cases {N}, expected 1 to {len(X)}: {prepared.dataset.name} has so many training cases")
    case = Case(
        network,
        INITIALISATIONS[str(prepared.experiment.initialisation)](network, options.seed),
        arrays.namespace(X).reshape(X[:N], (N, *network.input)),
        Y[:N],
        gamma=options.gamma,
        lam=getattr(options, "lambda"),
        eta=options.eta or 0.0,
    )
    if options.probe:
        shapes = enumerate(network.shapes, start=1)
        case = replace(case, V=[arrays.normal((options.seed, PROBE, i), shape, X) for i, shape in shapes])
    if options.sampled:
        z = forward(network, case.parameters, case.X).z
        case = replace(case, sampled=network.likelihood.sample(z, (options.seed, SAMPLED)))
    case.save(options.out)
    also = [*(["V"] if options.probe else []), *(["sampled targets"] if options.sampled else [])]
    print(f"{options.out}: {network}, {N} cases of {prepared.dataset.name}{', with ' * bool(also)}{' and '.join(also)}")
    return 0


def _truth(options: argparse.Namespace) -> int:
    if options.out.resolve() == options.case.resolve():
        raise ValueError(f"--out is the case itself: {options.out}")
    case = load_case(options.case)
    found = truth(case)
    found.save(options.out)
    print(f"{options.out}: {case.network}, {case.cases} cases\n{table(found)}")
    reasons: dict[str, list[str]] = {}
    for name, reason in found.left_out.items():
        reasons.setdefault(reason, []).append(name)
    for reason, left_out in reasons.items():
        print(f"kfac-ref: left out {', '.join(left_out)}: {reason}", file=sys.stderr)
    return 0


def table(found: Truth) -> str:
    """What there is: names with i and j for layers, how many arrays, and their shapes, or value."""
    groups: dict[str, list[str]] = {}
    for name in found:
        general = re.sub(r"_\d+$", "_i", re.sub(r"_\d+_\d+$", "_i_j", name))
        groups.setdefault(general, []).append(name)
    lines = []
    for general, names in groups.items():
        shapes = [tuple(found[name].shape) for name in names]
        shown = " ".join(dict.fromkeys("x".join(map(str, shape)) for shape in shapes))
        if len(shown) > 60:
            shown = f"{'x'.join(map(str, shapes[0]))} … {'x'.join(map(str, shapes[-1]))}"
        if shapes[0] == ():
            shown = " ".join(f"{float(found[name]):.6g}" for name in names)
        lines.append(f"  {general:<30} {len(names):>4}  {shown}")
    return "\n".join(lines)


def _check(options: argparse.Namespace) -> int:
    report = check(options.theirs, load_case(options.case))
    if options.json:
        said = report.as_dict() | ({"explain": report.explain()} if options.explain else {})
        print(json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(report)
        if options.explain:
            print(f"\n{report.explain()}")
    return 0 if report.matches else 1
