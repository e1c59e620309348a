"""Blobs that somebody else fetches from S3, or puts there, by a URL that is good for minutes.

A gateway before a coordinator carries 10 MB; S3 carries the rest. What is uploaded goes to a key of
its own first: it gets the name of its cid once its bytes were seen to have it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from noob_cloud.blobs.interface import not_found
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.exceptions import BlobCorruptError, DecodeError

if TYPE_CHECKING:
    from noob_cloud.blobs.s3 import S3Store

__all__ = ["INCOMING", "SECONDS", "Presigned", "Ticket"]

SECONDS: Final = 900
"""How long a URL is good for."""
INCOMING: Final = "incoming"
"""Below the prefix of the blobs: what was uploaded and not looked at yet."""
_PART: Final = 8 << 20
_CHANGED: Final = frozenset(("PreconditionFailed", "412", "NoSuchKey", "404"))
_ENDPOINT: Final = "AWS_ENDPOINT_URL"


class Ticket(NamedTuple):
    """What an upload needs."""

    url: str
    """To PUT the bytes to, as many as were announced."""
    upload: str
    """Names the upload when it is to be kept."""


class Presigned:
    """Signs URLs of a store's blobs, with the store's own rights.

    Args:
        store: in S3.
        client: boto3's, which signs; by default one like the store's.
    """

    def __init__(self, store: S3Store, client: Any = None) -> None:
        self._store = store
        self._client = client or _signing(store.endpoint_url)

    def get(self, cid: str) -> str:
        """Return a URL from which a blob can be fetched; whether it is there is not asked."""
        return self._sign("get_object", self._store.key(cid))

    def put(self, size: int) -> Ticket:
        """Return where so many bytes may be put."""
        upload = uuid4().hex
        return Ticket(self._sign("put_object", self._incoming(upload), ContentLength=size), upload)

    def keep(self, upload: str, cid: str) -> None:
        """Give what was uploaded the name of its cid, if it has it; it is gone otherwise.

        Raises:
            DecodeError: `upload` names none.
            BlobNotFoundError: nothing was uploaded.
            BlobCorruptError: its bytes have another cid, or were replaced meanwhile.
        """
        bucket, key = self._store.bucket, self._incoming(upload)
        try:
            found, tag = self._cid_of(key, cid)
            if found != cid:
                raise BlobCorruptError(f"What was uploaded has the cid {found}, not {cid}.")
            self._copy(key, tag, cid)
        finally:
            self._client.delete_object(Bucket=bucket, Key=key)

    def _cid_of(self, key: str, cid: str) -> tuple[str, str]:
        """Return the cid of what was uploaded, and the ETag of what was read for it."""
        try:
            answer = self._client.get_object(Bucket=self._store.bucket, Key=key)
        except self._client.exceptions.NoSuchKey as error:
            raise not_found(cid, f"s3://{self._store.bucket}/{key}") from error
        return cid_of_bytes(answer["Body"].iter_chunks(_PART)), answer["ETag"]

    def _copy(self, key: str, tag: str, cid: str) -> None:
        """Copy what was read, and nothing that its URL has put there since."""
        bucket = self._store.bucket
        try:
            self._client.copy_object(
                Bucket=bucket,
                Key=self._store.key(cid),
                CopySource={"Bucket": bucket, "Key": key},
                CopySourceIfMatch=tag,
            )
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _CHANGED:
                raise
            raise BlobCorruptError(
                f"What was uploaded for {cid} was replaced while it was looked at; send it again."
            ) from error

    def _incoming(self, upload: str) -> str:
        try:
            name = UUID(hex=upload).hex
        except (ValueError, AttributeError, TypeError):
            raise DecodeError(f"{upload!r:.80} names no upload.") from None
        return f"{self._store.prefix}{INCOMING}/{name}"

    def _sign(self, what: str, key: str, **more: Any) -> str:
        told = {"Bucket": self._store.bucket, "Key": key, **more}
        url: str = self._client.generate_presigned_url(what, Params=told, ExpiresIn=SECONDS)
        return url


def _signing(endpoint_url: str | None) -> Any:
    """Return a client whose URLs name the bucket's region, as those of a young bucket must."""
    import boto3  # noqa: PLC0415 - heavy and optional
    from botocore.config import Config  # noqa: PLC0415 - as above

    given = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get(_ENDPOINT)
    ours = given is None or ".amazonaws.com" in (urlsplit(given).hostname or "")
    config = Config(
        signature_version="s3v4", s3={"addressing_style": "virtual" if ours else "path"}
    )
    return boto3.client("s3", endpoint_url=endpoint_url, config=config)
