"""`python -m validation estimators`: K-FAC's estimators beside scikit-learn's networks, cross-validated."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from autodiff.names import closest
from kfac_ref.command import plots
from kfac_ref.data.files import write_text
from validation.estimators import drawing
from validation.estimators.problems import PROBLEMS
from validation.estimators.scores import METHODS, Result, compare, keep, kept, measure

DESCRIPTION = """
Fits K-FAC's estimators and scikit-learn's networks, with adam and with lbfgs and alpha = 1, inputs and numbers to be
predicted standardised for all, to every data set that scikit-learn ships or generates, and prints accuracies (or R²)
and CPU seconds of a fit, means over 5 folds twice. What is measured is kept in DIR, and not measured again. An asterisk
marks the data sets by whose folds the defaults of K-FAC's estimators were chosen.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure what is not yet, print the table and draw the picture."""
    parser = argparse.ArgumentParser("python -m validation estimators", description=DESCRIPTION)
    parser.add_argument("--out", type=Path, default=Path("estimators"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument(
        "--sets", nargs="+", metavar="NAME", help=f"of {', '.join(PROBLEMS)} (default: all but large ones)"
    )
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="of the 5 folds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the BLAS (default: %(default)s)")
    options = parser.parse_args(arguments)
    names = options.sets or [p.name for p in PROBLEMS.values() if not p.large]
    for name in names:
        closest(name, PROBLEMS, "data set")
    path = options.out / "scores.json"
    results = kept(path)
    for name in names:
        if name not in results:
            results[name] = measure(PROBLEMS[name], options.repeats, options.threads)
            keep(path, results)
            print(f"{name}: {', '.join(f'{m} {r.score:.4f} in {r.time:.3f} s' for m, r in results[name].items())}")
    chosen = {name: results[name] for name in names}
    text = f"\n{table(chosen)}\n\n{summary(chosen)}\n"
    print(text)
    write_text(options.out / "scores.txt", text.lstrip())
    plots.save(drawing.differences(chosen), options.out / "scores.png")
    print(options.out / "scores.png")
    return 0


def table(results: dict[str, dict[str, Result]]) -> str:
    """A line for each data set."""
    lines = []
    for name, methods in results.items():
        problem = PROBLEMS[name]
        line: list[str] = [f"{name}{' *' if problem.chosen_on else ''}", "accuracy" if problem.classes else "R²"]
        line += [f"{methods[m].score:.4f}" for m in METHODS]
        for other in ("adam", "lbfgs"):
            found = compare(methods, other)
            line.append(f"{found.difference:+.4f} ± {found.error:.4f} {found.verdict}")
        line += [f"{methods[m].time:.3f}" for m in METHODS]
        line += [f"{compare(methods, other).ratio:.2f}" for other in ("adam", "lbfgs")]
        lines.append(line)
    seconds = [f"s, {m}" for m in METHODS]
    headers = ["data", "score", *METHODS, "K-FAC − adam", "K-FAC − lbfgs", *seconds, "s : adam", "s : lbfgs"]
    return tabulate(lines, headers, disable_numparse=True)


def summary(results: dict[str, dict[str, Result]]) -> str:
    """How often each verdict was, and the geometric means of the ratios of seconds."""
    lines = []
    groups = {
        "by which the defaults were chosen": {n: r for n, r in results.items() if PROBLEMS[n].chosen_on},
        "others": {n: r for n, r in results.items() if not PROBLEMS[n].chosen_on},
    }
    for what, group in groups.items():
        for other in ("adam", "lbfgs"):
            if group:
                found = [compare(methods, other) for methods in group.values()]
                counts = {v: sum(c.verdict == v for c in found) for v in ("higher", "within", "lower")}
                ratio = math.exp(float(np.mean([math.log(c.ratio) for c in found])))
                lines.append(
                    f"{len(group)} data sets {what}, beside {other}: score higher on {counts['higher']}, within a "
                    f"standard error on {counts['within']}, lower on {counts['lower']}; CPU seconds {ratio:.2f} times "
                    f"as many (geometric mean)"
                )
    return "\n".join(lines)
