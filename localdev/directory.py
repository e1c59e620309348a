"""The directory of a local cloud: ours, and one cloud's at a time."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from typing import TYPE_CHECKING, Final

from localdev.errors import RefusedError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

__all__ = ["Directory"]

_MARK: Final = ".noob-cloud-dev"
"""A file that says that a directory is ours, to be emptied; locked while a cloud runs in it."""


class Directory:
    """Files, disks and logs, emptied when a cloud takes it.

    Args:
        path: where it is, or is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._mark: TextIO | None = None

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.path / "logs"

    def take(self) -> None:
        """Begin with it empty; hold it until `leave`.

        Raises:
            RefusedError: it is not ours, or another cloud runs in it.
        """
        mark = self.path / _MARK
        if self.path.exists() and any(self.path.iterdir()) and not mark.exists():
            raise RefusedError(
                f"{self.path} holds something else; name a directory that is new or empty."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        taken = mark.open("w")
        try:
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            taken.close()
            raise RefusedError(
                f"Another local cloud runs in {self.path}: end it, or name another directory."
            ) from error
        self._mark = taken
        self._empty()
        self.logs.mkdir()
        # sockets lie on the tasks' disks, and a socket's path has at most 107 bytes
        (self.path / "tasks").symlink_to(tempfile.mkdtemp(prefix="nc-"))

    def _empty(self) -> None:
        disks = self.path / "tasks"
        if disks.is_symlink():
            shutil.rmtree(disks.readlink(), ignore_errors=True)
        for each in self.path.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            elif each.name != _MARK:
                each.unlink()

    def leave(self) -> None:
        """Remove the tasks' disks, and let another cloud take it; the logs stay."""
        if self._mark is not None:
            shutil.rmtree((self.path / "tasks").resolve(), ignore_errors=True)
            self._mark.close()
            self._mark = None
