"""A tube named on the command line: a path or a noob_id, with its inputs and its placement."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noob_cloud.cli import values
from noob_cloud.cli.errors import UsageError
from noob_cloud.exceptions import NoobCloudError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noob import Tube

    from noob_cloud.tubes import TubeSource


def load(source: str, pairs: Iterable[str] | None = None) -> Tube:
    """Load the tube; its modules may lie in the current directory, as with `python -m`.

    Raises:
        UsageError: there is no such tube, or it cannot be loaded; the sentence says why.
    """
    from noob_cloud.plan import load_tube  # noqa: PLC0415 - only commands that need a tube pay

    inputs = _prepare(source, pairs)
    try:
        return load_tube(source, input=inputs)
    except Exception as error:
        raise _refuse(source, error) from error


def describe(source: str, pairs: Iterable[str] | None = None) -> TubeSource:
    """The tube as a value that can be sent, without loading its code here.

    Raises:
        UsageError: there is no such tube, or its specification is not valid.
    """
    from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - only when sending one

    inputs = _prepare(source, pairs)
    try:
        return TubeSource.of(source, input=inputs)
    except NoobCloudError:
        raise
    except Exception as error:
        raise _refuse(source, error) from error


def _prepare(source: str, pairs: Iterable[str] | None) -> dict[str, Any]:
    if source.endswith((".yaml", ".yml")) and not Path(source).exists():
        raise UsageError(f"There is no file {source} here; give the path of a tube's YAML")
    import_from_here()
    return values.inputs(pairs or ())


def import_from_here() -> None:
    """Put the current directory on the import path, as `python -m` does: nodes may lie there.

    Behind it the folder `src` where there is one: so a project is imported as it is deployed.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    source = str(Path.cwd() / "src")
    if Path(source).is_dir() and source not in sys.path:
        sys.path.insert(1, source)


def _refuse(source: str, error: Exception) -> UsageError:
    reason = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return UsageError(f"The tube {source} cannot be loaded: {type(error).__name__}: {reason}")


def placement_of(source: str, given: Path | None) -> Path | None:
    """The placement file: the one given, or NAME.cloud.yaml beside the tube, or None.

    Raises:
        UsageError: the one given does not exist.
    """
    if given is not None:
        if not given.exists():
            raise UsageError(f"There is no placement file {given}")
        return given
    path = _path_of(source)
    beside = path and path.with_name(f"{path.stem}.cloud.yaml")
    return beside if beside and beside.exists() else None


def placement_document(source: str, given: Path | None) -> dict[str, Any] | None:
    """What the placement file says, in plain values that can be sent; None without one."""
    path = placement_of(source, given)
    if path is None:
        return None
    from noob_cloud.placement import Placement  # noqa: PLC0415 - only when sending one

    return Placement.load(path).document()


def _path_of(source: str) -> Path | None:
    """Where the tube's YAML is; None if upstream finds it in a way of its own."""
    if source.endswith((".yaml", ".yml")):
        return Path(source)
    from noob.tube import TubeSpecification  # noqa: PLC0415 - only commands that need a tube

    try:
        return TubeSpecification.path_from_id(source)
    except KeyError:
        return None
