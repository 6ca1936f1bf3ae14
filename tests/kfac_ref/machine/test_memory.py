"""kfac_ref.machine.memory: the least of what limits a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kfac_ref.machine import cores, memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 GiB, and control groups in a folder of the test."""
    sizes = {"SC_PHYS_PAGES": 2 * 2**20, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    for folder in ("a/b", "memory/a"):
        (tmp_path / "cgroup" / folder).mkdir(parents=True)
    return tmp_path


def test_physical_memory(machine):
    assert memory.limit() == 8 * GIB


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [("max", "max", 8), (f"{3 * GIB}", "max", 3), ("max", f"{2 * GIB}", 2), (f"{64 * GIB}", "nonsense", 8)],
)
def test_control_groups(machine, inner, outer, expected):
    (machine / "own").write_text("0::/a/b\n")
    (machine / "cgroup" / "a" / "b" / "memory.max").write_text(f"{inner}\n")
    (machine / "cgroup" / "memory.max").write_text(f"{outer}\n")
    assert memory.limit() == expected * GIB


@pytest.mark.parametrize(("own", "expected"), [("4:memory:/a", 2), ("4:cpu,cpuacct:/a", 4), ("4:memory:/elsewhere", 4)])
def test_control_groups_of_the_first_version(machine, own, expected):
    (machine / "own").write_text(f"9:name=systemd:/x\n{own}\n0::/\n")
    (machine / "cgroup" / "memory" / "a" / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (machine / "cgroup" / "memory" / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    assert memory.limit() == expected * GIB
    (machine / "cgroup" / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory.limit() == (2 if expected == 2 else 8) * GIB


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of the address space is Linux's")
def test_the_process_own_limit():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); "
        "from kfac_ref.machine import memory; print(memory.limit())"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert int(done.stdout) <= 2**31


def test_a_system_that_tells_nothing(machine, monkeypatch):
    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.limit() is None


@pytest.mark.parametrize(
    ("size", "said"),
    [(999, "999 bytes"), (1024, "1 KiB"), (3 * GIB, "3 GiB"), (8e16, "71.1 PiB"), (5e20, "4.44e+05 PiB")],
)
def test_readable(size, said):
    assert memory.readable(size) == said
