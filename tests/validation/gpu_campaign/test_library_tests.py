"""The tests of one library alone, tried on made-up tests: in order, in time, and whatever a test does."""

from __future__ import annotations

import time

import pytest

from validation.gpu_campaign import part, tests_selected
from validation.gpu_campaign.library_tests import Record, run
from validation.gpu_campaign.part import Clock, Options
from validation.gpu_campaign.tests_selected import about, topic

SUITE = """
import os, time
import pytest

LIBRARIES = pytest.mark.parametrize("like", ["numpy-float64", "strict-float64", "numpy-float32", "cupy-float64"])

@LIBRARIES
def test_good(like): print("the good one ran")

@LIBRARIES
def test_bad(like): assert like == "strict-float64", "a long reason"

def test_of_no_library(): assert False

@pytest.mark.parametrize("backend", ["numpy"])
def test_of_a_name(backend): assert False
"""


def made(tmp_path, more: str = ""):
    """A folder with a suite that is not this project's."""
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_made_up.py").write_text(SUITE + more)
    return str(folder)


def test_it_runs_the_librarys_variants_and_prints_what_fails(tmp_path, capfd):
    assert run(Options("numpy", Clock()), [made(tmp_path)]) == part.FAILED
    out = capfd.readouterr().out
    assert "2 passed, 2 failed, 0 skipped, of 4" in out and "not reached" not in out
    assert out.count("AssertionError: a long reason") == 2 and "def test_bad(like)" in out
    assert "[strict" not in out and "[cupy" not in out and "no_library" not in out and "of_a_name" not in out


@pytest.mark.parametrize("how", ["os._exit(11)", "os.kill(os.getpid(), 9)"])
def test_after_a_crash_the_rest_runs_in_a_new_process(tmp_path, capfd, how):
    suite = made(
        tmp_path,
        f"""
@pytest.mark.parametrize("like", ["numpy-float64"])
def test_crash(like): {how}

@pytest.mark.parametrize("like", ["numpy-float64"])
def test_last(like): pass
""",
    )
    assert run(Options("numpy", Clock()), [suite]) == part.FAILED
    out = capfd.readouterr().out
    assert "3 passed, 2 failed, 0 skipped, of 6" in out
    assert "died or was ended in: " in out and "test_crash[numpy-float64]" in out.split("died or was ended in: ")[1]


def test_when_time_is_up_what_hangs_is_ended_and_the_rest_named(tmp_path, capfd, monkeypatch):
    suite = made(
        tmp_path,
        """
@pytest.mark.parametrize("like", ["numpy-float64"])
def test_hangs(like): time.sleep(600)

@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("like", ["numpy-float64"])
def test_last(like, number): pass
""",
    )
    start = time.time()
    assert run(Options("numpy", Clock(start + 4)), [suite]) == part.FAILED
    assert time.time() - start < 15
    said = capfd.readouterr()
    assert "when time was up: " in said.err and "in test_hangs" in said.err
    assert "died or was ended in: " in said.out and "not reached: 3, which are" in said.out
    assert "::test_last (3)" in said.out


def test_what_is_cut_is_not_what_failed(tmp_path, capfd):
    suite = tmp_path / "suite"
    suite.mkdir()
    body = 'import time, pytest\n@pytest.mark.parametrize("n", range(50))\n'
    body += '@pytest.mark.parametrize("like", ["numpy-float64"])\ndef test_slow(like, n): time.sleep(0.3)\n'
    (suite / "test_slow.py").write_text(body)
    assert run(Options("numpy", Clock(time.time() + 4)), [str(suite)]) == part.CUT
    out = capfd.readouterr().out
    assert "0 failed" in out and "died" not in out and "not reached: " in out


def test_a_file_that_cannot_be_imported_does_not_stop_the_others(tmp_path, capfd):
    suite = made(tmp_path)
    (tmp_path / "suite" / "test_broken.py").write_text("import no_such_module")
    assert run(Options("numpy", Clock()), [suite]) == part.FAILED
    out = capfd.readouterr().out
    assert "2 passed, 3 failed" in out and "No module named 'no_such_module'" in out


def test_where_nothing_is_found_something_is_wrong(tmp_path):
    (tmp_path / "test_empty.py").write_text("def test_of_no_library(): pass")
    assert run(Options("numpy", Clock()), [str(tmp_path)]) == part.FAILED


def test_a_device_that_is_lost_ends_the_process(tmp_path, monkeypatch):
    record, codes = tmp_path / "record", []
    record.touch()
    selection = tests_selected.Selection(Options("numpy", Clock()), record)
    monkeypatch.setattr(tests_selected.os, "_exit", codes.append)
    selection._still_there()
    assert codes == []

    def lost(self, dtype):
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(Options, "like", lost)
    selection._still_there()
    assert codes == [tests_selected.LOST]


def test_the_order():
    files = (
        "tests/autodiff/test_passes.py",
        "tests/autodiff/test_likelihoods.py",
        "tests/kfac_ref/curvature/test_fisher.py",
        "tests/kfac_ref/curvature/test_implicit_factors.py",
        "tests/kfac_ref/curvature/test_block_tridiagonal.py",
        "tests/kfac_ref/test_optimizer.py",
        "tests/kfac_ref/test_transfers.py",
        "tests/kfac_ref/oracle/test_truth.py",
        "tests/validation/test_replay.py",
    )
    assert [topic(f"{file}::test_fisher[numpy]") for file in files] == list(tests_selected.ORDER)


def test_what_is_about_a_library():
    assert about("cupy", ["cupy-float32", 3], []) and not about("cupy", ["strict-float64"], ["like"])
    assert about("cupy", [], ["cupy"]) and not about("numpy", ["numpy", "cupy-float64"], ["cupy"])


def test_the_record():
    lines = [
        {"todo": ["a", "b[1]", "b[2]", "c"]},
        {"begun": "a"},
        {"ended": "a", "outcome": "passed"},
        {"ended": "a", "outcome": "failed"},  # at its teardown
        {"begun": "c"},
        {"todo": ["a"]},
    ]
    found = Record.of(lines)
    assert found.outcomes == {"a": "failed"} and found.lost == ["c"] and found.not_reached == ["b[1]", "b[2]"]
    assert "  b (2)" in str(found)
