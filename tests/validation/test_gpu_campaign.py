"""The campaign: made-up parts in place of those that take long; the real ones are tried as far as their arguments."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from kfac_ref.data.files import write_text
from validation import benchmark, gpu_campaign, reference_run
from validation.gpu_campaign import processes
from validation.gpu_campaign.page import as_page
from validation.gpu_campaign.parts import Part, all_parts
from validation.work import Work, machine

WAITS = """
import pathlib, sys, time
try:
    print("began", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1]).write_text("saved")
"""


def part(name: str, code: str, *arguments: str, least: float = 0.0) -> Part:
    return Part(name, f"The {name}", ("-c", code, *arguments), "numpy", least)


@pytest.fixture
def campaign(tmp_path, monkeypatch, capsys):
    """A function that runs the campaign with these parts, and returns exit code, page and output."""

    def run(*todo: Part, arguments=()):
        monkeypatch.setattr(gpu_campaign, "all_parts", lambda *_: list(todo))
        code = gpu_campaign.main(["--out", str(tmp_path), "--backend", "numpy", *arguments])
        return code, (tmp_path / "campaign.md").read_text(encoding="utf-8"), capsys.readouterr().out

    return run


def test_parts_are_made_kept_and_shown(campaign, tmp_path):
    code, text, printed = campaign(part("tests", "print('7 passed')"), part("mnist", "print('| 1.25 |')"))
    assert code == 0 and text in printed
    for words in ("7 passed", "| 1.25 |", "## The mnist", "made", machine().split(";")[0]):
        assert words in text
    kept = json.loads((tmp_path / "mnist.json").read_text(encoding="utf-8"))
    assert kept["hardware"] == machine() and kept["command"] == "python -m validation gpu-campaign --backend numpy"


def test_what_is_made_is_not_made_again_unless_the_command_is_another(campaign, tmp_path):
    count = "import sys; print('more', file=open(sys.argv[1], 'a'))"
    file = tmp_path / "count"
    for _ in range(2):
        assert campaign(part("tests", count, str(file)))[0] == 0
    assert file.read_text() == "more\n"
    assert campaign(part("tests", f"{count}  # another", str(file)))[0] == 0
    assert file.read_text() == "more\nmore\n"


def test_what_fails_is_said_and_the_rest_is_made(campaign):
    code, text, _ = campaign(
        part("tests", "print('3 failed'); raise SystemExit(1)"), part("mnist", "print('all well')")
    )
    assert code == 1 and "**failed with exit code 1**" in text and "3 failed" in text and "all well" in text
    code, text, _ = campaign(part("tests", "print('3 passed')"), part("mnist", "print('all well')"))
    assert code == 0 and "**" not in text and "3 passed" in text


def test_without_time_nothing_is_begun_and_what_runs_is_told_to_stop(campaign, tmp_path):
    saved = tmp_path / "saved.txt"
    todo = part("tests", WAITS, str(saved)), part("mnist", "print('never')", least=60)
    code, text, _ = campaign(*todo, arguments=["--minutes", "0.05"])
    assert code == 1 and saved.read_text() == "saved"
    assert "**stopped after 3 s, as the time was up**" in text and "began" in text
    assert "**not begun: it is given no less than 60 s, and 0 s were left**" in text


def test_what_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with pytest.raises(processes.Unfinished, match="stopped after 2 s"):
        processes.run_python(["-c", deaf], tmp_path / "log.txt", 2.0)


def test_an_interrupted_campaign_leaves_its_page(campaign, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_campaign, "run_python", interrupt)
    with pytest.raises(KeyboardInterrupt):
        campaign(part("tests", ""))
    assert "**not begun**" in (tmp_path / "campaign.md").read_text(encoding="utf-8")


def test_a_run_that_was_stopped_shows_how_far_it_has_come(tmp_path):
    lines = [{"k": k, "error": 50.0, "seconds": float(k)} for k in range(1, 52)]
    lines[49] |= {"train_error": 49.5, "test_error": 50.5}
    metrics = tmp_path / "runs" / "block-tridiagonal" / "runs" / "mnist-0" / "metrics.jsonl"
    write_text(metrics, "".join(json.dumps(line) + "\n" for line in lines))
    text = as_page(Work(tmp_path), [part("mnist", "")], {"mnist": "stopped"})
    assert "51 iterations so far" in text and "49.5000    49.0800" in text


def test_a_folder_can_be_taken_elsewhere(tmp_path):
    for name in ("here", "there"):
        work = Work(tmp_path / name)
        todo = part("mnist", "", "--out", f"{work.out}/mnist.png")
        if name == "here":
            gpu_campaign.make(work, todo, 60.0, "gpu-campaign")
            work.out.rename(tmp_path / "there")
    assert gpu_campaign.make(work, todo, 0.0, "gpu-campaign") == "made"


def test_paths_are_not_shown(tmp_path):
    todo = part("benchmark", "", "--peers", "/somewhere/python", "--out", f"{tmp_path}/a")
    text = as_page(Work(tmp_path), [todo], {"benchmark": "not begun"})
    assert "--peers PYTHON --out a`" in text and "/somewhere" not in text and str(tmp_path) not in text


# --- the real parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
def test_the_commands_are_taken(tmp_path, monkeypatch, quick):
    """By the pieces themselves, which are kept from working."""
    asked = {}

    def measure(only, minibatches, backend, peers):
        asked["benchmark"] = backend, peers
        return benchmark.Results([], [])

    def train_in(folder, name, iterations, seed, **options):
        asked[name] = options["backend"], iterations
        return reference_run.Run([], [])

    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setattr(reference_run, "train_in", train_in)
    tests, *others = all_parts(Work(tmp_path, quick), "numpy", 7, peers=sys.executable)
    for one in others:
        piece = {"benchmark": benchmark}.get(one.name, reference_run)
        assert one.command[:2] == ("-m", "validation") and piece.main(one.command[3:]) == 0
    assert asked == {"benchmark": ("numpy", sys.executable)} | dict.fromkeys(("mnist", "curves", "faces"), ("numpy", 7))
    assert tests.command[:2] == ("-m", "pytest")
    assert all((processes.CLONE / path).exists() for path in tests.command if path.startswith("tests/"))


def test_on_a_gpu_there_is_a_benchmark_with_tf32_too(tmp_path):
    made = {one.name: one for one in all_parts(Work(tmp_path), "cupy", 1500, peers="python")}
    assert list(made) == ["tests", "benchmark", "benchmark-tf32", "mnist", "curves", "faces"]
    for name, backend in (("benchmark", "cupy"), ("benchmark-tf32", "cupy-tf32"), ("mnist", "cupy")):
        assert made[name].command[made[name].command.index("--backend") + 1] == made[name].backend == backend
    assert "--peers" in made["benchmark"].command and "--peers" not in made["benchmark-tf32"].command


def test_without_a_device_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    with pytest.raises(ValueError, match="needs CuPy"):
        gpu_campaign.main(["--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("arguments", [["--iterations", "0"], ["--minutes", "0"], ["--minutes", "nan"]])
def test_bad_input(arguments):
    with pytest.raises(ValueError, match="--iterations must be ≥ 1 and --minutes > 0"):
        gpu_campaign.main(["--backend", "numpy", *arguments])


def test_the_gpu_is_described(monkeypatch):
    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: {"name": b"GPU X", "totalGlobalMem": 80 * 2**30, "major": 9, "minor": 0},
        driverGetVersion=lambda: 13010,
        runtimeGetVersion=lambda: 13020,
    )
    cuda = SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, __version__="14.2.0"))
    said = processes.hardware("cupy")
    expected = "GPU X, 80 GiB, compute capability 9.0; driver for CUDA 13.1, CUDA runtime 13.2, CuPy 14.2.0; "
    assert said == expected + machine()
