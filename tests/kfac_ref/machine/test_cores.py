"""kfac_ref.machine.cores: which a process may use, and how runs share them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kfac_ref.machine import cores

TAKE = """
import sys
from pathlib import Path
import cores
cores.usable, cores.slots_folder = lambda: [*range(int(sys.argv[3]))], lambda: Path(sys.argv[1])
with cores.taken(int(sys.argv[2])) as count:
    print(count, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def slots(tmp_path, monkeypatch):
    """A folder of slots for two cores."""
    monkeypatch.setattr(cores, "slots_folder", lambda: tmp_path / "slots")
    monkeypatch.setattr(cores, "usable", lambda: [0, 1])
    return tmp_path / "slots"


class Taking:
    """A process that takes slots and keeps them until it is told to end, or killed."""

    def __init__(self, folder, wish, of=2):
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(folder), str(wish), str(of)],
            cwd=Path(cores.__file__).parent,  # where the module is, without all that the package imports
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.count = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(("wishes", "expected"), [((2, 2), (2, 0)), ((1, 2), (1, 1)), ((5, 1), (2, 0))])
def test_processes_share_the_cores(slots, wishes, expected):
    """The first takes what it wishes, and the second what is left, which may be none."""
    with Taking(slots, wishes[0]) as first, Taking(slots, wishes[1]) as second:
        assert (first.count, second.count) == expected
        first.process.communicate("")  # the end of its input ends it
        assert first.process.returncode == 0
        with cores.taken(2) as free:
            assert free == 2 - second.count


def test_slots_of_a_killed_process_are_free_again(slots):
    with Taking(slots, 2) as first:
        with cores.taken(2) as free:
            assert (first.count, free) == (2, 0)
        first.process.kill()
        first.process.wait()
        with cores.taken(2) as free:
            assert free == 2


def test_slots_are_given_back_whatever_happens(slots):
    with pytest.raises(KeyError), cores.taken(2) as free:
        assert free == 2
        raise KeyError
    with cores.taken(1) as free, Taking(slots, 2) as other:
        assert (free, other.count) == (1, 1)


def test_where_slots_cannot_be_made_the_wish_is_granted(slots):
    slots.write_text("a file")
    with cores.taken(1) as count:
        assert count == 1
    with cores.taken(9) as count:
        assert count == 2


@pytest.mark.skipif(sys.platform == "win32", reason="temporary directories are the user's own")
def test_the_folder_is_the_user_s_own(slots, monkeypatch):
    with cores.taken(1):
        assert slots.stat().st_mode & 0o777 == 0o700
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with Taking(slots, 2), cores.taken(2) as count:
        assert count == 2  # another user's slots are left alone


def test_slots_folder_is_named_after_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cores.slots_folder().parent == tmp_path
    if sys.platform != "win32":
        assert cores.slots_folder().name.endswith(f"-{os.getuid()}")


# --- which a process may use ---------------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path, monkeypatch):
    """Four cores, and control groups in a folder of the test."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 2, 7, 3}, raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    (tmp_path / "cgroup" / "a" / "b").mkdir(parents=True)
    (tmp_path / "cgroup" / "cpu").mkdir()
    return tmp_path


def test_affinity(four):
    assert cores.usable() == [2, 3, 5, 7]


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("max 100000", "max 100000", 4),
        ("250000 100000", "max 100000", 2),
        ("max 100000", "300000 100000", 3),
        ("200000 100000", "100000 100000", 1),
        ("50000 100000", "max 100000", 1),
        ("900000 100000", "max 100000", 4),
        ("nonsense", "", 4),
    ],
)
def test_quotas_of_control_groups(four, inner, outer, expected):
    (four / "own").write_text("0::/a/b\n")
    (four / "cgroup" / "a" / "b" / "cpu.max").write_text(f"{inner}\n")
    (four / "cgroup" / "cpu.max").write_text(f"{outer}\n")
    assert cores.usable() == [2, 3, 5, 7][:expected]


@pytest.mark.parametrize(("quota", "expected"), [(-1, 4), (150000, 1), (200000, 2)])
def test_quotas_of_the_first_version(four, quota, expected):
    (four / "own").write_text("4:cpu,cpuacct:/\n")
    (four / "cgroup" / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (four / "cgroup" / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert len(cores.usable()) == expected


def test_elsewhere_all_processors(monkeypatch, four):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cores.usable() == [0, 1, 2]
