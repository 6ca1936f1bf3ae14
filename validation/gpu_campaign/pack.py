"""Gathers what a machine with a GPU, but without a network, needs beside the clone: wheels and MNIST.

Wheels are for Linux on x86-64. Large ones stay away: NumPy, SciPy, Matplotlib and the like are there wherever CuPy is,
and pip takes from the folder only what is not.
"""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from kfac_ref.data import fetching
from kfac_ref.data.files import write_text, write_whole
from validation.gpu_campaign.processes import CLONE

PYTHON = "3.12"
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 24, 17, 12, 5)),
    *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")),
)
NOT_NEEDED = ("ruff", "mypy", "pytest-xdist")
"""What the tests do not need to run."""
LARGE = 2 * 2**20
"""Bytes from which on a wheel stays away."""


def requirements() -> list[str]:
    """What pyproject.toml asks for, to run the package and its tests."""
    project = tomllib.loads((CLONE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [line for line in asked if re.split("[^A-Za-z0-9._-]", line)[0] not in NOT_NEEDED]


def fetch_wheels(asked: Sequence[str], folder: Path) -> list[str]:
    """Fetch the wheels of these and of all they need into a folder, but for LARGE ones, whose names are returned.

    OSError with what pip says if that fails.
    """
    with tempfile.TemporaryDirectory() as fetched:
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]
        done = subprocess.run([*command, "--dest", fetched, *asked], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"pip could not fetch the wheels: {done.stderr.strip()}")
        folder.mkdir(parents=True, exist_ok=True)
        large = []
        for wheel in sorted(Path(fetched).glob("*.whl")):
            if wheel.stat().st_size >= LARGE:
                large.append(wheel.name.split("-")[0])
            else:
                shutil.copy(wheel, folder)
    return large


def main(folder: Path) -> int:
    """Fill a folder that is not there yet, and print the command to run there; exit code 0."""
    if folder.exists():
        raise ValueError(f"--pack must be a new folder; {folder} is there already")
    contents = fetching.read("mnist")
    asked = requirements()
    large = fetch_wheels(asked, folder / "wheels")
    write_text(folder / "requirements.txt", "\n".join(asked) + "\n")
    for name, content in contents.items():
        write_whole(folder / "cache" / "mnist" / f"{name}.gz", partial(_put, content=gzip.compress(content, mtime=0)))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB, {len(list((folder / 'wheels').iterdir()))} wheels and MNIST")
    print(f"expected there, with CuPy: {', '.join(large)}\n")
    print(f"Take it there, into the clone, and run there, in the clone:\n\n    {command(folder.name)}")
    return 0


def _put(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def command(folder: str) -> str:
    """What is run on the machine with the GPU, in the clone, where the folder is."""
    place = shlex.quote(folder)
    return (
        f"python3 -m pip install --no-index --find-links {place}/wheels -r {place}/requirements.txt && "
        f'gunzip -kf {place}/cache/mnist/*.gz && KFAC_REF_CACHE="$PWD"/{place}/cache python3 -m validation gpu-campaign'
    )
