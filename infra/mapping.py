"""Which events start runs: what the rules of EventBridge need of the file that users write."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from infra.names import REPLICA

if TYPE_CHECKING:
    from pathlib import Path

_KINDS: Final = ("s3", "schedule", "event", "queue")


@dataclass(frozen=True, slots=True)
class Mapping:
    """What the events of a deployment are."""

    prefixes: tuple[str, ...] = ()
    """Objects that are put below these start something."""
    schedules: tuple[str, ...] = ()
    """`rate(1 hour)`, `cron(0 6 * * ? *)`."""
    patterns: tuple[dict[str, Any], ...] = ()
    """Events of EventBridge."""

    @classmethod
    def load(cls, path: Path) -> Mapping:
        """Read a mapping file.

        Raises:
            ValueError: it is not one; the message says what is wrong where.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        entries = found.get("on")
        if not isinstance(entries, list):
            raise ValueError(  # noqa: TRY004 - the file's fault
                f"{path} has no [[on]], which says what an event starts."
            )
        told: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
        for number, entry in enumerate(entries):
            kinds = [kind for kind in _KINDS if kind in entry]
            if len(kinds) != 1:
                raise ValueError(
                    f"{path}: on.{number} needs one of {', '.join(_KINDS)}, not {kinds or 'none'}."
                )
            told[kinds[0]].append(_checked(kinds[0], entry[kinds[0]], f"{path}: on.{number}"))
        return cls(
            prefixes=tuple(dict.fromkeys(told["s3"])),
            schedules=tuple(dict.fromkeys(told["schedule"])),
            patterns=tuple(told["event"]),
        )


def _checked(kind: str, value: Any, where: str) -> Any:
    if kind == "event":
        if not isinstance(value, dict) or not value:
            raise ValueError(f"{where}.event is a pattern of EventBridge, a table; not {value!r}.")
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}.{kind} is a text, not {value!r}.")
    if kind == "schedule" and not value.startswith(("rate(", "cron(")):
        raise ValueError(f"{where}.schedule is rate(1 hour) or cron(0 6 * * ? *), not {value!r}.")
    if kind == "s3" and f"{REPLICA}/".startswith(value) | value.startswith(f"{REPLICA}/"):
        raise ValueError(
            f"{where}.s3: below {value!r} the coordinator itself writes, ten times a second; put"
            " inputs below a prefix of your own, such as inbox/."
        )
    return value
