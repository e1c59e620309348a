"""Short work runs in the event loop, and never waits there."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from noob_cloud.coordinator.desk import Desk
from noob_cloud.coordinator.wire import Group, Options, Submit
from noob_cloud.coordinator.writer import Writer
from noob_cloud.queue.commit import WouldWaitError
from noob_cloud.queue.database import connect

if TYPE_CHECKING:
    from pathlib import Path


def _where(_at_once: bool) -> str:  # noqa: FBT001 - as the writer calls it
    return threading.current_thread().name


def test_short_work_stays_in_the_loop_unless_something_is_in_its_way() -> None:
    async def main() -> list[str]:
        writer = Writer()
        writer.start()
        here = await writer.do_brief(_where)
        gate = threading.Event()
        before = writer.do(gate.wait)
        later = asyncio.ensure_future(writer.do_brief(_where))
        await asyncio.sleep(0)
        gate.set()
        await before
        found = [here, await later, await writer.do_brief(_where)]
        await asyncio.to_thread(writer.stop)
        return found

    loop = threading.current_thread().name
    assert asyncio.run(main()) == [loop, "noob-writer-0", loop]


def test_where_commits_wait_for_the_disk_nothing_runs_in_the_loop() -> None:
    async def main() -> str:
        writer = Writer(2)
        writer.start()
        found = await writer.do_brief(_where)
        await asyncio.to_thread(writer.stop)
        return found

    assert asyncio.run(main()).startswith("noob-writer-")


def test_a_file_that_another_process_writes_is_not_waited_for(tmp_path: Path) -> None:
    desk = Desk(True, str(tmp_path / "queue.db"))
    desk.prepare()
    other = connect(tmp_path / "queue.db")
    other.execute("BEGIN IMMEDIATE")
    body = Submit([Group(Options(), "noop", [1, 2])], "once")
    with pytest.raises(WouldWaitError):
        desk.submit_groups(body, at_once=True)
    other.execute("ROLLBACK")
    assert desk.submit_groups(body, at_once=True) == [1, 2]
    other.close()
    desk.close()
