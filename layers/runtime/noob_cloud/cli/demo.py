"""`noob-cloud demo`: the example of the checkout, on a coordinator and two workers of its own."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from noob_cloud.cli.errors import UsageError

_NEEDED = ("PIL", "skimage")


def demo(
    *,
    out: Annotated[
        Path, typer.Option(help="Where the contact sheet, the queue and the logs are written.")
    ] = Path("out"),
) -> None:
    """Find galaxies, cell nuclei, coins and letters in real pictures, without a cloud.

    It starts a coordinator and two workers, and ends them. It runs what lies in `examples/` of a
    checkout of noob-cloud; `make demo` there does the like on an emulated cloud.
    """
    root = Path(__file__).resolve().parents[4]
    if not (root / "examples" / "demo.py").exists():
        raise UsageError(
            "noob-cloud demo runs the example of a checkout of noob-cloud, and this is an"
            " installed package: clone the repository and run `make demo` there."
        )
    out = out.absolute()
    os.chdir(root)  # the processes that it starts find the example's modules from here
    sys.path.insert(0, str(root))
    try:
        module = importlib.import_module("examples.demo")
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise UsageError(
            f"noob-cloud demo needs {error.name}: pip install 'noob-cloud[demo,server]'"
        ) from error
    raise typer.Exit(module.main(out))
