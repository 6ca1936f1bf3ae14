"""What a person sees of a run: a heading, a progress bar, the last lines, and the pictures in its folder."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from autodiff.arrays import to_numpy
from autodiff.network import Network
from autodiff.passes import forward
from kfac_ref.command import network_table, pca
from kfac_ref.data.dataset import Dataset
from kfac_ref.optimizer import KFAC
from kfac_ref.training import models, runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SYMBOLS = {"m": "m", "h": "h", "error": "error", "alpha": "α", "mu": "μ", "lam": "λ", "gamma": "γ"}
"""What is shown of an iteration, by the names in its record."""
CASES_SHOWN = 16
CURVE, RECONSTRUCTIONS, MISTAKES = "curve.png", "reconstructions.png", "mistakes.png"
TITLE = 110
"""Characters in a line of a picture's title."""


def heading(run: runs.Run, threads: int | None) -> str:
    """What is about to be trained, where, with how many BLAS threads if that is known."""
    p = run.prepared
    cases = f"{p.data.cases} training cases"
    if p.data.test_cases is not None:
        cases += f", {p.data.test_cases} test cases"
    by = "SGD with Nesterov momentum"
    if isinstance(p.optimizer, KFAC):
        s = p.optimizer.settings
        by = f"K-FAC, {s.inverse}, preset {p.experiment.preset}, λ₀ = {s.lambda0:g}, η = {s.eta:g}"
    device = p.experiment.backend
    if threads is not None:
        device += f", {threads} BLAS thread{'s' if threads > 1 else ''}"
    if not run.processes.alone:
        device += f" in each of {run.processes.number} processes"
    return (
        f"data      {p.dataset.name}: {p.dataset.source}\n"
        f"          {cases}\n{_columns(p.dataset)}"
        f"network   {p.purpose} {_network(p.network)}\n"
        f"optimizer {by}, {p.experiment.dtype} on {device}\n"
        f"folder    {run.folder}"
    )


def _network(network: Network) -> str:
    """In a line, or in a table where there are other layers than dense ones."""
    if network.fully_connected:
        return str(network)
    return "\n".join(
        [f"of {network.layers} layers with weights; {network.likelihood.name}", *network_table.lines(network)]
    )


def _columns(dataset: Dataset) -> str:
    """Of a table, what was done to each column."""
    recipe = dataset.preparation.recipe
    if recipe is None:
        return ""
    text = str(recipe).replace("\n", "\n          ")
    return f"columns   {text}\n          inputs standardised by the training cases\n"


def kept(run: runs.Run) -> str:
    """Where the model is, and of which iteration it is where that is not the last."""
    path = run.folder / models.MODEL
    if run.best is None or run.best == run.state.k:
        return f"model     {path}"
    return f"model     {path}, as after iteration {run.best}, when test cases were predicted best"


def progress_bar(plan: runs.Plan, run: runs.Run) -> tqdm:
    """A bar over iterations, or over seconds where only these bound the run; none where there is no terminal."""
    common: dict[str, Any] = {"dynamic_ncols": True, "disable": None}
    if plan.iterations is not None:
        return tqdm(total=plan.iterations, initial=run.state.k, unit="it", **common)
    form = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]"
    return tqdm(total=plan.seconds, initial=run.seconds, bar_format=form, **common)


def advance(bar: tqdm, plan: runs.Plan, line: Mapping[str, Any]) -> None:
    """Show one more iteration."""
    shown = " ".join(f"{symbol} {line[name]:.4g}" for name, symbol in SYMBOLS.items() if line.get(name) is not None)
    if plan.iterations is None:
        bar.set_postfix_str(f"k {line['k']} {shown}", refresh=False)
        bar.update(min(line["seconds"], bar.total or 0) - bar.n)
    else:
        bar.set_postfix_str(shown, refresh=False)
        bar.update(1)


