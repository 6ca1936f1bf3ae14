"""The report and the command that draws, on made-up figures and few instances."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest
from matplotlib.figure import Figure

from validation import __main__, figures, report, theorems
from validation.figures.drawn import Drawn, as_csv, as_text
from validation.theorems.statement import Deviation, Space, Statement
from validation.work import Work


def made_up(name: str, draw) -> ModuleType:
    module = ModuleType(f"validation.figures.{name}")
    module.TITLE, module.SECONDS, module.draw = f"The figure {name}", {"quick": 1, "full": 200}, draw
    return module


def drawing(work: Work) -> Drawn:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    rows = [{"k": 1, "h": 0.25}, {"k": 2, "alpha": 0.125}]
    caption = f"Made up, {'quick' if work.quick else 'full'}."
    return Drawn(figure, caption, [{"|F|": 1 / 3}], {"curve": rows}, {"A": np.eye(2)})


@pytest.fixture
def two(monkeypatch):
    """Two made-up figures and two statements in place of all; the number of times that each figure was drawn."""
    drawn = {"one": 0, "two": 0}

    def counting(name):
        def draw(work):
            drawn[name] += 1
            return drawing(work)

        return draw

    for name in drawn:
        monkeypatch.setitem(sys.modules, f"validation.figures.{name}", made_up(name, counting(name)))
    monkeypatch.setattr(figures, "FIGURES", {"1": "one", "2": "two"})
    space = Space(layers=(1, 1))
    statements = [
        Statement(name, "§1", f"{name} holds", "1 against 1", space, lambda instance: Deviation(1e-16, 1e-15), 3)
        for name in ("first", "second")
    ]
    monkeypatch.setattr(theorems, "STATEMENTS", {s.name: s for s in statements})
    monkeypatch.setattr(report, "TRACES", report.TRACES / "none")
    return drawn


def test_figures_writes_picture_numbers_and_caption(two, tmp_path, capsys):
    assert __main__.main(["figures", "1", "--out", str(tmp_path), "--quick"]) == 0
    assert two == {"one": 1, "two": 0}
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "one-curve.csv").read_text(encoding="utf-8") == "k,h,alpha\n1,0.25,\n2,,0.125\n"
    assert np.array_equal(np.load(tmp_path / "one.npz")["A"], np.eye(2))
    described = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert described["caption"] == "Made up, quick." and described["table"] == [{"|F|": 1 / 3}]
    printed = capsys.readouterr().out
    assert "The figure one" in printed and "Made up, quick." in printed and "0.3333" in printed


def test_figures_without_a_name_draws_all(two, tmp_path):
    assert __main__.main(["figures", "--out", str(tmp_path)]) == 0
    assert two == {"one": 1, "two": 1}


def test_an_unknown_figure_is_an_error(capsys):
    assert __main__.main(["figures", "12"]) == 2
    assert '"12"' in capsys.readouterr().err


def test_the_report_has_everything_and_is_whole(two, tmp_path, capsys):
    assert __main__.main(["report", "--out", str(tmp_path), "--quick"]) == 0
    assert "4 of 4 parts are to be made" in capsys.readouterr().out
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for words in ("first holds", "The figure two", "Made up, quick.", "![The figure one](one.png)"):
        assert words in text
    for command in ("theorems first", "figures 1 --quick", "figures 2 --quick", "replay tests/traces/*.npz"):
        assert f"`python -m validation {command}`" in text
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 2 and ".png" not in html
    assert "<td>first holds</td>" in html and "<th>|F|</th>" in html


def test_a_report_goes_on_where_it_was(two, tmp_path, capsys):
    __main__.main(["figures", "1", "--out", str(tmp_path), "--quick"])
    assert __main__.main(["report", "--out", str(tmp_path), "--quick"]) == 0
    assert "3 of 4 parts are to be made" in capsys.readouterr().out and two == {"one": 1, "two": 1}
    assert __main__.main(["report", "--out", str(tmp_path / "full")]) == 0
    assert "about 7 minutes" in capsys.readouterr().out and two == {"one": 2, "two": 2}


@pytest.mark.parametrize("what", ["report", "figures"])
def test_quick_and_full_do_not_mix(two, tmp_path, capsys, what):
    assert __main__.main(["figures", "1", "--out", str(tmp_path)]) == 0
    assert __main__.main([what, "--out", str(tmp_path), "--quick"]) == 2
    assert "holds the full evidence (one); give the quick another --out" in capsys.readouterr().err
    assert two == {"one": 1, "two": 0}


def test_what_passed_before_is_tried_again(two, tmp_path, monkeypatch):
    assert __main__.main(["report", "--out", str(tmp_path), "--quick"]) == 0
    bad = Statement("third", "§2", "third holds", "2 against 1", Space(), lambda instance: Deviation(1.0, 1e-15), 2)
    monkeypatch.setitem(theorems.STATEMENTS, "third", bad)
    assert __main__.main(["report", "--out", str(tmp_path), "--quick"]) == 1


def test_what_fails_is_said_and_the_rest_is_made(two, tmp_path, monkeypatch, capsys):
    def fail(work):
        raise OSError("no network")

    monkeypatch.setattr(sys.modules["validation.figures.one"], "draw", fail)
    bad = Statement("third", "§2", "third holds", "2 against 1", Space(), lambda instance: Deviation(1.0, 1e-15), 2)
    monkeypatch.setitem(theorems.STATEMENTS, "third", bad)
    assert __main__.main(["report", "--out", str(tmp_path), "--quick"]) == 1
    err = capsys.readouterr().err
    assert "no network" in err and "third fails" in err
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**one could not be made: OSError: no network**" in text and "Not made." in text and "2 FAIL" in text
    monkeypatch.setattr(sys.modules["validation.figures.one"], "draw", drawing)
    monkeypatch.delitem(theorems.STATEMENTS, "third")
    assert __main__.main(["report", "--out", str(tmp_path), "--quick"]) == 0  # what failed is made again
    assert "FAIL" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_tables_as_text_and_as_csv():
    rows = [{"a": 1.23456789, "b": "x|y"}, {"b": "z"}]
    assert "1.235" in as_text(rows) and "–" in as_text(rows)
    assert as_csv(rows) == "a,b\n1.23456789,x|y\n,z\n"


def test_mathematics_survives_markdown():
    row = {"|i−j| = 0": "Ā†_{i,j} = Ω_i Ā_{i,j} Ω_jᵀ", "a*b": "see `theorem_1 | x` a < b"}
    html = report.as_html(as_text([row], "github"), None)
    for cell in ("<th>|i−j| = 0</th>", "<td>Ā†_{i,j} = Ω_i Ā_{i,j} Ω_jᵀ</td>", "<th>a*b</th>", "a &lt; b"):
        assert cell in html
