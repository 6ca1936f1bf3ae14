"""The campaign with made-up parts: whatever becomes of one, the others' results stand on the page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from validation import gpu_campaign
from validation.gpu_campaign import page, part, plan, processes
from validation.gpu_campaign.plan import Part

DEAF = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
print("half of it", flush=True)
time.sleep(600)
"""
KILLED = "import os, signal; print('a little', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
CRASHES = "print('before'); import ctypes; ctypes.string_at(0)"
FAILS = "print('one of them is wrong'); raise SystemExit(1)"
IS_CUT = "print('some of them'); raise SystemExit(3)"


def fake(name: str, code: str, *arguments: str, seconds: float = 60.0) -> Part:
    return Part(name, f"The part {name}", seconds, ("-c", code, *arguments))


@pytest.fixture
def campaign(tmp_path, monkeypatch, capfd):
    """A function that runs the campaign with these parts, and returns exit code and page."""

    def run(*todo: Part, minutes: float = 1.0):
        monkeypatch.setattr(plan, "LEAST", 0.5)
        monkeypatch.setattr(plan, "parts", lambda backend: list(todo))
        folder = tmp_path / f"run-{time.monotonic_ns()}"
        arguments = ["--backend", "numpy", "--minutes", str(minutes), "--out", str(folder)]
        code = gpu_campaign.main(arguments)
        assert str(folder / page.FILE) in capfd.readouterr().out
        return code, (folder / page.FILE).read_text(encoding="utf-8")

    return run


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] in "ZX"
    except FileNotFoundError:
        return True


def test_all_is_well(campaign):
    code, text = campaign(fake("a", "print('seven | passed')"), fake("b", "print('```')"))
    assert code == 0 and "went wrong" not in text
    assert "```text\nseven | passed\n```" in text and "````text\n```\n````" in text
    assert text.startswith("# K-FAC on NumPy\n") and "--minutes 1 --backend numpy`, begun 2" in text


def test_what_goes_wrong_stands_first_and_costs_the_others_nothing(campaign, tmp_path):
    child = tmp_path / "child"
    todo = [
        fake("good", "print('the first is well')"),
        fake("hangs", DEAF, str(child), seconds=20.0),
        fake("killed", KILLED),
        fake("crashes", CRASHES),
        fake("fails", FAILS),
        fake("cut", IS_CUT),
        fake("last", "print('the last is well')"),
    ]
    start = time.monotonic()
    code, text = campaign(*todo, minutes=0.8)
    assert code == 1 and time.monotonic() - start < 30
    order = ("half of it", "a little", "before", "one of them is", "the first is", "some of", "the last is")
    places = [text.index(f"\n{printed}") for printed in order]
    assert places == sorted(places)
    assert text.index("## What went wrong") < text.index("half of it")
    assert text.index("one of them") < text.index("## What went well") < text.index("the first is well")
    for said in ("stopped at its limit of 2 s", "killed by SIGKILL", "killed by SIGSEGV", "failed with exit code 1"):
        assert f"**{said}**" in text
    assert "**cut**" in text
    # where it was when it was stopped, without this machine's folders
    assert 'File "<string>", line 7 in <module>' in text
    assert gone(int(child.read_text()))


def test_it_ends_in_time_and_says_what_was_not_begun(campaign):
    sleeps = "import time; print('began', flush=True); time.sleep(60)"
    start = time.monotonic()
    code, text = campaign(*[fake(name, sleeps, seconds=480.0) for name in "abc"], minutes=0.1)
    assert code == 1 and time.monotonic() - start < 6.5
    assert text.count("began\n") == 1 and text.count("| not begun ") == 2


def test_a_part_is_told_to_end_before_its_limit(tmp_path):
    code = "import sys, time; print(float(sys.argv[-1]) - time.time())"
    outcome = processes.run(["-c", code], tmp_path / "log", 20.0)
    assert outcome.state == "done" and 10 < float((tmp_path / "log").read_text()) < 15


def test_the_page_is_there_while_a_part_runs_and_when_it_is_interrupted(tmp_path, monkeypatch):
    todo = [fake("a", "print('done')"), fake("b", "")]
    pages = []

    def interrupted(command, log, limit):
        if command == todo[0].command:
            log.write_text("done")
            return processes.Outcome("done", 1.0, limit)
        pages.append((tmp_path / page.FILE).read_text(encoding="utf-8"))
        log.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "run", interrupted)
    made = page.Page(tmp_path, "X", "command", "today", todo)
    with pytest.raises(KeyboardInterrupt):
        gpu_campaign.run(made, 8.0, time.monotonic() + 100)
    assert "| running " in pages[0] and "done" in pages[0]
    text = (tmp_path / page.FILE).read_text(encoding="utf-8")
    assert "**interrupted**" in text and "half" in text and "done" in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for Python")
