"""Epochs' inputs from a file of JSON lines, and results into one."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.values import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def read_feed(path: Path) -> Iterator[dict[str, Any]]:
    """One object for each line that is not blank.

    Raises:
        UsageError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--feed {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            epoch = json.loads(line)
        except ValueError as error:
            raise UsageError(f"--feed {path}, line {number} is not JSON: {error}") from error
        if not isinstance(epoch, dict):
            raise UsageError(f"--feed {path}, line {number} is not a JSON object")
        yield epoch


def write_results(path: Path, results: Sequence[Any]) -> None:
    """Write the results as one JSON list, or a line each where the name ends in `.jsonl`.

    Raises:
        UsageError: the file cannot be written.
    """
    lines = [json.dumps(plain(result), ensure_ascii=False) for result in results]
    one_each = path.suffix == ".jsonl"
    text = "".join(f"{line}\n" for line in lines) if one_each else f"[{', '.join(lines)}]\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {path} cannot be written: {error.strerror}") from error
