"""A coordinator's replica on the command line: what is refused, and what the screen says."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import noob_cloud.coordinator
import noob_cloud.coordinator.durability
from noob_cloud.cli.app import run_app
from noob_cloud.cli.replica import tell
from noob_cloud.exceptions import LeaseTakenError, ReplicaError

if TYPE_CHECKING:
    from pathlib import Path

    from noob_cloud.coordinator.durability import Place

PLACE = "s3://bucket/prefix"
_log = logging.getLogger("noob_cloud.coordinator.durability.keeper")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPLICA", "ACK", "TOKEN", "COORDINATOR"):
        monkeypatch.delenv(f"NOOB_CLOUD_{name}", raising=False)


@pytest.fixture
def url(place: Place) -> str:
    """An empty place, as it stands on a command line."""
    return f"s3://{place.bucket}/{place.prefix}?endpoint_url={place.endpoint_url}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str | None]]:
    """What would be restored, as (epoch, time); a file is written in its place."""
    found: list[tuple[int, str | None]] = []

    def restore(_place: Any, epoch: int, target: Path, *, timestamp: str | None = None) -> None:
        found.append((epoch, timestamp))
        target.write_bytes(b"x" * 7)

    monkeypatch.setattr(noob_cloud.coordinator.durability, "restore", restore)
    return found


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What the screen shows a person, on one line."""
    return " ".join(capsys.readouterr().err.split())


# ---- restore: what is refused


def test_an_existing_file_is_never_overwritten(here: Path, capsys):
    """Not asked about, not renamed: it stays as it is, and nobody asks S3."""
    (here / "q.db").write_text("mine")

    assert run_app(["restore", "--replica", PLACE, "-o", "q.db"]) == 2
    assert "q.db exists" in said(capsys)
    assert (here / "q.db").read_text() == "mine"


@pytest.mark.parametrize("wrong", ["http://bucket/prefix", "bucket", "s3://", ""])
def test_a_place_is_an_s3_url(here: Path, capsys, wrong: str):
    """What it is not is shown, with what it should look like."""
    assert run_app(["restore", "--replica", wrong, "-o", "q.db"]) == 2
    assert f"'{wrong}' is no place of a replica, like s3://bucket/prefix" in said(capsys)


@pytest.mark.parametrize("wrong", ["yesterday", "2026-13-01T00:00:00Z", "14:05"])
def test_a_time_is_rfc_3339(here: Path, capsys, wrong: str):
    """What it is not is shown, with an example."""
    assert run_app(["restore", "--replica", PLACE, "-o", "q.db", "--at", wrong]) == 2
    assert f"--at '{wrong}' is not a time like 2026-11-23T14:05:00Z" in said(capsys)


def test_a_time_needs_its_zone(here: Path, capsys):
    """Nobody guesses whose noon it is."""
    assert run_app(["restore", "--replica", PLACE, "-o", "q.db", "--at", "2026-11-23T12:00"]) == 2
    assert "has no time zone; end it with Z" in said(capsys)


def test_both_a_replica_and_a_file_are_needed(here: Path, capsys):
    """Neither has a default: a wrong one of either is worse than none."""
    assert run_app(["restore", "-o", "q.db"]) == 2
    assert "--replica" in said(capsys)
    assert run_app(["restore", "--replica", PLACE]) == 2
    assert "--output" in said(capsys)


def test_an_empty_prefix_has_nothing_to_restore(here: Path, url: str, capsys):
    """A prefix that is spelt wrongly looks like this."""
    assert run_app(["restore", "--replica", url, "-o", "q.db"]) == 2
    assert "holds no replica; is the prefix right?" in said(capsys)
    assert not (here / "q.db").exists()


def test_a_bucket_that_is_not_there_is_said_so(here: Path, url: str, capsys):
    """S3 answers, and refuses: nothing was reached."""
    wrong = url.replace("s3://", "s3://not-")

    assert run_app(["restore", "--replica", wrong, "-o", "q.db"]) == 3
    assert "NoSuchBucket" in said(capsys)


def test_an_epoch_that_is_not_there_is_answered_with_those_that_are(
    here: Path, place: Place, url: str, capsys
):
    """Only epochs that were copied whole count."""
    place.mark(3)
    place.mark(5)

    assert run_app(["restore", "--replica", url, "-o", "q.db", "--epoch", "4"]) == 2
    assert "has no epoch 4; it has 3, 5" in said(capsys)