def test_terminated_it_stops_what_runs_and_leaves_the_page(tmp_path):
    child, folder = tmp_path / "child", tmp_path / "out"
    code = f"""
from validation import gpu_campaign
from validation.gpu_campaign import plan
plan.parts = lambda backend: [plan.Part("a", "A", 60, ("-c", {DEAF!r}, {str(child)!r}))]
gpu_campaign.main(["--backend", "numpy", "--out", {str(folder)!r}])
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=processes.CLONE, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if child.is_file() and child.read_text():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0
    assert gone(int(child.read_text()))
    text = (folder / page.FILE).read_text(encoding="utf-8")
    assert "**interrupted**" in text and "half of it" in text


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [8.0, 2.0, 60.0])
def test_the_shares_fill_the_time(minutes):
    todo, left = plan.parts("cupy"), 60 * minutes
    limits = []
    for one in todo:
        limits.append(plan.limit(one, minutes, left, last=one is todo[-1]))
        left -= limits[-1]
    assert left == pytest.approx(plan.SPARE) and min(limits) >= plan.LEAST
    if minutes == 8:
        assert limits[:4] == [15, 40, 40, 150] and limits[5] >= 100


@pytest.mark.parametrize("backend", ["cupy", "numpy"])
def test_every_part_is_a_module(backend):
    for one in plan.parts(backend):
        words = one.command[1].split(".")
        assert one.command[0] == "-m" and processes.CLONE.joinpath(*words).with_suffix(".py").is_file()
        assert one.command[2:] == ("--backend", backend)


@pytest.mark.parametrize("name", ["device", "smoke", "replays"])
def test_a_part_without_time_says_that_it_is_cut(name, capsys):
    module = pytest.importorskip(f"validation.gpu_campaign.{name}")
    assert module.main(["--backend", "numpy", "--until", "0"]) == part.CUT
    assert "cut, as time was up: " in capsys.readouterr().out


def test_one_by_one_goes_on_after_an_error_but_not_without_a_device(capsys):
    def broken():
        raise RuntimeError("a sticky error")

    todo = [("a", broken), ("b", lambda: True), ("c", lambda: False)]
    assert part.one_by_one(part.Clock(), todo) == part.FAILED
    out = capsys.readouterr().out
    assert "a: FAILED\nTraceback" in out and "RuntimeError: a sticky error" in out
    assert part.one_by_one(part.Clock(), todo, still_there=broken) == part.FAILED
    assert "(a sticky error); not tried: b, c" in capsys.readouterr().out
    assert part.one_by_one(part.Clock(), todo[1:2]) == part.DONE


def test_the_device_part_measures(capsys):
    from validation.gpu_campaign import device

    assert device.main(["--backend", "numpy"]) == part.DONE
    out = capsys.readouterr().out
    assert "float32 " in out and "float64 " in out and "TFLOP/s" in out and "NumPy" in out


# --- folders and bad input -------------------------------------------------------------------------------------------


def test_the_folder_has_date_and_device(tmp_path):
    assert gpu_campaign.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    folder = tmp_path / "x"
    assert gpu_campaign.unused(folder) == folder
    folder.mkdir()
    (tmp_path / "x-2").mkdir()
    assert gpu_campaign.unused(folder) == tmp_path / "x-3"


def test_places_of_this_machine_are_not_shown():
    text = f"{processes.CLONE}/autodiff/arrays.py {os.__file__} {pytest.__file__} {Path.home()}/x {sys.executable}"
    shown = page.without_places(text)
    assert shown.startswith("autodiff/arrays.py PREFIX/") and "site-packages/pytest" in shown
    for place in (str(processes.CLONE), sys.prefix, sys.base_prefix, str(Path.home())):
        assert place not in shown


def test_a_long_log_is_shortened_on_the_page(tmp_path):
    one = fake("a", "")
    page.log(tmp_path, one).write_text("\n".join(f"line {i}" for i in range(page.HEAD + page.TAIL + 7)))
    text = page.Page(tmp_path, "X", "c", "d", [one]).write({"a": processes.Outcome("done", 1.0, 2.0)})
    assert f"line {page.HEAD - 1}\n… 7 lines, which are in a.txt …\nline {page.HEAD + 7}\n" in text


@pytest.mark.parametrize("minutes", ["0", "nan", "inf", "-1"])
def test_bad_minutes(minutes):
    with pytest.raises(ValueError, match="--minutes must be > 0; got"):
        gpu_campaign.main(["--backend", "numpy", "--minutes", minutes])


def test_pages_are_not_mixed(tmp_path):
    (tmp_path / "page.md").write_text("an older one")
    with pytest.raises(ValueError, match="--out must be a new or an empty folder"):
        gpu_campaign.main(["--backend", "numpy", "--out", str(tmp_path)])
    assert (tmp_path / "page.md").read_text() == "an older one"


def test_without_a_device_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    out = tmp_path / "new"
    with pytest.raises(ValueError, match=r'^backend "cupy" (needs CuPy|finds no)'):
        gpu_campaign.main(["--out", str(out)])
    assert not out.exists()