def one_line(line: Mapping[str, Any]) -> str:
    """An evaluated iteration as a line of text."""
    return f"iteration {line['k']:>5}  {line['seconds']:>7.1f} s  m {line['m']:>5}  " + errors(line, "  ")


def errors(line: Mapping[str, Any], between: str) -> str:
    """The errors of an evaluation, those of the averaged iterate behind them where it is another."""
    measure, scale, unit = "error", 1.0, ""
    if "train_misclassified" in line:
        measure, scale, unit = "misclassified", 100.0, " %"
    parts = []
    for part, name in (("train", "training"), ("test", "test")):
        if line.get(f"{part}_{measure}") is not None:
            text = f"{name} {measure} {scale * line[f'{part}_{measure}']:#.4g}{unit}"
            if line.get(f"{part}_{measure}_averaged") is not None:
                text += f" (averaged iterate {scale * line[f'{part}_{measure}_averaged']:#.4g}{unit})"
            parts.append(text)
    return between.join(parts)


def draw(run: runs.Run) -> str:
    """Draw the run's pictures into its folder; the last lines to print."""
    # only now, as Matplotlib takes longer to import than all else, and training would begin later
    from kfac_ref.command import plots

    p, lines = run.prepared, runs.read_metrics(run.folder)
    if not run.last:
        return f"nothing evaluated yet; see {run.folder}"
    said = [f"after {run.state.k} iterations in {run.seconds:.1f} s of training: {errors(run.last, ', ')}"]
    baseline = None
    if p.purpose == "autoencoder":
        code = min((math.prod(stage.output) for stage in p.network.stages[:-1]), default=p.network.inputs)
        baseline = pca.reconstruction_errors(p.dataset.X, p.dataset.X_test, code)
        test = "" if baseline[1] is None else f", test error {baseline[1]:#.4g}"
        said.append(f"PCA with {code} components, for comparison: training error {baseline[0]:#.4g}{test}")
        plots.save(_reconstructions(run, code), run.folder / RECONSTRUCTIONS)
        said.append(f"pictures  {run.folder / RECONSTRUCTIONS}")
    elif figure := _mistakes(run):
        plots.save(figure, run.folder / MISTAKES)
        said.append(f"pictures  {run.folder / MISTAKES}")
    title = textwrap.fill(textwrap.shorten(f"{p.dataset.name}: {p.network}", 3 * TITLE, placeholder=" …"), TITLE)
    plots.save(plots.curve(lines, title, baseline), run.folder / CURVE)
    said.append(f"{'          ' if said[-1].startswith('pictures') else 'picture   '}{run.folder / CURVE}")
    return "\n".join(said)


def _mistakes(run: runs.Run) -> Figure | None:
    """Of a classifier of images that mistakes any."""
    from kfac_ref.command import mistakes

    p = run.prepared
    kind, X, Y = ("training", p.data.X, p.data.Y)
    if p.data.X_test is not None and p.data.Y_test is not None:
        kind, X, Y = ("test", p.data.X_test, p.data.Y_test)
    shape, likelihood = p.dataset.image_shape, p.network.likelihood
    if shape is None or likelihood.mistakes is None or likelihood.positions > 1:
        return None
    images, classes = mistakes.first(p.network, run.state.parameters, X, Y)
    title = f"{kind} cases of {p.dataset.name} that are misclassified: their class → the one they are taken for"
    return mistakes.picture(images, classes, shape, title) if len(images) else None


def _reconstructions(run: runs.Run, code: int) -> Figure:
    from kfac_ref.command import plots

    p = run.prepared
    kind, X = ("training", p.data.X) if p.data.X_test is None else ("test", p.data.X_test)
    inputs = X[:CASES_SHOWN, :]
    outputs = p.network.likelihood.mean(forward(p.network, run.state.parameters, inputs).z)
    title = f"{kind} cases of {p.dataset.name} (above) and their reconstructions from {code} numbers (below)"
    return plots.reconstructions(to_numpy(inputs), to_numpy(outputs), p.dataset.image_shape, title)
