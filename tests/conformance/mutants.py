"""Runners that are broken on purpose, each in one way: the suite must notice every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob.exceptions import SchedulerExhaustedError
from noob_cloud_testtubes import FAILURES, case

from . import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .observe import Factory


def mutants(base: type[Any]) -> dict[str, tuple[Factory, Callable[[Factory], None]]]:  # noqa: C901 -- one class for each way to be wrong
    """Name -> (a broken runner, the check that must fail on it)."""

    class NeverDeinits(base):
        """It only says that it has ended."""

        ended = False

        def init(self) -> None:
            super().init()
            self.ended = False

        def deinit(self) -> None:
            self.ended = True

        @property
        def running(self) -> bool:
            return bool(super().running and not self.ended)

    class BeginsTwice(base):
        def init(self) -> None:
            super().init()
            self.tube.nodes["s"].init()

    class EndsWithRun(base):
        def run(self, n: int | None = None) -> Any:
            try:
                return super().run(n)
            finally:
                self.deinit()

    class Reorders(base):
        def run(self, n: int | None = None) -> Any:
            results = super().run(n)
            return results and results[::-1]

    class ReordersIter(base):
        def iter(self, n: int | None = None) -> Iterator[Any]:
            yield from reversed(list(super().iter(n)))

    class SwallowsErrors(base):
        def process(self, **kwargs: Any) -> Any:
            try:
                return super().process(**kwargs)
            except Exception:  # noqa: BLE001 -- the mistake
                return None

    class ChangesErrors(base):
        def process(self, **kwargs: Any) -> Any:
            try:
                return super().process(**kwargs)
            except ValueError as error:
                raise RuntimeError(str(error)) from error

    class ForgetsState(base):
        def process(self, **kwargs: Any) -> Any:
            value = super().process(**kwargs)
            for node in self.tube.nodes.values():
                if type(node).__name__ == "WrapClassNode":
                    node.init()
            return value

    class LosesTuples(base):
        def process(self, **kwargs: Any) -> Any:
            value = super().process(**kwargs)
            return list(value) if isinstance(value, tuple) else value

    class KeepsNone(base):
        def run(self, n: int | None = None) -> Any:
            return [self.process() for _ in range(n or 0)]

    class RepeatsEvents(base):
        def add_callback(self, callback: Any) -> None:
            super().add_callback(callback)
            super().add_callback(callback)

    class EndsEarly(base):
        def add_callback(self, callback: Any) -> None:
            super().add_callback(lambda event: event["node_id"] == "meta" or callback(event))

    class HidesExhaustion(base):
        def process(self, **kwargs: Any) -> Any:
            try:
                return super().process(**kwargs)
            except SchedulerExhaustedError:
                return None

    class SkipsAnEpoch(base):
        def run(self, n: int | None = None) -> Any:
            return super().run(n - 1 if n else n)

    class RunsTwice(base):
        def process(self, **kwargs: Any) -> Any:
            super().process(**kwargs)
            return super().process(**kwargs)

    class IgnoresDisable(base):
        def disable_node(self, node_id: str) -> None:
            self._logger.debug("not disabling %s", node_id)

    failing = next(failure for failure in FAILURES if failure.id == "own_error")
    return {
        "never deinits": (NeverDeinits, checks.check_life_cycle),
        "begins twice": (BeginsTwice, checks.check_life_cycle),
        "ends with run": (EndsWithRun, checks.check_life_cycle),
        "reorders run": (Reorders, lambda make: checks.check_run(make, case("sandwich"))),
        "reorders iter": (ReordersIter, lambda make: checks.check_iter(make, case("sandwich"))),
        "swallows errors": (SwallowsErrors, lambda make: checks.check_failure(make, failing)),
        "changes errors": (ChangesErrors, lambda make: checks.check_failure(make, failing)),
        "forgets state": (ForgetsState, lambda make: checks.check_process(make, case("sandwich"))),
        "loses tuples": (LosesTuples, lambda make: checks.check_process(make, case("return_list"))),
        "keeps None": (KeepsNone, lambda make: checks.check_run(make, case("noevent"))),
        "repeats events": (RepeatsEvents, lambda m: checks.check_callbacks(m, case("diamond"))),
        "ends no epoch": (EndsEarly, lambda m: checks.check_callbacks(m, case("diamond"))),
        "hides exhaustion": (HidesExhaustion, lambda m: checks.check_process(m, case("exhausted"))),
        "skips an epoch": (SkipsAnEpoch, lambda make: checks.check_run(make, case("diamond"))),
        "runs twice": (RunsTwice, lambda make: checks.check_process(make, case("diamond"))),
        "ignores disable": (IgnoresDisable, checks.check_enable_disable),
    }
