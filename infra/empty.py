"""`python -m infra.empty NAME`: empty a deployment's bucket, so that it can be destroyed.

CloudFormation deletes no bucket with something in it, and this one keeps old versions. Everything
is lost: results, blobs, the queue. The coordinator must not run any more, or it goes on writing.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from infra.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence


def bucket_of(name: str) -> str:
    """Return the bucket of a deployment, as its parameter says.

    Raises:
        LookupError: nothing of that name is deployed there.
    """
    import boto3  # noqa: PLC0415 - heavy

    client = boto3.client("ssm")
    try:
        found = client.get_parameter(Name=Names(name).parameter("bucket"))
    except client.exceptions.ParameterNotFound as error:
        where = client.meta.region_name
        raise LookupError(
            f"Nothing is deployed as {name!r} in {where}. A bucket that outlived its deployment is"
            " named with --bucket."
        ) from error
    return str(found["Parameter"]["Value"])


def empty(bucket: str) -> int:
    """Delete every object of a bucket in every version; return how many there were.

    Raises:
        RuntimeError: S3 kept some.
    """
    import boto3  # noqa: PLC0415 - heavy

    client, deleted = boto3.client("s3"), 0
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in entries]
        if objects:
            told: dict[str, Any] = client.delete_objects(
                Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
            )
            if told.get("Errors"):
                first = told["Errors"][0]
                raise RuntimeError(f"S3 kept {first['Key']} of {bucket}: {first['Message']}")
            deleted += len(objects)
    return deleted


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, and empty the bucket; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.empty", description=__doc__)
    parser.add_argument("name", nargs="?", help="name of the deployment")
    parser.add_argument("--bucket", help="a bucket that outlived its deployment")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(argv)
    if (options.name is None) == (options.bucket is None):
        parser.error("give the name of a deployment, or --bucket")
    try:
        bucket = options.bucket or bucket_of(options.name)
        if not options.yes:
            sys.stderr.write(f"Everything in {bucket} will be lost. Type its name to go on: ")
            if sys.stdin.readline().strip() != bucket:
                sys.stderr.write("Nothing was deleted.\n")
                return os.EX_DATAERR
        sys.stderr.write(f"{empty(bucket)} objects and versions deleted from {bucket}\n")
    except (LookupError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
