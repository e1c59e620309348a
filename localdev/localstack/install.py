"""`python -m localdev.localstack.install`: LocalStack's own environment, beside ours.

It is made once, from its lock, when it is first needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noob_cloud.exceptions import NoobCloudError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InstallError", "install", "missing"]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_FOLDER: Final = ROOT / ".venv-localstack"
_LOCK: Final = ROOT / "requirements" / "localstack.txt"


class InstallError(NoobCloudError, RuntimeError):
    """LocalStack cannot be installed; the message is the installer's."""


def missing() -> bool:
    """Whether `install` has something to install."""
    return not _complete().exists()


def install(say: Callable[[str], None] | None = None) -> Path:
    """Return the Python of the environment that has LocalStack; make it first where it is missing.

    Args:
        say: is told once what is going on, if that takes a while. The installer's own lines go
            where this process's errors go.

    Raises:
        InstallError: it cannot be installed.
    """
    python = _FOLDER / "bin" / "python"
    if not missing():
        return python
    with _FOLDER.with_name(".venv-localstack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another one may be at it
        if missing():
            if say is not None:
                size = "about 300 MB, half a minute or more"
                say(f"Installing LocalStack into {_FOLDER.name}: once, {size}.")
            _install(python, quiet=say is None)
    return python


def _install(python: Path, *, quiet: bool) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise InstallError("uv installs LocalStack: pip install uv")
    shutil.rmtree(_FOLDER, ignore_errors=True)
    options = ["--quiet"] if quiet else []
    for words in (
        ["venv", "--quiet", "--python", sys.executable, str(_FOLDER)],
        ["pip", "install", *options, "--python", str(python), "--require-hashes", "-r", str(_LOCK)],
    ):
        done = subprocess.run(  # noqa: S603 - ours
            [uv, *words],
            stdout=sys.stderr if not quiet else subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            check=False,
        )
        if done.returncode:
            said = f":\n{done.stderr.strip()}" if quiet else "; it says why above."
            raise InstallError(f"uv {' '.join(words[:2])} failed{said}")
    _complete().touch()


def _complete() -> Path:
    """Return the file that says that everything of this lock is installed, for this Python."""
    wanted = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    return _FOLDER / f".complete-{wanted}"


if __name__ == "__main__":
    print(install(lambda text: print(text, file=sys.stderr)))  # noqa: T201 - what it is run for
