"""README.md is one screen, its numbers are those of the results, and an index can show it. See tests/docs/test_pages.py
for what all pages have in common."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_one_screen():
    assert len(README.splitlines()) <= 90


def test_continuous_integration_runs_the_readme_s_command():
    assert len(re.findall(r"^ +python -m pip install .*&& python -m pytest -n 2$", README, re.M)) == 1


def test_its_results_are_those_that_commands_printed():
    # an address before the path: as in a release
    rows = re.findall(r"^\| \[.*\]\((?:https:\S*/)?(validation/results/\S+)\)(.*\|)$", README, re.M)
    assert len(rows) == 5
    for file, row in rows:
        text = (ROOT / file).read_text(encoding="utf-8")
        for number in re.findall(r"\d[\d.e-]*", row):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", text), f"{number} is not in {file}"


def test_on_an_index_its_links_and_pictures_are_the_repository_s(tmp_path):
    """As .github/workflows/release.yml rewrites them."""
    if not shutil.which("sed"):
        pytest.skip("needs sed")
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ +- run: (sed .*README\.md)$", workflow, re.M)
    shutil.copy(ROOT / "README.md", tmp_path)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env={"AT": "https://host/us/it", "REF": "v1"}, check=True)
    targets = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", (tmp_path / "README.md").read_text(encoding="utf-8"))
    before = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", README)
    assert len(targets) == len(before) > 20
    for (bang, target), (_, old) in zip(targets, before, strict=True):
        folder = "raw" if bang else "blob"
        assert target == (old if "://" in old else f"https://host/us/it/{folder}/v1/{old}")
