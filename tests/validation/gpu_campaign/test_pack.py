"""What is gathered for a machine without a network, without a network."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from kfac_ref.data import fetching
from validation import gpu_campaign
from validation.gpu_campaign import pack

CONTENTS = {"train-images-idx3-ubyte": b"\x00" * 1000, "t10k-labels-idx1-ubyte": b"some labels"}


@pytest.fixture
def offline(monkeypatch):
    """pip fetches two wheels, one of them large; the data are there."""
    asked = []

    def download(command, **options):
        asked.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / "small-1.0-py3-none-any.whl").write_bytes(b"x")
        (folder / "large-1.0-cp312-cp312-manylinux_2_28_x86_64.whl").write_bytes(b"x" * pack.LARGE)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pack.subprocess, "run", download)
    monkeypatch.setattr(fetching, "read", lambda name: CONTENTS)
    return asked


def test_it_gathers_wheels_and_data_and_says_the_command(offline, tmp_path, capsys):
    folder = tmp_path / "my pack"
    assert gpu_campaign.main(["--pack", str(folder)]) == 0
    out = capsys.readouterr().out
    assert [path.name for path in (folder / "wheels").iterdir()] == ["small-1.0-py3-none-any.whl"]
    assert "expected there, with CuPy: large" in out and "1 wheels and MNIST" in out
    assert f"    {pack.command('my pack')}\n" in out and str(tmp_path) not in pack.command("my pack")
    for name, content in CONTENTS.items():
        assert gzip.decompress((folder / "cache" / "mnist" / f"{name}.gz").read_bytes()) == content
    (command,) = offline
    assert "array-api-compat>=1.11" in command and command[command.index("--python-version") + 1] == "3.12"


def test_what_is_needed():
    asked = pack.requirements()
    assert {"numpy>=2.1.2", "pytest>=8.2", "array-api-strict>=2.3", "tabulate>=0.9"} <= set(asked)
    assert not any(line.startswith(pack.NOT_NEEDED) for line in asked)


def test_what_is_there_is_not_touched(offline, tmp_path):
    with pytest.raises(ValueError, match="--pack must be a new folder"):
        gpu_campaign.main(["--pack", str(tmp_path)])
    assert offline == []


def test_what_pip_says_is_shown(tmp_path, monkeypatch):
    def fails(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(pack.subprocess, "run", fails)
    with pytest.raises(OSError, match="could not fetch the wheels: ERROR: no network"):
        pack.fetch_wheels(["numpy"], tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="the command is for a shell of Unix")
def test_the_command_unpacks_what_the_project_then_reads(offline, tmp_path):
    """In a shell, with a made-up python3 in the place of pip and of the campaign."""
    assert gpu_campaign.main(["--pack", str(tmp_path / "gpu-pack")]) == 0
    program = tmp_path / "bin" / "python3"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$KFAC_REF_CACHE|$*" >> said\n')
    program.chmod(0o755)
    shell = f'PATH="{program.parent}:$PATH"; {pack.command("gpu-pack")}'
    with subprocess.Popen(["/bin/sh", "-c", shell], cwd=tmp_path) as process:
        assert process.wait() == 0
    first, second = (tmp_path / "said").read_text().splitlines()
    assert first.startswith("|-m pip install --no-index") and second.endswith("cache|-m validation gpu-campaign")
    for name, content in CONTENTS.items():
        assert Path(second.split("|")[0], "mnist", name).read_bytes() == content
