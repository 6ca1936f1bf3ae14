"""What a shell completes, by the script that shtab makes of the command's parser."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """As the documentation has it made."""
    path = tmp_path_factory.mktemp("completions") / "kfac-ref"
    command = [sys.executable, "-m", "shtab", "--shell=bash", "kfac_ref.command.cli.whole_parser"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kfac-ref tr", {"train", "truth"}),
        ("kfac-ref train --lambda", {"--lambda0", "--lambda-min", "--lambda-max"}),
        ("kfac-ref export run --to o", {"onnx"}),
        ("kfac-ref check the", {"theirs.npz"}),
        ("kfac-ref train --data th", {"theirs.npz"}),
        ("kfac-ref predict run --data x --out th", {"theirs.npz"}),
    ],
)
def test_bash(script, tmp_path, line, expected):
    (tmp_path / "theirs.npz").touch()
    words = shlex.split(line)
    complete = f'source "{script}"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_kfac_ref'
    say = 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{complete}; {say}"], cwd=tmp_path, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected, done.stderr
