"""Make a fresh interpreter look like its parent: paths, `__main__`, and its end with the parent's.

The parent's script is run again (as `__mp_main__`, like multiprocessing does) only when something
from it is first needed, so a script without a `__main__` guard works as long as its functions live
elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing.spawn
import os
import signal
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

__all__ = ["die_with_parent", "is_preparing", "module_of", "prepare", "remember", "setup"]

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 1.0
_files: dict[str, str] = {}
_state = {"preparing": False}


# ---- in the parent


def setup(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> dict[str, Any]:
    """What a worker must know to start; to be pickled."""
    import pickle  # noqa: PLC0415 - one's own child only

    data = multiprocessing.spawn.get_preparation_data("noob-cloud worker")
    keep = ("sys_path", "sys_argv", "orig_dir", "init_main_from_name", "init_main_from_path")
    main = {name: data[name] for name in keep if name in data}
    return {
        "main": main,
        "dir": data["dir"],
        "hint": None if initializer is None else module_of(initializer),
        "initializer": None if initializer is None else pickle.dumps((initializer, initargs)),
    }


def module_of(function: Any) -> tuple[str, str | None]:
    """The module that a callable comes from, with its file."""
    while hasattr(function, "func"):
        function = function.func
    function = getattr(function, "__func__", function)
    name = getattr(function, "__module__", None) or type(function).__module__
    return name, getattr(sys.modules.get(name), "__file__", None)


def is_preparing() -> bool:
    """Whether this process is a worker that runs its parent's script for the functions in it."""
    return _state["preparing"]


# ---- in the worker


def prepare(data: dict[str, Any]) -> None:
    """Take over the parent's paths and stand in for its `__main__`."""
    main = data["main"]
    sys.path[:] = main.pop("sys_path", sys.path)
    sys.argv[:] = main.pop("sys_argv", sys.argv)
    with contextlib.suppress(OSError):
        os.chdir(data["dir"])
    sys.meta_path.append(_ByFile())
    if data["hint"]:
        remember(*data["hint"])
    sys.modules["__main__"] = _Main(main)


def remember(name: str, file: str | None) -> None:
    """Where a module lies that may not be importable by name: a test's, a notebook's neighbour."""
    if file is not None and name != "__main__":
        _files[name] = file


class _ByFile:
    """Finds modules that nothing else finds, in the file the parent has them from."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give the spec of a remembered module, or of a package on the way to one."""
        del path, target
        if name in _files:
            return importlib.util.spec_from_file_location(name, _files[name])
        if any(known.startswith(f"{name}.") for known in _files):
            return importlib.util.spec_from_loader(name, _Empty(), is_package=True)  # type: ignore[arg-type]
        return None


class _Empty:
    """Loads a package without content, for a module whose package is not importable."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the import system make the module."""
        del spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Leave it empty."""
        module.__path__ = []


class _Main(ModuleType):
    """The parent's `__main__`, run when something in it is first asked for."""

    def __init__(self, main: dict[str, Any]) -> None:
        super().__init__("__main__")
        self.__dict__["_noob_cloud_main"] = main

    def __getattr__(self, name: str) -> Any:
        main = self.__dict__.get("_noob_cloud_main")
        if main is None or name.startswith("__"):
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        if _state["preparing"]:
            raise AttributeError(f"module '__main__' has no attribute {name!r} yet")
        _state["preparing"] = True
        try:
            multiprocessing.spawn.prepare(main)
        finally:
            _state["preparing"] = False
        module = sys.modules["__main__"]
        if module is self:  # the parent has no script: an interactive session
            raise AttributeError(
                f"{name!r} was defined interactively; a worker can only run what it can import"
            )
        self.__dict__["_noob_cloud_main"] = None
        return getattr(module, name)


def die_with_parent(parent: int) -> None:
    """End this process when `parent` ends, even while a call runs and however the parent ends."""
    try:
        import ctypes  # noqa: PLC0415 - in the worker only

        told = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0
    except (ImportError, OSError, AttributeError):
        told = False
    if not told:  # not Linux
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    waiter = threading.Event()
    while os.getppid() == parent:
        waiter.wait(_WATCH_SECONDS)
    os._exit(1)
