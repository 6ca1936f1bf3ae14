"""What the check finds of other libraries' curvature: examples, each to be copied into a test-suite, run with the
Python of an environment that has the library."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "torch": (
        *("curvlinops_kfac", "curvlinops_inverse", "curvlinops_ggn", "backpack_kfac"),
        *("curvlinops_shared", "backpack_shared", "nngeometry_shared", "kronfluence_scores", "laplace_posterior"),
        *("kronfluence_factors", "laplace_factors", "asdl_factors", "asdl_inverse", "singd_factors"),
        *("approxngd_factors", "dattri_factors", "authors_trace"),
    ),
    "jax": ("kfac_jax_factors", "kfac_jax_inverse", "kfac_jax_shared"),
    "mlx": ("mlx_kfac_factors",),
}
"""The examples of this folder by what they need."""
PACKAGES = {
    "torch": "torch==2.13.0 curvlinops-for-pytorch==3.0.1 backpack-for-pytorch==1.7.1 nngeometry==0.4 "
    "kronfluence==1.0.1 laplace-torch==0.3 asdfghjkl==0.1a4 singd==0.0.5 approxngd==0.1.1 dattri==0.3.0",
    "jax": "jax==0.9.1 jaxlib==0.9.1 kfac-jax==0.0.8",
    "mlx": "mlx[cpu]==0.32.0 mlx-kfac==0.4.0",
}
"""What was run."""
RECIPE = """\
  python -m venv {name}-peers
  {name}-peers/bin/python -m pip install {packages} -e .
  python -m validation peers --{name}-python {name}-peers/bin/python"""


def how_to() -> str:
    """How to make the environments."""
    recipes = (RECIPE.format(name=name, packages=packages) for name, packages in PACKAGES.items())
    return "The libraries need environments of their own, made in this clone by\n\n" + "\n\n".join(recipes)


def main(arguments: Sequence[str]) -> int:
    """Run the examples and pass on what they print; 1 if one failed or left something unexplained."""
    parser = argparse.ArgumentParser(
        prog="python -m validation peers",
        description=__doc__,
        epilog=how_to(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, packages in PACKAGES.items():
        parser.add_argument(f"--{name}-python", metavar="PATH", help=f"the Python of an environment with {packages}")
    parser.add_argument("--only", nargs="+", metavar="EXAMPLE", help="run these examples alone")
    given = parser.parse_args(arguments)
    pythons = {name: getattr(given, f"{name}_python") for name in PACKAGES}
    if not any(pythons.values()):
        print(
            f"error: none of {', '.join(f'--{name}-python' for name in PACKAGES)} is given. {how_to()}", file=sys.stderr
        )
        return 2
    known = [example for name in EXAMPLES for example in EXAMPLES[name]]
    for example in given.only or ():
        if example not in known:
            raise ValueError(f"no example {example!r}, expected some of {', '.join(known)}")
    failed = []
    for name, python in pythons.items():
        for example in EXAMPLES[name]:
            if given.only and example not in given.only:
                continue
            if python is None:
                print(f"{example} is left out: --{name}-python is not given", file=sys.stderr)
            elif run(python, example):
                failed.append(example)
    if failed:
        print(f"error: failed, or left something unexplained: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def run(python: str, example: str) -> int:
    """Run an example with another environment's Python; its exit code."""
    print(f"\n# {example}", flush=True)
    try:
        # a link into an environment is that environment, so it is not resolved
        return subprocess.run([Path(python).absolute(), "-m", f"validation.peers.{example}"], cwd=ROOT).returncode
    except OSError as error:
        raise ValueError(f"{python}: cannot be run ({error.strerror}), expected the Python of an environment") from None
