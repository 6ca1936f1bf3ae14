"""Pages that people read: README.md and those of `docs`, and the blocks of code on them.

A block is run as it stands, after those before it, in an empty folder. What cannot be says why in its fence, behind the
language: a word of `NOT_RUN`; or a package of `NEEDED`, without which it is not run.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfac_ref.command import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(p for p in DOCS.rglob("*.md") if not {"_build", "generated"} & set(p.relative_to(DOCS).parts)),
]
NOT_RUN = {
    "clone": "is entered in a clone",
    "long": "takes minutes or more",
    "fetches": "needs data from the network",
    "installs": "changes the environment",
    "many": "starts processes by MPI",
    "gpu": "needs a GPU",
    "part": "what is around it is the reader's own",
}
NEEDED = ("jax", "torch")
RESIDUAL = re.compile(r"\d\.\de[-+]\d\d")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def run(self) -> bool:
        return not set(self.marks) & set(NOT_RUN) and all(importlib.util.find_spec(mark) for mark in self.marks)

    @property
    def commands(self) -> list[str]:
        """Of a shell, one by one."""
        lines = re.sub(r" *\\\n *", " ", self.text).splitlines()
        return [command.strip() for line in lines if line.strip() for command in line.split(" && ")]


def blocks(page: Path) -> list[Block]:
    """In the order of the page; of README.md, where they are indented, those of a shell."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    indented = re.findall(r"(?:^    \S.*\n)+", text, re.M) if page == README else []
    return [
        *(Block(language, tuple(marks.split()), body) for language, marks, body in found),
        *(Block("bash", ("installs",), re.sub(r"^ {4}", "", body, flags=re.M)) for body in indented),
    ]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def executed(block: Block, namespace: dict[str, Any], page: Path) -> str:
    """What a block prints; one of Python that begins with the name of a file is written to it."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        if block.language == "bash":
            for command in block.commands:
                entered(command)
        elif file := re.match(r"# (\w+\.py)\n", block.text):
            Path(file[1]).write_text(block.text, encoding="utf-8")
        else:
            exec(compile(block.text, str(page), "exec"), namespace)
    return out.getvalue()


def entered(command: str) -> None:
    """Do what a shell would."""
    words = shlex.split(command)
    if words[0] == "kfac-ref":
        code = cli.main(words[1:])
        # 1 of `check`: something differs, as the text below then says
        assert code == 0 or (code == 1 and words[1] == "check"), command
    elif words[:2] == ["python", "-c"]:
        exec(words[2], {})
    elif words[0] == "python":
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "PYTHONUTF8": "1"}
        run = subprocess.run([sys.executable, *words[1:]], capture_output=True, encoding="utf-8", env=environment)
        print(run.stdout)
        # 1 of pytest: a test fails, as the text below then says
        assert run.returncode == 0 or (run.returncode == 1 and "pytest" in words), run.stderr
    else:
        raise ValueError(f"{command}: is not run by this; say why in its fence")


def printed(page: Path) -> Iterator[tuple[Block, str]]:
    """Blocks that are run, and what they printed, which is compared with a block of text that follows."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    said: str | None = None
    for block in blocks(page):
        if block.language in ("python", "bash"):
            said = executed(block, namespace, page) if block.run else None
            if said is not None:
                yield block, said
        elif block.language == "text" and said is not None:
            assert same(block.text, said), f"{name(page)} has\n{block.text}\nand what is printed is\n{said}"


def same(text: str, said: str) -> bool:
    """But for spaces, residuals of rounding, and what … stands for."""
    text, said = (RESIDUAL.sub("residual", x) for x in (text, said))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(text.replace("…", "..."), said, options)
