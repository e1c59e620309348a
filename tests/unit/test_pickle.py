"""Pickle is spoken between a process and its own children, and by nobody else in the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import noob_cloud
from noob_cloud import codec

ROOT = Path(noob_cloud.__file__).parent
OWN_CHILDREN = {
    "executors/channel.py",
    "executors/process_boot.py",
    "executors/process_error.py",
    "executors/process_link.py",
    "executors/process_worker.py",
}
"""What writes to, and reads from, the pipes of worker processes."""
WHETHER_IT_WOULD = {"worker/execute.py"}
"""Loads bytes that it has just made, to see whether an exception would reach the parent."""
LOADERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve"}


class Plain:
    """A class that nobody registered; it pickles."""


def loaders(source: str) -> set[str]:
    """The modules that run code of what they load, among those that a source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found & LOADERS


def test_only_the_pipes_of_worker_processes_know_pickle() -> None:
    """Codec, queue, coordinator, worker server and Lambda adapters cannot load one."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if loaders(path.read_text(encoding="utf-8"))
    }

    assert found == OWN_CHILDREN | WHETHER_IT_WOULD


def test_the_wire_format_says_what_to_register_instead_of_pickling() -> None:
    """A value of an unknown class is refused by name, with the way out."""
    with pytest.raises(codec.EncodeError, match=r"Plain has no place .*codec\.register\(cls\)"):
        codec.dumps(Plain())
