"""What the coordinator keeps beside tasks and runs: tubes and blobs. It imports no user code."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from noob_cloud.blobs.presigned import Presigned
from noob_cloud.blobs.s3 import S3Store
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.cid import is_cid
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.statements import SQL
from noob_cloud.exceptions import (
    BlobCorruptError,
    BlobNotFoundError,
    DecodeError,
    LimitError,
    TubeNotFoundError,
)
from noob_cloud.queue.cleanup import named

if TYPE_CHECKING:
    from noob_cloud.blobs import BlobStore, Collected
    from noob_cloud.blobs.presigned import Ticket
    from noob_cloud.coordinator.desk import Desk
    from noob_cloud.tubes import TubeSource

_SHOWN: Final = 1 << 20
"""Bytes of a blob that are decoded to show it as JSON."""


class Records:
    """Tubes in the queue's file, and blobs. Every method blocks.

    Args:
        desk: the queue.
        blobs: the blobs.
        presign_bytes: larger ones are fetched from S3, and put there, by whoever wants them.

    The methods that read or write blobs take as long as their bytes do: they belong in a thread of
    their own, not in the writer's.
    """

    def __init__(self, desk: Desk, blobs: BlobStore, *, presign_bytes: int = wire.LARGE) -> None:
        self._desk = desk
        self._blobs = blobs
        self._presign_bytes = presign_bytes

    # ---- tubes

    def put_tube(self, source: TubeSource, now: float) -> str:
        """Keep a tube's document; return its cid."""
        spec = source.value["spec"]
        name = str(spec.get("noob_id") or "")[:200]
        row = (source.cid, name, source.document, now)
        self._desk.transact(lambda ledger: ledger.execute(SQL.add_tube, row))
        return source.cid

    def tube(self, cid: str) -> bytes:
        """Return a tube's document.

        Raises:
            TubeNotFoundError: no tube with this cid was sent here.
        """
        row = self._desk.transact(lambda ledger: ledger.execute(SQL.tube, (cid,)).fetchone())
        if row is None and is_cid(cid) and self._blobs.has(cid):
            return self._blobs.get(cid)  # a runner's tube
        if row is None:
            raise TubeNotFoundError(
                f"No tube {cid[:100]} is known here; POST its document to /tubes first.",
                tube=cid[:100],
            )
        document: bytes = row[0]
        return document

    def keep_tube(self, cid: str, now: float) -> None:
        """Keep a tube that is a blob so far: a run needs it for as long as it lives.

        Raises:
            TubeNotFoundError: no tube with this cid was sent here.
            DecodeError: it is a blob, and no tube.
        """
        from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - few runs come this way

        known = self._desk.transact(lambda ledger: ledger.execute(SQL.tube, (cid,)).fetchone())
        if known is None:
            self.put_tube(TubeSource.from_document(self.tube(cid)), now)

    def tubes(self, limit: int) -> list[tuple[str, str, int, float]]:
        """Return (cid, name, bytes, created_at) of the latest tubes."""
        return self._desk.transact(lambda ledger: ledger.execute(SQL.tubes, (limit,)).fetchall())

    # ---- blobs

    def blob(self, cid: str) -> bytes:
        """Return what has this cid: a blob, a result, or a tube's document.

        Raises:
            DecodeError: it is no cid.
            BlobNotFoundError: nothing here has it.
        """
        try:
            return self._blobs.get(cid)
        except BlobNotFoundError:
            for query in (SQL.result_by_cid, SQL.tube):
                row = self._desk.transact(
                    lambda ledger, query=query: ledger.execute(query, (cid,)).fetchone()  # type: ignore[misc]
                )
                if row is not None:
                    data: bytes = row[0]
                    return data
            raise

    def blob_or_url(self, cid: str) -> tuple[str | None, bytes]:
        """Return where a large blob is to be fetched from; else None, and what `blob` returns."""
        store, signer = self._blobs, self._signer
        if signer is None or not isinstance(store, S3Store):
            return None, self.blob(cid)
        try:
            data = store.get_small(cid, self._presign_bytes)
        except BlobNotFoundError:
            return None, self.blob(cid)
        return (signer.get(cid), b"") if data is None else (None, data)

    def upload(self, size: int) -> Ticket | None:
        """Return where so many bytes are to be put; None: here."""
        signer = self._signer
        if signer is None or size <= self._presign_bytes:
            return None
        return signer.put(size)

    def keep_upload(self, cid: str, upload: str) -> None:
        """Keep what was uploaded under its cid.

        Raises:
            DecodeError: `upload` names none, or its bytes have another cid.
            BlobNotFoundError: nothing was uploaded.
        """
        if self._signer is None:
            raise DecodeError("Blobs are put here: PUT /blobs/{cid}.")
        try:
            self._signer.keep(upload, cid)
        except BlobCorruptError as error:
            raise DecodeError(str(error)) from error

    @cached_property
    def _signer(self) -> Presigned | None:
        return Presigned(self._blobs) if isinstance(self._blobs, S3Store) else None

    def blob_to_show(self, cid: str) -> bytes:
        """Return what has this cid, for a person to read.

        Raises:
            LimitError: it is too large to be shown; the message says how to fetch it.
            BlobNotFoundError: nothing here has it.
        """
        size = self._blobs.stat(cid).size if self._blobs.has(cid) else 0
        if size > _SHOWN:
            raise LimitError(f"the value has {size} bytes; GET /blobs/{cid} returns its frame")
        return self.blob(cid)

    def put_blob(self, cid: str, data: bytes) -> str:
        """Keep bytes under their cid.

        Raises:
            DecodeError: the bytes have another cid.
        """
        found = cid_of_bytes(data)
        if found != cid:
            raise DecodeError(f"The body has the cid {found}, not {cid[:100]}.", cid=found)
        return self._blobs.put(data)

    def collect_blobs(self, grace_seconds: float) -> Collected:
        """Remove blobs that no task, tube or run's result names, and that are older than that.

        A task that comes meanwhile has put its blobs before, and so made them young again.
        """
        live = {
            cid
            for (cid,) in self._desk.transact(
                lambda ledger: ledger.execute(SQL.live_cids).fetchall()
            )
        }
        for query in (SQL.result_frames, SQL.tube_documents):
            at: int | None = 0
            while at is not None:
                found, at = self._desk.transact(
                    lambda ledger, query=query, at=at: named(ledger, query, at)  # type: ignore[misc]
                )
                live |= found
        return self._desk.collect_blobs(live, grace_seconds=grace_seconds)

    def forget_requests(self, before: float) -> None:
        """Drop the answers of requests that will not come again."""
        self._desk.transact(lambda ledger: ledger.execute(SQL.drop_requests, (before,)))

    def forget_traces(self, before: float) -> None:
        """Drop what tasks belong to in traces that nobody looks at any more."""
        if self._desk.traced:
            self._desk.transact(lambda ledger: ledger.execute(SQL.drop_traces, (before,)))
