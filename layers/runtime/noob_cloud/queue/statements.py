"""The named queries of a `.sql` file, as attributes."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Statements:
    """`Statements.of(path).claim_head` is the text under `-- name: claim_head` in that file."""

    def __init__(self, queries: dict[str, str]) -> None:
        self._names = list(queries)
        self.__dict__.update(queries)

    @classmethod
    def of(cls, path: Path) -> Statements:
        """Read the file; a name that is given twice raises `ValueError`."""
        pieces = _NAME.split(path.read_text(encoding="utf-8"))
        queries: dict[str, str] = {}
        for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
            if name in queries:
                raise ValueError(f"{path.name} names {name} twice")
            lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
            queries[name] = "\n".join(lines).strip().rstrip(";")
        return cls(queries)

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"no query is named {name}")

    def names(self) -> list[str]:
        """Every name, in the order of the file."""
        return list(self._names)


SQL = Statements.of(Path(__file__).with_name("sqlite.sql"))
"""The queries of `sqlite.sql`."""
