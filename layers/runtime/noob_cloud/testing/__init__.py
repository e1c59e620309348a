"""Fakes for tests: ours, and those of whoever builds on noob-cloud.

They are real implementations of the same interfaces, without processes, files or waiting.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeClock", "InlineExecutor"]


class FakeClock:
    """A clock that moves when told to: `clock()` is the time, in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Move the time on (or back, when negative) and return it."""
        self.now += seconds
        return self.now


class InlineExecutor(Executor):
    """Run each call at once, in the thread that submits it."""

    def __init__(self) -> None:
        self.calls = 0
        """How many calls were submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` and return a future that is done."""
        self.calls += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever reads the future
            future.set_exception(error)
        return future


def __getattr__(name: str) -> Any:
    """Load the pytest fixture when it is asked for: pytest is not always there."""
    if name == "noob_cloud_stack":
        from noob_cloud.testing.stack import noob_cloud_stack  # noqa: PLC0415 - see above

        return noob_cloud_stack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
