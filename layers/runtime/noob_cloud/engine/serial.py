"""The simplest driver: one epoch at a time, every call made here. What others are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from noob_cloud.engine.program import StageProgram
from noob_cloud.plan.nouns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from noob_cloud.engine.engine import Engine
    from noob_cloud.plan.nouns import Call, Finished


def drive_serially(
    engine: Engine,
    given: Mapping[str, Any] | None = None,
    *,
    remote: bool = True,
    run: Callable[[Call], tuple[Any, ...]] | None = None,
) -> Finished:
    """Drive one epoch to its end.

    Args:
        engine: the engine.
        given: process-scoped inputs.
        remote: whether stages that may run elsewhere are handed out.
        run: what runs a call; a `StageProgram` over the engine's own tube if absent.

    Returns:
        The epoch's end.
    """
    run = run or engine_programs(engine)
    drive = engine.drive(given, remote)
    answer: list[tuple[Any, ...]] | None = None
    while True:
        try:
            asked = drive.send(answer)
        except StopIteration as stop:
            return cast("Finished", stop.value)
        answer = None
        if not isinstance(asked, Turn):
            try:
                answer = [run(call) for call in asked]
            except Exception as error:  # noqa: BLE001 - the epoch must end by it
                try:
                    drive.throw(error)
                except StopIteration as stop:
                    return cast("Finished", stop.value)


def engine_programs(engine: Engine) -> Callable[[Call], tuple[Any, ...]]:
    """Return what runs a call on the engine's own nodes, as a worker would."""
    programs: dict[tuple[str, ...], StageProgram] = {}

    def run(call: Call) -> tuple[Any, ...]:
        nodes = call.stage.nodes
        if nodes not in programs:
            program = StageProgram(engine.tube, nodes, plan=engine.plan)
            program._calls = [  # noqa: SLF001 - its nodes are initialised by the engine
                engine._calls[node]  # noqa: SLF001 - see above
                for node in nodes
            ]
            programs[nodes] = program
        return programs[nodes](call.epoch, call.values)

    return run
