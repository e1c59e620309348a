"""Where the archives of a deployment are: built layers, our functions, the user's code."""

from __future__ import annotations

import fcntl
import hashlib
import sys
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, Final

from infra.archives import ROOT, pack
from noob_cloud.exceptions import PackError
from noob_cloud.serverless.mapping import check
from noob_cloud.serverless.package import pack as pack_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from infra.pools import Architecture
    from infra.settings import Settings
    from noob_cloud.serverless.package import Packed

_NEEDED: Final = "runtime"
_KINDS: Final = (_NEEDED, "native")
_BUILT: Final = frozenset(("__pycache__", "target", "corpus", "artifacts"))


class AssetsError(RuntimeError):
    """The archives of a deployment cannot be made."""


class Assets:
    """The archives that a deployment consists of; what is missing is built.

    Args:
        settings: of the deployment.
        folder: of this synthesis alone, where functions are packed.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._packed = folder / "packed"
        self._codes: dict[str, Packed] = {}

    def layers(self, architecture: Architecture) -> dict[str, Path]:
        """Return the layers of an architecture, `runtime` first; `native` may be missing.

        They are built where there are none, and again where those that were built here are of
        other sources. What somebody else put there is taken as it is.

        Raises:
            AssetsError: they cannot be built; the message says what is missing.
        """
        folder = self._settings.assets_dir / "layers"
        paths = {kind: folder / f"{kind}-{architecture}.zip" for kind in _KINDS}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # others may synthesize at the same time
            self._build(architecture, folder, missing=not paths[_NEEDED].is_file())
        return {kind: path for kind, path in paths.items() if path.is_file()}

    def _build(self, architecture: Architecture, folder: Path, *, missing: bool) -> None:
        mark, sources, builder = folder / f"{architecture}.sources", self._sources, self._builder
        if not missing and not (mark.is_file() and mark.read_text(encoding="utf-8") != sources):
            return
        try:
            builder.build(architecture, python=self._settings.python, out=folder)
        except builder.BuildError as error:
            raise AssetsError(str(error)) from error
        mark.write_text(sources, encoding="utf-8")

    @cached_property
    def _sources(self) -> str:
        """The hash of everything that layers are built of."""
        return _hash(self._settings.python, "layers", "native", "requirements/layer.txt")

    def chain_layer(self, architecture: Architecture) -> Path:
        """Return the layer of the chain's listener; it is built where there is none.

        Raises:
            AssetsError: it cannot be built; the message says what is missing.
        """
        folder = self._settings.assets_dir / "layers"
        path, mark = folder / f"chain-{architecture}.zip", folder / f"chain-{architecture}.sources"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            pinned = _hash(self._settings.python, "requirements/layer-chain.txt", "layers/build.py")
            if path.is_file() and not (mark.is_file() and mark.read_text() != pinned):
                return path
            try:
                self._builder.build_chain(architecture, python=self._settings.python, out=folder)
            except self._builder.BuildError as error:
                raise AssetsError(str(error)) from error
            mark.write_text(pinned, encoding="utf-8")
        return path

    def code(self, architecture: Architecture) -> Packed | None:
        """Return the user's own code, packed for an architecture; None: there is none.

        Raises:
            AssetsError: it cannot be packed; the message says why.
        """
        if self._settings.project is None:
            return None
        if architecture not in self._codes:
            try:
                self._codes[architecture] = pack_project(
                    self._settings.project,
                    self._packed,
                    arch=architecture,
                    python=self._settings.python,
                    layer=ROOT / "requirements" / "layer.txt",
                )
            except PackError as error:
                raise AssetsError(str(error)) from error
        return self._codes[architecture]

    @property
    def code_cid(self) -> str | None:
        """The cid of the user's code."""
        found = self.code(self._settings.architecture)
        return None if found is None else found.cid

    @property
    def code_environment(self) -> dict[str, str]:
        """What a worker's environment says of the user's code."""
        return {} if self.code_cid is None else {"NOOB_CLOUD_CODE": self.code_cid}

    def worker(self, architecture: Architecture) -> Path:
        """Return the worker function: our handler, and the user's code beside it."""
        code = self.code(architecture)
        own = () if code is None else (code.path,)
        return self._function("worker", *own, suffix=f"-{architecture}")

    def submit(self) -> Path:
        """Return the submit function, with the mapping of events and its tubes beside it.

        Raises:
            MappingError: the mapping is wrong, or a tube is missing.
        """
        mapping = self._settings.events.mapping
        return self._function("submit", files={} if mapping is None else check(mapping))

    def chain_listener(self) -> Path:
        """Return the function that listens to the chain."""
        return self._function("chain_listener")

    def coordinator_archives(self, architecture: Architecture) -> dict[str, Path]:
        """Return what the coordinator's container fetches."""
        return {**self.layers(architecture), "coordinator": self._function("coordinator")}

    def worker_archives(self, architecture: Architecture) -> dict[str, Path]:
        """Return what a worker's container fetches."""
        code = self.code(architecture)
        return {**self.layers(architecture), **({} if code is None else {"code": code.path})}

    def _function(
        self,
        name: str,
        *parts: Path,
        suffix: str = "",
        files: Mapping[str, Path] | None = None,
    ) -> Path:
        source = ROOT / "functions" / name
        return pack(f"{name}{suffix}", (source, *parts), self._packed, files=files or {})

    @cached_property
    def _builder(self) -> Any:
        spec = spec_from_file_location("noob_cloud_layers", ROOT / "layers" / "build.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(ROOT / "layers" / "build.py")
        module = sys.modules[spec.name] = module_from_spec(spec)  # dataclasses look it up
        spec.loader.exec_module(module)
        return module


def _hash(python: str, *places: str) -> str:
    """Return the hash of what an archive is built of."""
    found = hashlib.sha256(python.encode())
    for path in sorted(path for place in places for path in _files(ROOT / place)):
        found.update(f"{path.relative_to(ROOT)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for path in place.rglob("*"):
        if path.is_file() and _BUILT.isdisjoint(path.relative_to(place).parts):
            yield path
