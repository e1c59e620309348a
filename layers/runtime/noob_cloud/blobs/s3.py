"""Blobs in S3, or in a server of its kind: the key is the prefix and the cid."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from noob_cloud.blobs.interface import BlobInfo, check_range, join, not_found, verify
from noob_cloud.cid import cid as cid_of_bytes
from noob_cloud.cid import is_cid, parse_cid
from noob_cloud.exceptions import BlobError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noob_cloud.blobs.interface import Data

__all__ = ["S3Store"]

REFRESH_SECONDS = 600.0
"""A blob put again is made young again if it is older than this; less than any grace period."""
_MISSING = ("404", "NoSuchKey", "NotFound")
_EXISTS = ("PreconditionFailed", "412")
_CONFLICT = ("ConditionalRequestConflict", "409")
_TRIES = 5


class S3Store:
    """A BlobStore in an S3 bucket, which exists already.

    A blob is written only where none is (`If-None-Match: *`), so two writers cost one write.
    S3 cannot delete "unless it was written meanwhile": between the look at a blob's age and its
    deletion lies one round trip, which the grace period of `collect` is there for.

    Args:
        bucket: Name of the bucket.
        prefix: Put before every key, with a slash.
        endpoint_url: Another server than AWS's.
        client: A boto3 S3 client to use instead of a new one.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint_url: str | None = None,
        client: Any = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.endpoint_url = endpoint_url
        self._client = client or _connect(endpoint_url)

    def put(self, data: Data, *, now: float | None = None) -> str:
        """Store bytes and return their cid; S3 has a clock of its own for `stored_at`."""
        blob = join(data)
        name = cid_of_bytes(blob)
        for left in reversed(range(_TRIES)):
            code = self._put_new(name, blob)
            if not code:
                return name
            if code in _EXISTS:
                self._refresh(name, time.time() if now is None else now)
                return name
            if not left:
                break
        raise BlobError(
            f"{self._place} kept refusing {name} because of other writers; try again.", cid=name
        )

    def get(self, cid: str) -> bytes:
        """Return the blob's bytes, verified."""
        with self._errors(cid):
            body = self._client.get_object(Bucket=self.bucket, Key=self._key(cid))["Body"]
            data = body.read()
        return verify(cid, data, self._place)

    def get_small(self, cid: str, most: int) -> bytes | None:
        """Return the blob's bytes, verified; None, unread, if it has more than `most`."""
        with self._errors(cid):
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(cid))
            if answer["ContentLength"] > most:
                answer["Body"].close()
                return None
            data = answer["Body"].read()
        return verify(cid, data, self._place)

    def key(self, cid: str) -> str:
        """Return where a blob is in the bucket."""
        return self._key(cid)

    def get_range(self, cid: str, start: int, length: int) -> bytes:
        """Return up to `length` bytes from `start` on."""
        check_range(start, length)
        if not length or start >= self.stat(cid).size:
            return b""
        with self._errors(cid):
            answer = self._client.get_object(
                Bucket=self.bucket, Key=self._key(cid), Range=f"bytes={start}-{start + length - 1}"
            )
            data: bytes = answer["Body"].read()
        return data

    def has(self, cid: str) -> bool:
        """Whether the blob is stored here."""
        try:
            self.stat(cid)
        except LookupError:
            return False
        return True

    def stat(self, cid: str) -> BlobInfo:
        """Return the blob's size and age."""
        with self._errors(cid):
            head = self._client.head_object(Bucket=self.bucket, Key=self._key(cid))
        return BlobInfo(cid, head["ContentLength"], head["LastModified"].timestamp())

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, one page of keys after the other."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors(None):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for entry in page.get("Contents", ()):
                    name = entry["Key"][len(self.prefix) :]
                    if is_cid(name):
                        yield BlobInfo(name, entry["Size"], entry["LastModified"].timestamp())

    def delete(self, cid: str, *, stored_before: float | None = None) -> bool:
        """Remove a blob and say whether it was removed."""
        try:
            stored_at = self.stat(cid).stored_at
        except LookupError:
            return False
        if stored_before is not None and stored_at >= stored_before:
            return False
        with self._errors(cid):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(cid))
        return True

    @property
    def _place(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def _key(self, name: str) -> str:
        parse_cid(name)
        return self.prefix + name

    def _put_new(self, name: str, blob: bytes) -> str:
        """Write the blob and return "", or the code with which S3 says why it did not."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - boto3 is heavy and optional

        with self._errors(name):
            try:
                self._client.put_object(
                    Bucket=self.bucket, Key=self._key(name), Body=blob, IfNoneMatch="*"
                )
            except ClientError as error:
                code = str(error.response["Error"]["Code"])
                if code in _EXISTS or code in _CONFLICT:
                    return code
                raise
        return ""

    def _refresh(self, name: str, now: float) -> None:
        """Make S3 note the time anew: copying an object onto itself is how it is done there."""
        if now - self.stat(name).stored_at < REFRESH_SECONDS:
            return
        with self._errors(name):
            self._client.copy_object(
                Bucket=self.bucket,
                Key=self._key(name),
                CopySource={"Bucket": self.bucket, "Key": self._key(name)},
                MetadataDirective="REPLACE",
            )

    @contextmanager
    def _errors(self, name: str | None) -> Iterator[None]:
        from botocore.exceptions import (  # noqa: PLC0415 - boto3 is heavy and optional
            BotoCoreError,
            ClientError,
        )

        try:
            yield
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            if name is not None and code in _MISSING:
                raise not_found(name, self._place) from error
            raise BlobError(f"{self._place} refused: {error}", cid=name, code=code) from error
        except BotoCoreError as error:
            raise BlobError(f"{self._place} could not be reached: {error}", cid=name) from error


def _connect(endpoint_url: str | None) -> Any:
    try:
        import boto3  # noqa: PLC0415 - heavy and optional
    except ImportError as error:
        raise BlobError(
            "Blobs in S3 need boto3: pip install 'noob-cloud[s3]'", extra="s3"
        ) from error
    return boto3.client("s3", endpoint_url=endpoint_url)
