"""kfac_ref.command.plots: the curves and images are those of the metrics, and the files are pictures."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from kfac_ref.command import plots


@pytest.fixture(autouse=True)
def no_warnings():
    """What Matplotlib warns of, a user would see on the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def metrics(n=12, every=3, averaged_from=None, test=True, classes=False):
    """Lines as a run writes them."""
    lines = []
    for k in range(1, n + 1):
        line = {"k": k, "m": 10, "h": 9.0 / k, "error": 7.0 / k, "seconds": 0.1 * k**2, "rho": None}
        if k % every == 0:
            for part in ("train", "test") if test else ("train",):
                for suffix, factor in (("", 1.0), ("_averaged", 0.5)):
                    if suffix and (averaged_from is None or k < averaged_from):
                        continue
                    line[f"{part}_error{suffix}"] = factor * (5.0 if part == "train" else 6.0) / k
                    if classes:
                        line[f"{part}_misclassified{suffix}"] = factor * 0.9 / k
        lines.append(line)
    return lines


def drawn(ax):
    """(colour, width, style) → the points, of each curve."""
    return {
        (to_hex(line.get_color()), line.get_linewidth(), line.get_linestyle()): np.column_stack(line.get_data())
        for line in ax.get_lines()
        if len(line.get_xdata())
    }


def check_picture(path, smallest=(200, 400)):
    with open(path, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    image = imread(path)
    assert image.ndim == 3 and smallest[0] <= image.shape[0] <= 2000 and smallest[1] <= image.shape[1] <= 3000
    assert image[..., :3].std() > 0.01  # not a blank page
    return image


# --- series --------------------------------------------------------------------------------------------------------


def test_series():
    lines = metrics(6, 3, averaged_from=6)
    assert plots.series(lines, "k", "train_error") == ([3, 6], [5 / 3, 5 / 6])
    assert plots.series(lines, "k", "rho") == ([], []) == plots.series([], "k", "h")
    assert plots.series([{"k": 1}, {"k": 2, "h": 0.0}, {"h": 3.0}], "k", "h") == ([2], [0.0])


# --- curves --------------------------------------------------------------------------------------------------------


def test_curve_of_one_run(tmp_path):
    figure = plots.curve(metrics(), "a title", (2.5, 2.75))
    assert figure.get_suptitle() == "a title"
    k = np.arange(1, 13)
    for ax, x in zip(figure.axes, (k, 0.1 * k**2), strict=True):
        curves = drawn(ax)
        np.testing.assert_allclose(curves[plots.MINIBATCH, 0.8, "-"], np.c_[x, 7 / k])
        np.testing.assert_allclose(curves[plots.TRAIN, 1.8, "-"], np.c_[x, 5 / k][2::3])
        np.testing.assert_allclose(curves[plots.TEST, 1.8, "-"], np.c_[x, 6 / k][2::3])
        np.testing.assert_allclose(curves[plots.PCA, 1, "--"][:, 1], 2.5)
        np.testing.assert_allclose(curves[plots.PCA, 1, ":"][:, 1], 2.75)
        assert ax.get_yscale() == "log" and ax.get_xlabel()
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["mini-batch, before the step", "training", "test", "PCA, training: 2.50", "PCA, test: 2.75"]
    plots.save(figure, tmp_path / "new" / "a.png")
    check_picture(tmp_path / "new" / "a.png")


def test_averaged_iterates_are_drawn_thin():
    figure = plots.curve(metrics(averaged_from=7), "", None)
    for ax, x in zip(figure.axes, ([9, 12], [8.1, 14.4]), strict=True):
        for colour, error in ((plots.TRAIN, 5), (plots.TEST, 6)):
            thin, thick = sorted((width, points) for (c, width, _), points in drawn(ax).items() if c == colour)
            np.testing.assert_allclose(thick[1][:, 1], error / np.array([3, 6, 9, 12]))
            np.testing.assert_allclose(thin[1], np.c_[x, error / np.array([18, 24])])
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any("averaged" in text for text in texts)


def test_of_classes_the_misclassified_are_drawn(tmp_path):
    figure = plots.curve(metrics(classes=True), "", None)
    for ax in figure.axes:
        assert sorted(len(points) for points in drawn(ax).values()) == [4, 4]
        np.testing.assert_allclose(drawn(ax)[plots.TRAIN, 1.8, "-"][:, 1], 0.9 / np.arange(3, 13, 3))
    assert figure.axes[0].get_ylabel() == "misclassified"
    plots.save(figure, tmp_path / "a.png")
    check_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("lines", "pca"),
    [
        (metrics(1, 1), (1.0, None)),
        (metrics(1, 1, test=False), None),
        (metrics(3, 5), None),  # never evaluated
        ([x | {"train_misclassified": 0.0} for x in metrics(3, 1, test=False, classes=True)], None),
        ([x | {"train_error": None} for x in metrics(3, 1)], None),
        (metrics(3, 1), (0.0, 0.0)),
        (metrics(3, 1), (-1e-17, 1e-17)),
        ([x | {"train_error": 1e30, "error": 1e-30} for x in metrics(3, 1)], None),
        ([x | {"train_error": 3e-7, "test_error": 4e-7, "error": 5e-7} for x in metrics(9, 1)], (2e-7, 1e-7)),
    ],
    ids=["one", "one, no test", "not evaluated", "no mistake", "null", "PCA 0", "PCA below 0", "wide", "small"],
)
def test_awkward_metrics_are_drawn(tmp_path, lines, pca):
    plots.save(plots.curve(lines, "title", pca), tmp_path / "a.png")
    check_picture(tmp_path / "a.png")


