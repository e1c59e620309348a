"""Which events start runs: what the rules of EventBridge need of the file that users write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.names import REPLICA
from noob_cloud.serverless.mapping import Mapping as Entries

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.serverless.mapping import Entry

_OURS = f"{REPLICA}/"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the events of a deployment are."""

    uploads: tuple[dict[str, str], ...] = ()
    """Patterns of the keys of objects that start something."""
    schedules: tuple[str, ...] = ()
    """`rate(1 hour)`, `cron(0 6 * * ? *)`."""
    patterns: tuple[dict[str, Any], ...] = ()
    """Events of EventBridge."""

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Read a mapping file.

        Raises:
            MappingError: it is not one; the message says what is wrong where.
            ValueError: it maps what the coordinator itself writes.
        """
        entries = Entries.load(path).on
        uploads = [_key(entry, f"{path}: on.{n}") for n, entry in enumerate(entries) if entry.s3]
        return cls(
            uploads=tuple(each for n, each in enumerate(uploads) if each not in uploads[:n]),
            schedules=tuple(dict.fromkeys(entry.schedule for entry in entries if entry.schedule)),
            patterns=tuple(entry.event for entry in entries if entry.event),
        )


def _key(entry: Entry, where: str) -> dict[str, str]:
    """Return the pattern of an entry's keys.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    prefix = entry.s3 or ""
    if _OURS.startswith(prefix) or prefix.startswith(_OURS):
        raise ValueError(
            f"{where}.s3: below {prefix!r} the coordinator itself writes, ten times a second; put"
            " inputs below a prefix of your own, such as inbox/."
        )
    if not entry.suffix:
        return {"prefix": prefix}
    return {"wildcard": f"{_literally(prefix)}*{_literally(entry.suffix)}"}


def _literally(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*")
