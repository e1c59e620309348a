"""Events that SQS brings, as runs: each starts what the mapping says, once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote_plus

from noob_cloud import tracing
from noob_cloud.exceptions import (
    AuthenticationError,
    ConflictError,
    MappingError,
    TubeNotFoundError,
    UnavailableError,
)
from noob_cloud.serverless.find import find
from noob_cloud.serverless.mapping import FILE, Mapping
from noob_cloud.task import TaskPriority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as Fields
    from pathlib import Path

    from noob_cloud.coordinator import CoordinatorClient
    from noob_cloud.deployment import Deployment
    from noob_cloud.serverless.mapping import Entry

__all__ = ["Happened", "SubmitFunction", "events_of"]

_log = logging.getLogger(__name__)

_KEPT_SECONDS: Final = 300.0
_PATIENCE: Final = 10.0
_CREATED: Final = "ObjectCreated:"


class Happened(NamedTuple):
    """One event."""

    kind: str
    """s3, schedule, event or queue."""
    id: str
    """The same event has the same id, however often it is delivered."""
    fields: dict[str, Any]
    """What a mapping's inputs may name."""


class SubmitFunction:
    """Submits a run for each event, and says which messages are to come again.

    Args:
        folder: where the mapping lies, and its tubes.
        environ: the function's environment.
        patience: how long the coordinator may be away, in seconds, before SQS keeps the messages
            for later.
    """

    def __init__(
        self,
        folder: Path,
        environ: Fields[str, str] = os.environ,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._folder = folder
        self._environ = environ
        self._patience = patience
        self._mapping: Mapping | None = None
        self._found: tuple[float, Deployment] | None = None
        self._cids: dict[str, str] = {}

    def handle(self, event: Any) -> dict[str, Any]:
        """Submit what a batch of SQS says; return the messages that failed.

        Raises:
            ValueError: the event is no batch of SQS.
            MappingError: the mapping is missing or wrong.
        """
        if not isinstance(event, dict) or not isinstance(event.get("Records"), list):
            raise ValueError(f"This function takes batches of SQS, not {event!r:.200}")  # noqa: TRY004 - the caller's event
        if self._mapping is None:
            self._mapping = Mapping.load(self._folder / FILE)
        failed: list[dict[str, str]] = []
        away: Exception | None = None
        with self._client() as client:
            for record in event["Records"]:
                try:
                    if away is not None:
                        raise away  # noqa: TRY301 - it is not asked again for each message
                    self._submit(record, client)
                except Exception as error:  # noqa: BLE001 - no message may hold the others up
                    if isinstance(error, UnavailableError):
                        away = error
                    if isinstance(error, AuthenticationError):
                        self._found = None  # the token may have been changed
                    _log.error("message %s failed: %r", record.get("messageId"), error)
                    failed.append({"itemIdentifier": record["messageId"]})
        tracing.flush()  # the environment is frozen now
        return {"batchItemFailures": failed}

    def _client(self) -> CoordinatorClient:
        now = monotonic()
        if self._found is None or now - self._found[0] > _KEPT_SECONDS:
            self._found = (now, find(environ=self._environ))
        return self._found[1].client(patience=self._patience)

    def _submit(self, record: Fields[str, Any], client: CoordinatorClient) -> None:
        for happened in events_of(record):
            self._start(happened, client)

    def _start(self, happened: Happened, client: CoordinatorClient) -> None:
        assert self._mapping is not None  # noqa: S101 - loaded by now
        started = 0
        for number, entry in enumerate(self._mapping.on):
            if not entry.takes(happened.kind, happened.fields):
                continue
            started += 1
            run_id = _run_id(happened, number)
            try:
                self._send(entry, happened.fields, run_id, client)
            except ConflictError:
                _log.warning("the run %s is there, by an earlier mapping", run_id)
        if not started:
            raise MappingError(
                f"No [[on]] takes this {happened.kind}:"
                f" {json.dumps(happened.fields, default=str)[:300]}"
            )

    def _send(
        self, entry: Entry, fields: Fields[str, Any], run_id: str, client: CoordinatorClient
    ) -> None:
        inputs = entry.inputs_of(fields)
        options: dict[str, Any] = {
            "n": None if inputs is not None else (1 if entry.n is None else entry.n),
            "inputs": None if inputs is None else [inputs],
            "run_id": run_id,
            "priority": TaskPriority[entry.priority],
            "affinity_tags": entry.tags,
            "placement": self._placement(entry),
        }
        if entry.is_cid:
            client.submit_run(entry.tube, **options)
            return
        known = self._cids.get(entry.tube)
        if known is not None:
            try:
                client.submit_run(known, **options)
            except TubeNotFoundError:
                del self._cids[entry.tube]  # the coordinator is another one
            else:
                return
        from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - loads upstream

        source = TubeSource.of(self._folder / entry.tube)
        client.submit_run(source, **options)
        self._cids[entry.tube] = source.cid

    def _placement(self, entry: Entry) -> Any:
        if entry.is_cid:
            return None
        path = (self._folder / entry.tube).with_suffix(".cloud.yaml")
        if not path.is_file():
            return None
        from ruamel.yaml import YAML  # noqa: PLC0415 - few tubes have a placement

        return YAML(typ="safe").load(path)


def events_of(record: Fields[str, Any]) -> Iterator[Happened]:
    """Yield what a message of SQS says: an event, or several of S3.

    Raises:
        ValueError: its body is not what any source sends.
    """
    body = json.loads(record["body"])
    if not isinstance(body, dict):
        raise ValueError(f"A message is an object in JSON, not {record['body'][:200]!r}")  # noqa: TRY004 - the sender's fault
    if body.get("Event") == "s3:TestEvent":
        return
    if isinstance(body.get("Records"), list):  # S3's own notifications
        for each in body["Records"]:
            if not str(each.get("eventName", _CREATED)).startswith(_CREATED):
                raise ValueError(f"Of objects only new ones start runs, not {each['eventName']}")
            yield _put(each["s3"], str(each.get("eventTime", "")), quoted=True)
    elif body.get("source") == "aws.s3" and body.get("detail-type") == "Object Created":
        put = _put(body["detail"], str(body.get("time", "")), quoted=False)
        yield put._replace(fields={**body, **put.fields})
    elif body.get("on") == "schedule":
        yield Happened("schedule", body["id"], body)
    elif "detail-type" in body:
        yield Happened("event", body["id"], body)
    elif isinstance(body.get("on"), str):
        yield Happened("queue", str(body.get("id") or record["messageId"]), body)
    else:
        raise ValueError(
            'A message is an event of S3 or EventBridge, or {"on": "word", ...}; not'
            f" {record['body'][:200]}"
        )


def _put(told: Fields[str, Any], time: str, *, quoted: bool) -> Happened:
    bucket, entry = told["bucket"]["name"], told["object"]
    key = unquote_plus(entry["key"]) if quoted else entry["key"]
    version = entry.get("versionId") or entry.get("version-id") or ""
    order = entry.get("sequencer") or time
    fields = {
        "bucket": bucket,
        "key": key,
        "name": key.rpartition("/")[2],
        "uri": f"s3://{bucket}/{key}",
        "size": entry.get("size"),
        "etag": entry.get("eTag") or entry.get("etag"),
        "version": version,
        "time": time,
    }
    return Happened("s3", f"{bucket}/{key}#{version}#{order}", fields)


def _run_id(happened: Happened, number: int) -> str:
    """Return the run's name: made of what happened, so that it happens once."""
    told = json.dumps([happened.kind, happened.id, number]).encode()
    return f"event-{happened.kind}-{hashlib.sha256(told).hexdigest()[:24]}"