def test_small_errors_of_pca_can_be_read():
    figure = plots.curve(metrics(), "", (2e-3, 1e-3))
    texts = " ".join(text.get_text() for text in figure.axes[0].get_legend().get_texts())
    assert "0.002" in texts and "0.001" in texts


def test_a_single_evaluation_can_be_seen(tmp_path):
    """A line through one point is none: without anything more, the pictures of a run of one iteration are blank."""
    lines = metrics(1, 1)
    figures = {
        "curve": (plots.curve(lines, "", None), plots.curve(metrics(1, 5), "", None)),
        "overlay": (plots.overlay({"a": lines}), plots.overlay({"a": metrics(1, 5)})),
    }
    for name, pair in figures.items():
        pictures = []
        for figure in pair:
            for ax in figure.axes:  # so that nothing but the curves is different
                ax.set(xlim=(0.01, 2), ylim=(1, 10))
                if ax.get_legend():
                    ax.get_legend().remove()
            plots.save(figure, tmp_path / "a.png")
            pictures.append(imread(tmp_path / "a.png"))
        assert np.abs(pictures[0] - pictures[1]).max() > 0.1, name


def test_ticks_within_a_decade_are_labelled_without_gaps():
    lines = [{"k": k, "seconds": k, "train_misclassified": 0.22 - 0.01 * k} for k in range(1, 12)]
    figure = plots.curve(lines, "", None)
    figure.canvas.draw()
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    labels = [
        (float(place), label.get_text())
        for minor in (False, True)
        for place, label in zip(ax.get_yticks(minor=minor), ax.get_yticklabels(minor=minor), strict=True)
        if low <= place <= high
    ]
    digits = {round(place / 10 ** math.floor(math.log10(place) + 1e-9), 6) for place, text in labels if text}
    assert len(digits) > 1 and (all(text for _, text in labels) or digits <= {1, 2, 5})


# --- runs over each other ------------------------------------------------------------------------------------------


def test_overlay(tmp_path):
    runs = {"one": metrics(), "two": metrics(20, 5, averaged_from=10), "no test": metrics(6, 2, test=False)}
    figure = plots.overlay(runs)
    for ax, x in zip(figure.axes, ("k", "seconds"), strict=True):
        curves = [line for line in ax.get_lines() if len(line.get_xdata())]
        assert len(curves) == 5
        for (name, lines), colour in zip(runs.items(), ("C0", "C1", "C2"), strict=True):
            for part, style in (("train", "-"), ("test", "--")):
                expected = [(line[x], line[f"{part}_error"]) for line in lines if f"{part}_error" in line]
                mine = [c for c in curves if c.get_color() == colour and c.get_linestyle() == style]
                assert len(mine) == bool(expected), (name, part)
                if expected:
                    np.testing.assert_allclose(np.column_stack(mine[0].get_data()), expected)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["one", "two", "no test"]
    plots.save(figure, tmp_path / "a.png")
    check_picture(tmp_path / "a.png")


def test_overlay_of_classes_alone_is_of_the_misclassified():
    classes = metrics(classes=True)
    assert plots.overlay({"a": classes, "b": classes}).axes[0].get_ylabel() == "misclassified"
    mixed = plots.overlay({"a": classes, "b": metrics()})
    assert mixed.axes[0].get_ylabel() == "squared error a case"
    assert drawn(mixed.axes[0])[to_hex("C0"), 1.5, "-"][0, 1] == 5 / 3


def test_twelve_runs(tmp_path):
    plots.save(plots.overlay({f"run {i}": metrics(i + 3, 1) for i in range(12)}), tmp_path / "a.png")
    check_picture(tmp_path / "a.png")


# --- reconstructions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 16])
def test_images_above_their_reconstructions(tmp_path, rng, n):
    inputs, outputs = rng.random((n, 12)), rng.random((n, 12))
    figure = plots.reconstructions(inputs, outputs, (3, 4), "title")
    shown = [ax.get_images()[0] for ax in figure.axes]
    assert len(shown) == 2 * n
    for image, case in zip(shown, (*inputs, *outputs), strict=True):
        np.testing.assert_array_equal(image.get_array(), case.reshape(3, 4))
        assert image.get_clim() == (inputs.min(), inputs.max())
    plots.save(figure, tmp_path / "a.png")
    check_picture(tmp_path / "a.png", (150, 400))


@pytest.mark.parametrize("d", [1, 2, 300])
def test_what_is_no_image_is_drawn_as_curves(tmp_path, rng, d):
    inputs, outputs = rng.standard_normal((4, d)), rng.standard_normal((4, d))
    figure = plots.reconstructions(inputs, outputs, None, "title")
    for ax, case in zip(figure.axes, (*inputs, *outputs), strict=True):
        np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), case)
        assert ax.get_ylim() == (inputs.min(), inputs.max()) or d == 1
    plots.save(figure, tmp_path / "a.png")
    check_picture(tmp_path / "a.png")


@pytest.mark.parametrize("shape", [None, (1, 4), (28, 1)])
def test_constant_cases(tmp_path, shape):
    cases = np.full((2, math.prod(shape or (5,))), 0.25)
    plots.save(plots.reconstructions(cases, cases, shape, "title"), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").ndim == 3


def test_outputs_out_of_range_and_large_images(tmp_path, rng):
    inputs = rng.random((16, 100 * 60)).astype(np.float32)
    plots.save(plots.reconstructions(inputs, 100 * inputs - 50, (100, 60), "title"), tmp_path / "a.png")
    check_picture(tmp_path / "a.png")


def test_a_failing_plot_leaves_the_old_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    class Broken:
        def savefig(self, file, **_):
            file.write(b"half")
            raise MemoryError

    with pytest.raises(MemoryError):
        plots.save(Broken(), path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.png"]
