"""EventBridge's schedules: `rate(5 minutes)`, `cron(0 12 * * ? *)`, `at(2030-01-01T00:00:00)`."""

from __future__ import annotations

import logging
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from localdev import eventbridge, state

__all__ = ["Scheduler", "fire", "next_time"]

_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN",
                  "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")  # fmt: skip
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_log: Final = logging.getLogger("localdev")


def next_time(expression: str, after: datetime) -> datetime | None:
    """Return when a schedule is due next; None if never.

    Raises:
        ValueError: it is no expression of EventBridge.
    """
    found = re.fullmatch(r"(rate|cron|at)\((.*)\)", expression.strip())
    if found is None:
        raise ValueError(f"{expression!r} is no schedule: rate(...), cron(...) or at(...)")
    kind, inner = found[1], found[2].strip()
    if kind == "rate":
        number, unit = inner.split()
        return after + timedelta(seconds=int(number) * _UNITS[unit.rstrip("s")])
    if kind == "at":
        due = datetime.fromisoformat(inner).replace(tzinfo=UTC)
        return due if due > after else None
    return _next_cron(inner.split(), after)


def _next_cron(fields: list[str], after: datetime) -> datetime | None:
    minute, hour, day, month, weekday, year = fields
    minutes, hours = _values(minute, 0, 59), _values(hour, 0, 23)
    months = _values(month, 1, 12, _MONTHS)
    years = _values(year, 1970, 2199)
    weekdays = {(each - 1) % 7 for each in _values(weekday, 1, 7, _DAYS)}  # 1 is Sunday
    at = (after + timedelta(minutes=1)).replace(second=0, microsecond=0)
    for _ in range(366 * 5):
        days = _values(day.replace("L", str(_last(at))), 1, 31)
        if (
            at.year in years
            and at.month in months
            and at.day in days
            and at.isoweekday() % 7 in weekdays
        ):
            for h in sorted(hours):
                for m in sorted(minutes):
                    due = at.replace(hour=h, minute=m)
                    if due >= at:
                        return due
        at = (at + timedelta(days=1)).replace(hour=0, minute=0)
    return None


def _last(day: datetime) -> int:
    following = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return (following - timedelta(days=1)).day


def _values(field: str, low: int, high: int, names: tuple[str, ...] = ()) -> set[int]:
    found: set[int] = set()
    for part in field.upper().split(","):
        span, _, step = part.partition("/")
        for number, name in enumerate(names, 1):
            span = span.replace(name, str(number))
        if span in ("*", "?"):
            first, last = low, high
        else:
            start, _, end = span.partition("-")
            first = int(start)
            last = int(end) if end else (high if step else first)
        found.update(range(first, last + 1, int(step or 1)))
    return found


def fire(schedule: dict[str, Any], *, account: str, region: str) -> None:
    """Send a schedule's event to its targets."""
    event = {
        "version": "0",
        "id": str(uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [schedule["arn"]],
        "detail": {},
    }
    for target in schedule["targets"]:
        eventbridge.deliver(target, event, account=account)


class Scheduler(threading.Thread):
    """Fires what is due, while the emulated cloud runs."""

    def __init__(self, account: str, region: str) -> None:
        super().__init__(name="schedules", daemon=True)
        self._account, self._region = account, region
        self._due: dict[tuple[str, str], datetime | None] = {}

    def run(self) -> None:
        """Look every second, for ever."""
        while True:
            time.sleep(1.0)
            self.look(datetime.now(UTC))

    def look(self, now: datetime) -> None:
        """Fire what is due at this time."""
        seen = set()
        for schedule in state.schedules(self._account, self._region):
            key = (schedule["arn"], schedule["expression"])
            seen.add(key)
            try:
                if key not in self._due:
                    self._due[key] = next_time(key[1], now)
                due = self._due[key]
                if due is not None and due <= now:
                    self._due[key] = next_time(key[1], now)
                    fire(schedule, account=self._account, region=self._region)
            except (ValueError, KeyError) as error:
                self._due[key] = None
                _log.warning("the schedule %s is never due: %s", schedule["name"], error)
        for key in set(self._due) - seen:
            del self._due[key]