def test_a_time_before_the_first_epoch_is_answered_with_its_time(
    here: Path, place: Place, url: str, capsys
):
    """How far back it goes is what somebody wants to know then."""
    place.mark(3)
    began = datetime.fromtimestamp(place.marked()[3], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    words = ["restore", "--replica", url, "-o", "q.db", "--at", "2020-01-01T00:00:00Z"]
    assert run_app(words) == 2
    assert f"goes back to {began}, not further" in said(capsys)


def test_what_litestream_cannot_restore_is_a_usage_error(here: Path, place: Place, url: str):
    """An epoch that is marked and has no data ends with a sentence and leaves nothing."""
    place.mark(1)

    assert run_app(["restore", "--replica", url, "-o", "q.db"]) == 2
    assert not list(here.iterdir())


def test_a_restore_that_fails_touches_nothing_else(here: Path, place: Place, url: str):
    """Files whose names begin like the target's are somebody's, not its leftovers."""
    place.mark(1)
    (here / "q.db-before-the-upgrade").write_text("mine")
    (here / "q.db.blobs").mkdir()

    assert run_app(["restore", "--replica", url, "-o", "q.db"]) == 2
    assert sorted(found.name for found in here.iterdir()) == [
        "q.db-before-the-upgrade",
        "q.db.blobs",
    ]


# ---- restore: which epoch


def test_the_newest_epoch_is_the_default(here: Path, place: Place, url: str, asked, capsys):
    """The screen says which one it was, and how to look into it."""
    place.mark(9)
    place.mark(10)

    assert run_app(["restore", "--replica", url, "--output", "q.db"]) == 0
    assert asked == [(10, None)]
    told = said(capsys)
    assert f"Restored epoch 10 of s3://{place.bucket}/{place.prefix} to q.db" in told
    assert "noob-cloud status --queue q.db" in told


def test_an_epoch_can_be_chosen(here: Path, place: Place, url: str, asked):
    """An older one, while it is kept."""
    place.mark(9)
    place.mark(10)

    assert run_app(["restore", "--replica", url, "-o", "q.db", "--epoch", "9"]) == 0
    assert asked == [(9, None)]


def test_a_time_chooses_the_epoch_that_had_begun(
    here: Path, place: Place, url: str, asked, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Litestream gets it in UTC; with a zone of its own it is the same moment."""
    began = {9: 1_000_000.0, 10: 2_000_000.0}
    monkeypatch.setattr(type(place), "marked", lambda _: began)
    for seconds, epoch in ((1_500_000.0, 9), (2_000_000.0, 10), (2_000_001.0, 10)):
        stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        assert run_app(["restore", "--replica", url, "-o", "q.db", "--at", f"{stamp}Z"]) == 0
        assert asked.pop() == (epoch, f"{stamp}Z")
        assert f"at {stamp}Z to q.db" in said(capsys)
        (here / "q.db").unlink()
    words = ["restore", "--replica", url, "-o", "q.db", "--at", "1970-01-24T05:33:20+01:00"]
    assert run_app(words) == 0
    assert asked == [(10, "1970-01-24T04:33:20Z")]


def test_a_program_is_told_what_was_restored(here: Path, place: Place, url: str, asked, capsys):
    """One JSON document, and nothing else."""
    place.mark(2)

    assert run_app(["restore", "--replica", url, "-o", "q.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "replica": f"s3://{place.bucket}/{place.prefix}",
        "epoch": 2,
        "at": None,
        "output": "q.db",
        "bytes": 7,
    }


def test_the_place_comes_from_the_environment_too(
    here: Path, place: Place, url: str, asked, monkeypatch: pytest.MonkeyPatch
):
    """Under the name that the coordinator reads."""
    place.mark(1)
    monkeypatch.setenv("NOOB_CLOUD_REPLICA", url)

    assert run_app(["restore", "-o", "q.db"]) == 0


# ---- coordinator --replica


@pytest.fixture
def served(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Settings of the coordinators that would have been served, a second of logging each."""
    seen: list[Any] = []

    def serve(settings: Any, *, on_start: Any) -> None:
        seen.append(settings)
        _log.warning("another coordinator holds the lease of %s; waiting", PLACE)
        _log.info("lease of [%s] taken: epoch 3", PLACE)
        on_start("http://127.0.0.1:1234")

    monkeypatch.setattr(noob_cloud.coordinator, "serve", serve, raising=False)
    return seen


@pytest.mark.parametrize("ack", ["local", "replicated"])
def test_ack_is_for_a_coordinator_with_a_replica(served, capsys, ack: str):
    """Without one there is nothing to wait for, and the option would promise something."""
    assert run_app(["coordinator", "--ack", ack]) == 2
    assert "--ack is for a coordinator with --replica URL" in said(capsys)
    assert served == []


def test_ack_is_one_of_two(served, capsys):
    """Anything else is refused by name."""
    assert run_app(["coordinator", "--replica", PLACE, "--ack", "later"]) == 2
    told = said(capsys)
    assert "later" in told
    assert "replicated" in told


def test_a_replica_that_is_no_place_is_named(served, capsys):
    """One line, of the setting alone: not a page of Pydantic's."""
    assert run_app(["coordinator", "--replica", "s3:/bucket"]) == 2
    told = said(capsys)
    assert "'s3:/bucket' is no place like s3://bucket/prefix" in told
    assert "pydantic" not in told


def test_a_coordinator_says_what_it_waits_for_and_serves(served, capsys):
    """The steps of its beginning are sentences; its queue is the replica's, not the file's."""
    assert run_app(["coordinator", "--replica", PLACE]) == 0
    assert (served[0].replica, served[0].ack) == (PLACE, "replicated")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        f"Replica {PLACE}: an answer leaves when its commit is in S3.",
        f"Another coordinator holds the lease of {PLACE}; waiting.",
        f"Lease of [{PLACE}] taken: epoch 3.",
        f"noob-cloud coordinator at http://127.0.0.1:1234, with the queue of {PLACE}",
    ]


def test_a_coordinator_says_that_it_answers_earlier(served, capsys):
    """`--ack local` is a weaker promise, so the screen says so."""
    assert run_app(["coordinator", "--replica", PLACE, "--ack", "local"]) == 0
    assert served[0].ack == "local"
    assert "in the local file, which S3 follows." in said(capsys)


def test_a_queue_file_that_is_not_read_is_named(here: Path, served, capsys):
    """Somebody who adds a replica to a coordinator would miss what is in its file."""
    assert run_app(["coordinator", "--replica", PLACE]) == 0
    assert "is not read" not in said(capsys)
    (here / "noob-cloud.db").touch()
    assert run_app(["coordinator", "--replica", PLACE]) == 0
    assert "noob-cloud.db is not read: the queue is what the replica holds." in said(capsys)
    assert run_app(["coordinator"]) == 0
    assert "is not read" not in said(capsys)


def test_the_log_is_as_before_when_a_coordinator_has_ended(here: Path):
    """Who uses the logger beside the command line sees none of this."""
    logger = logging.getLogger("noob_cloud.coordinator.durability")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with tell(PLACE, "replicated", here / "q.db"):
        assert logger.level == logging.INFO
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    with tell(None, "replicated", here / "q.db"):
        assert (logger.level, logger.propagate, list(logger.handlers)) == before


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LeaseTakenError(f"Another coordinator took over the replica {PLACE}."), 3),
        (ReplicaError("Litestream does not start."), 2),
    ],
)
def test_an_end_that_it_did_not_choose_has_a_code(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys, error: Exception, code: int
):
    """3 when another one took over: whoever starts it again may wait first."""

    def serve(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(noob_cloud.coordinator, "serve", serve, raising=False)

    assert run_app(["coordinator", "--replica", PLACE]) == code
    assert str(error) in said(capsys)


def test_a_file_of_tokens_that_is_missing_is_named(here: Path, capsys):
    """Not as if it could not listen."""
    assert run_app(["coordinator", "--token-file", "none.toml"]) == 2
    assert "none.toml cannot be read: No such file or directory" in said(capsys)


def test_a_time_to_come_chooses_the_newest_epoch(here: Path, place: Place, url: str, asked):
    """Nothing newer than it is known yet."""
    place.mark(1)
    later = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat(timespec="seconds")

    assert run_app(["restore", "--replica", url, "-o", "q.db", "--at", later]) == 0
    assert asked[0][0] == 1
