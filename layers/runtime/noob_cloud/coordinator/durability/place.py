"""Where a coordinator's replica is in S3, and the objects there that this process writes itself."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from noob_cloud.exceptions import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED = frozenset(("PreconditionFailed", "412", "ConditionalRequestConflict", "409"))
_MISSING = frozenset(("NoSuchKey", "NotFound", "404"))
_DIGITS = 10
_SECONDS = 3.0
"""How long S3 may take to answer: less than a third of the shortest lease."""


@dataclass(frozen=True)
class Place:
    """A bucket that exists, and a prefix in it that belongs to one deployment.

    Below the prefix lie `lease.json`, `epochs/NUMBER/` (what Litestream writes), `ready/NUMBER`
    (the epoch has been replicated whole) and `blobs/`.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    client: Any = field(default=None, compare=False, repr=False)
    """A boto3 S3 client."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `s3://bucket/prefix`, perhaps with `?endpoint_url=http://...`, and connect.

        Raises:
            ValueError: it is no such URL.
            UnavailableError: boto3 is not installed.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"{url!r} is no place of a replica, like s3://bucket/prefix")
        endpoint_url = parse_qs(parts.query).get("endpoint_url", [None])[0]
        client = _connect(endpoint_url)
        return cls(
            parts.netloc,
            parts.path.strip("/"),
            endpoint_url or client.meta.endpoint_url,
            client.meta.region_name,
            client,
        )

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def key(self, name: str) -> str:
        """Return the key of what is called `name` below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def epoch(self, number: int) -> str:
        """Return the key below which an epoch's replica lies."""
        return self.key(f"epochs/{number:0{_DIGITS}d}")

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and ETag, or None if there is none.

        Raises:
            UnavailableError: S3 did not answer, or refused.
        """
        with self._errors(f"reading {name}") as codes:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.key(name))
            data: bytes = answer["Body"].read(1 << 16)
            tag: str = answer["ETag"]
        return None if codes & _MISSING else (data, tag)

    def write(self, name: str, data: bytes, *, replacing: str | None) -> str | None:
        """Write an object if it still has this ETag (None: if there is none); return the new one.

        None says that somebody else was first. S3 decides, so of any number of writers that have
        seen the same object exactly one gets an ETag.

        Raises:
            UnavailableError: S3 did not answer, or refused: it may or may not have been written.
        """
        condition = {"IfNoneMatch": "*"} if replacing is None else {"IfMatch": replacing}
        tag = ""
        with self._errors(f"writing {name}") as codes:
            answer = self.client.put_object(
                Bucket=self.bucket, Key=self.key(name), Body=data, **condition
            )
            tag = answer["ETag"]
        return None if codes & (_REFUSED | _MISSING) else tag

    def mark(self, number: int) -> None:
        """Say that an epoch's replica is whole: a successor has to start from it."""
        with self._errors(f"marking epoch {number}"):
            self.client.put_object(Bucket=self.bucket, Key=self._mark(number), Body=b"")

    def marked(self) -> dict[int, float]:
        """Return the epochs whose replica is whole, in order, and when each became so."""
        found: dict[int, float] = {}
        start = self.key("ready/")
        with self._errors("listing epochs"):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=start):
                for entry in page.get("Contents", ()):
                    number = entry["Key"][len(start) :]
                    if number.isdigit():
                        found[int(number)] = entry["LastModified"].timestamp()
        return dict(sorted(found.items()))

    def forget(self, number: int) -> None:
        """Delete an epoch: first its mark, so that nobody begins to restore half of it."""
        with self._errors(f"deleting epoch {number}"):
            self.client.delete_object(Bucket=self.bucket, Key=self._mark(number))
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=f"{self.epoch(number)}/"):
                keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
                if keys:
                    self.client.delete_objects(
                        Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True}
                    )

    def _mark(self, number: int) -> str:
        return self.key(f"ready/{number:0{_DIGITS}d}")

    @contextmanager
    def _errors(self, doing: str) -> Iterator[set[str]]:
        """Give the code of a refusal that has a meaning here; raise on any other trouble."""
        from botocore.exceptions import (  # noqa: PLC0415 - boto3 is heavy and optional
            BotoCoreError,
            ClientError,
        )

        codes: set[str] = set()
        try:
            yield codes
        except ClientError as error:
            code = str(error.response["Error"]["Code"])
            if code not in _REFUSED | _MISSING:
                raise UnavailableError(f"{self}: {doing} was refused: {error}") from error
            codes.add(code)
        except BotoCoreError as error:
            raise UnavailableError(f"{self}: {doing} failed: {error}") from error


def _connect(endpoint_url: str | None) -> Any:
    try:
        import boto3  # noqa: PLC0415 - heavy and optional
        from botocore.config import Config  # noqa: PLC0415 - see above
    except ImportError as error:
        raise UnavailableError(
            "A replica in S3 needs boto3 and Litestream: pip install 'noob-cloud[replica]'"
        ) from error
    quick = Config(
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        retries={"total_max_attempts": 1},  # who asks decides whether it is still worth asking
        s3={"addressing_style": "path"} if endpoint_url else {},
    )
    return boto3.client("s3", endpoint_url=endpoint_url, config=quick)
