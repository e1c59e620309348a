"""No answer passes before its commit is copied, and one copy serves all who wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from noob_cloud.coordinator.durability import Barrier, Guard
from noob_cloud.exceptions import UnavailableError


class File:
    """A file with commits, whose copies take as long as the test wants."""

    def __init__(self) -> None:
        self.commits = 0
        self.copied = 0
        self.copies = 0
        self.valid = True
        self.fails = False
        self.go = asyncio.Event()
        self.go.set()
        self.barrier = Barrier(lambda: self.commits, self._sync, lambda: self.valid)

    async def _sync(self) -> None:
        self.copies += 1
        found = self.commits
        await self.go.wait()
        if self.fails:
            raise UnavailableError("S3 is away")
        self.copied = max(self.copied, found)


def run(test: Any) -> None:
    """Run an async test with a file."""

    async def main() -> None:
        await test(File())

    asyncio.run(main())


def test_nothing_new_costs_nothing():
    async def test(file: File) -> None:
        file.commits = 1
        for _ in range(100):
            await file.barrier.cross()
        assert file.copies == 1

    run(test)


def test_many_share_a_copy_and_nobody_joins_one_that_began_before_his_commit():
    async def test(file: File) -> None:
        file.go.clear()
        file.commits = 1
        first = asyncio.create_task(file.barrier.cross())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert file.copies == 1
        file.commits = 2
        later = [asyncio.create_task(file.barrier.cross()) for _ in range(50)]
        await asyncio.sleep(0)
        file.go.set()
        await first
        await asyncio.gather(*later)
        assert file.copied == 2
        assert file.copies == 2

    run(test)


def test_a_copy_that_fails_fails_those_who_waited_for_it_only():
    async def test(file: File) -> None:
        file.commits, file.fails = 1, True
        with pytest.raises(UnavailableError, match="S3 is away"):
            await file.barrier.cross()
        file.fails = False
        await file.barrier.cross()
        assert file.copied == 1

    run(test)


def test_without_the_lease_nothing_passes():
    async def test(file: File) -> None:
        file.commits = 1
        await file.barrier.cross()
        file.valid = False
        with pytest.raises(UnavailableError, match="cannot prove its lease"):
            await file.barrier.cross()

    run(test)


def test_one_who_leaves_does_not_stop_the_copy_of_the_others():
    async def test(file: File) -> None:
        file.go.clear()
        file.commits = 1
        one, two = (asyncio.create_task(file.barrier.cross()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.sleep(0)
        file.go.set()
        await two
        assert file.copied == 1

    run(test)


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """An application that answers in two pieces."""
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})


async def ask(guard: Guard, path: str = "/tasks") -> list[dict[str, Any]]:
    """What a client of the application receives."""
    received: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        received.append(message)

    await guard({"type": "http", "path": path}, None, send)
    return received


def test_an_answer_says_what_it_waited_for():
    async def test(file: File) -> None:
        file.commits = 1
        got = await ask(Guard(answer, file.barrier))
        assert got[0]["headers"] == [(b"noob-ack", b"replicated")]
        assert b"".join(part["body"] for part in got[1:]) == b"onetwo"
        assert file.copied == 1
        got = await ask(Guard(answer, file.barrier, replicated=False))
        assert got[0]["headers"] == [(b"noob-ack", b"local")]

    run(test)


def test_a_local_answer_does_not_wait_but_wants_the_lease():
    async def test(file: File) -> None:
        file.commits = 1
        guard = Guard(answer, file.barrier, replicated=False)
        await ask(guard)
        assert file.copies == 0
        file.valid = False
        assert (await ask(guard))[0]["status"] == 503

    run(test)


def test_an_answer_that_may_not_leave_becomes_a_503():
    async def test(file: File) -> None:
        file.commits, file.fails = 1, True
        got = await ask(Guard(answer, file.barrier))
        assert got[0]["status"] == 503
        assert (b"retry-after", b"1") in got[0]["headers"]
        assert b"S3 is away" in got[1]["body"]
        assert len(got) == 2

    run(test)


def test_half_an_answer_is_cut_off_when_the_rest_may_not_leave():
    async def test(file: File) -> None:
        async def slow(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            file.commits += 1
            file.fails = True
            await send({"type": "http.response.body", "body": b"secret"})

        with pytest.raises(UnavailableError):
            await ask(Guard(slow, file.barrier))

    run(test)


def test_health_waits_for_nothing():
    async def test(file: File) -> None:
        file.commits, file.valid = 1, False
        got = await ask(Guard(answer, file.barrier), "/health")
        assert got[0] == {"type": "http.response.start", "status": 201, "headers": []}

    run(test)


def test_lag_is_what_a_copy_took_or_how_long_a_commit_waits(monkeypatch):
    """It grows while a commit waits, whoever has gone away, and ends with the copy."""
    clock = [100.0]
    monkeypatch.setattr("noob_cloud.coordinator.durability.barrier.monotonic", lambda: clock[0])

    async def test(file: File) -> None:
        barrier = file.barrier
        assert barrier.lag() == 0.0
        file.go.clear()
        file.commits = 1
        waiting = asyncio.create_task(barrier.cross())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock[0] += 3.0
        assert barrier.lag() == 3.0
        file.go.set()
        await waiting
        assert (barrier.lag(), barrier.worst_lag()) == (3.0, 3.0)

        file.commits, file.fails = 2, True
        with pytest.raises(UnavailableError):
            await barrier.cross()
        clock[0] += 60.0
        assert barrier.worst_lag() == 60.0
        file.fails = False
        await barrier.cross()
        assert (barrier.lag(), barrier.worst_lag()) == (0.0, 60.0)
        assert barrier.worst_lag() == 0.0

    run(test)


def test_refused_answers_are_counted():
    async def test(file: File) -> None:
        file.commits, file.fails = 1, True
        refused: list[int] = []
        await ask(Guard(answer, file.barrier, on_refused=lambda: refused.append(1)))
        assert refused == [1]

    run(test)
