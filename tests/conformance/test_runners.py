"""One suite for every runner: the same tube gives the same answer as upstream's runner."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from noob_cloud_testtubes import CASES, EXHAUSTING, FAILURES, HANGING, Case, Failure

from noob_cloud.runner import SynchronousRunner

from . import checks
from .generate import cases
from .mutants import mutants
from .observe import Factory, Oracle

if TYPE_CHECKING:
    from pathlib import Path

    from .runners import Kind

pytestmark = pytest.mark.filterwarnings("ignore::noob.exceptions.ExtraInputWarning")

every_case = pytest.mark.parametrize("case", [*CASES, *EXHAUSTING], ids=lambda case: case.id)
thorough = pytest.mark.thorough
every_failure = pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.id)


@pytest.mark.single
@every_case
def test_process_gives_what_upstream_gives(make: Factory, case: Case) -> None:
    checks.check_process(make, case)


@every_case
def test_run_gives_what_upstream_gives(make: Factory, case: Case) -> None:
    checks.check_run(make, case)


@thorough
@every_case
def test_iter_gives_what_upstream_gives(make: Factory, case: Case) -> None:
    checks.check_iter(make, case)


@thorough
@every_case
def test_callbacks_get_every_event_in_order(make: Factory, kind: Kind, case: Case) -> None:
    checks.check_callbacks(make, case, exact=not kind.remote)


@thorough
@every_case
def test_store_holds_the_events_of_the_last_call(make: Factory, kind: Kind, case: Case) -> None:
    checks.check_store(make, case, exact=not kind.remote)


@thorough
@every_case
def test_tube_is_compiled(make: Factory, case: Case) -> None:
    checks.check_compiled(make, case)


@every_failure
def test_error_is_raised_at_home_and_the_next_call_works(
    make: Factory, kind: Kind, failure: Failure
) -> None:
    checks.check_failure(make, failure, remote=kind.remote)


@every_failure
def test_run_raises_the_first_error(make: Factory, failure: Failure) -> None:
    checks.check_failure_in_run(make, failure)


@every_failure
def test_iter_yields_what_came_before_the_error(make: Factory, failure: Failure) -> None:
    checks.check_failure_in_iter(make, failure)


@pytest.mark.parametrize("failure", HANGING, ids=lambda failure: failure.id)
def test_epoch_ends_where_upstream_waits_for_ever(make: Factory, failure: Failure) -> None:
    checks.check_hanging(make, failure)


WHOLE = (
    checks.check_life_cycle,
    checks.check_iter_closed_early,
    checks.check_iter_gives_up,
    checks.check_enable_disable,
    checks.check_stop_iteration,
    checks.check_failing_init,
    checks.check_failing_callback,
    checks.check_missing_input,
    checks.check_two_runners,
)


@pytest.mark.parametrize("check", WHOLE, ids=lambda check: check.__name__.removeprefix("check_"))
def test_runner_behaves_as_a_tube_runner(make: Factory, check: Any) -> None:
    check(make)


def test_result_is_right_though_a_worker_is_killed(
    make: Factory, kind: Kind, tmp_path: Path
) -> None:
    if not kind.survives:
        pytest.skip(f"{kind.name} has no worker that may die")
    checks.check_worker_killed(make, tmp_path)


def test_generated_tubes_give_what_upstream_gives(make: Factory, kind: Kind) -> None:
    """Tubes that nobody thought of, as many as the runner is worth."""
    check = checks.check_generated_results if kind.remote else checks.check_generated

    @settings(
        max_examples=kind.examples,
        deadline=None,
        derandomize=True,
        database=None,
        # Shrinking takes minutes, with a runner for every step: NOOB_CLOUD_SHRINK=1 asks for it.
        phases=list(Phase) if os.environ.get("NOOB_CLOUD_SHRINK") else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def run(case: Case) -> None:
        note(f"{case.n} epochs of {case.spec['nodes']}")
        check(make, case)

    run()


LEFT_TO_UPSTREAM = {"map_empty", "map_noevent", "map_optional", "map_optional_late"}
"""Tubes of whose epochs a rest is ordered by upstream's scheduler core: where no event comes
inside of a map, upstream's order depends on what was emitted."""


def test_tubes_take_the_compiled_path() -> None:
    """Every tube runs compiled; whatever was left to upstream's core is named here."""
    left = {}
    for case in CASES:
        runner = SynchronousRunner(case.tube())
        for feed in case.feeds or ({},) * case.n:
            checks.attempt(lambda runner=runner, feed=feed: runner.process(**feed))
        rows = runner.explain()
        runner.deinit()
        assert [row.node for row in rows if row.how != "compiled"] == [], case.id
        if runner.engine.left_to_core:
            left[case.id] = runner.engine.left_to_core
    assert set(left) <= LEFT_TO_UPSTREAM, left


# ---- the suite itself


@pytest.mark.parametrize("name", sorted(mutants(Oracle)))
def test_suite_notices_a_broken_runner(name: str) -> None:
    """Each broken runner fails its check, on which the sound one passes."""
    broken, check = mutants(SynchronousRunner)[name]
    check(SynchronousRunner)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(broken)


@pytest.mark.parametrize("case", [*CASES, *EXHAUSTING], ids=lambda case: case.id)
def test_oracle_passes_its_own_suite(case: Case) -> None:
    """The tubes are deterministic, and the checks hold for upstream itself."""
    if case.id == "asset_node_ledger":
        pytest.xfail("upstream begins the assets of a node twice")
    checks.check_process(Oracle, case)
    checks.check_run(Oracle, case)
    checks.check_iter(Oracle, case)
    checks.check_callbacks(Oracle, case)
    checks.check_store(Oracle, case)


@pytest.mark.parametrize("check", WHOLE, ids=lambda check: check.__name__.removeprefix("check_"))
def test_oracle_behaves_as_a_tube_runner(check: Any) -> None:
    if check is checks.check_failing_callback:
        pytest.xfail("upstream waits for ever after an error")
    check(Oracle)


def test_oracle_fails_where_upstream_is_defective() -> None:
    """Upstream leaves assets entered after an error: the suite sees it."""
    failure = next(failure for failure in FAILURES if failure.id == "asset_error")
    with pytest.raises(AssertionError):
        checks.check_failure(Oracle, failure)
