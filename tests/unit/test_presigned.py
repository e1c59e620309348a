"""Large values pass by S3 where a gateway before the coordinator would not carry them."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import boto3
import httpx
import numpy as np
import pytest
from botocore.exceptions import ClientError
from tests.conformance.served import TOKEN, served

from noob_cloud.blobs.presigned import Presigned
from noob_cloud.blobs.s3 import S3Store
from noob_cloud.cid import cid
from noob_cloud.coordinator import wire
from noob_cloud.coordinator.remote_blobs import DirectBlobs, RemoteBlobs
from noob_cloud.deployment import Deployment
from noob_cloud.exceptions import (
    AuthenticationError,
    BlobCorruptError,
    BlobError,
    BlobNotFoundError,
    DecodeError,
    LimitError,
    UnavailableError,
)
from noob_cloud.tubes import TubeSource

from .gateway import ACCESS, REGION, SECRET, SESSION, Gateway

LARGE = bytes(range(256)) * 48_000  # 12.3 MB: more than the gateway carries
SMALL = b"small enough"


@pytest.fixture
def store(s3_url, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SESSION,
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    made = f"large-{uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_url).create_bucket(
        Bucket=made, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return S3Store(made, prefix="coordinator/blobs", endpoint_url=s3_url)


@pytest.fixture
def behind(store):
    """A coordinator with its blobs in S3, behind a gateway that carries 10 MB."""
    gates = []

    def behind(door):
        gates.append(Gateway(door))
        return gates[0]

    with served(behind=behind, blobs=store) as (url, door):
        yield Deployment(url, TOKEN, region=REGION, signed=True), gates[0], door


def test_large_values_go_by_s3(behind, store):
    """They are put and fetched by who may only sign for the API; small ones pass through it."""
    deployment, gate, _ = behind
    blobs = RemoteBlobs(deployment.transport())

    name, other = blobs.put(LARGE), blobs.put(SMALL)

    assert (name, other) == (cid(LARGE), cid(SMALL))
    assert store.get(name) == LARGE
    assert [info.cid for info in store.list()] == sorted([name, other])  # no upload is left
    assert blobs.get(name) == LARGE
    assert blobs.get_range(name, 256, 4) == b"\x00\x01\x02\x03"
    assert blobs.has(name)
    assert not blobs.has(cid(b"nobody has it"))
    assert blobs.get(other) == SMALL
    assert gate.seen[f"/blobs/{name}/upload"] == 1
    assert gate.seen[f"/blobs/{other}/upload"] == 0


def test_a_large_result_comes_home(behind):
    """A task's result that no gateway carries is fetched by who waits for it."""
    deployment, _, _ = behind
    queue = deployment.queue()
    value = np.arange(1_600_000.0)
    task_id = queue.submit_task("node", 0, data={"value": value})

    task = queue.claim_task("w1", wait=2.0)
    queue.complete_task(task, task.payload["value"] * 2)

    (settled,) = queue.wait_settled([task_id], timeout=5)
    assert np.array_equal(settled.result, value * 2)


def test_many_results_are_as_many_requests_as_it_takes(behind):
    """Results that are together more than a gateway carries are settled all the same."""
    deployment, gate, _ = behind
    queue = deployment.queue()
    ids = queue.submit_many([{"node_id": "node", "epoch": n} for n in range(8)])
    tasks = queue.claim_many("w1", 8, wait=2.0)
    value = bytes(2_000_000)

    refused, more = queue.complete_and_claim([(task, value) for task in tasks], "w1", 1)

    assert (refused, more) == ([], [])
    settled = queue.wait_settled(ids, timeout=5)
    assert [task.result for task in settled] == [value] * 8
    assert gate.seen["/outcomes"] == 4


def test_large_results_of_a_run_are_posted(behind):
    """A driver on Lambda posts what it has, large results by their cid."""
    deployment, _, _ = behind
    client = deployment.client()
    source = TubeSource.of({"noob_id": "testing-large", "nodes": {"a": {"type": "os.getcwd"}}})
    run_id = client.submit_run(source, n=4)
    queue = client.queue
    task = queue.claim_task("d", affinity_tags=[wire.DRIVE_TAG], wait=2.0)
    values = [LARGE, b"x" * 3_000_000, b"y" * 3_000_000, b"z"]

    done = client.post_results(run_id, 0, values, task_id=task.task_id, token=task.token)

    assert done == 4
    assert list(client.run_results(run_id)) == values


def test_what_was_uploaded_has_its_cid(behind, store, s3_url):
    """Other bytes than those that were announced get no name, and are gone."""
    deployment, _, _ = behind
    transport = deployment.transport()
    name = cid(LARGE)
    told = transport.send(
        "POST",
        f"/blobs/{name}/upload",
        b'{"size": %d}' % len(LARGE),
        headers={"Content-Type": "application/json"},
    ).json()
    assert httpx.put(told["url"], content=bytes(len(LARGE))).status_code == 200

    with pytest.raises(DecodeError, match="What was uploaded has the cid"):
        transport.send("PUT", f"/blobs/{name}/upload/{told['upload']}")
    with pytest.raises(BlobNotFoundError):
        transport.send("PUT", f"/blobs/{name}/upload/{told['upload']}")

    assert not store.has(name)
    listed = boto3.client("s3", endpoint_url=s3_url).list_objects_v2(Bucket=store.bucket)
    assert listed["KeyCount"] == 0


def test_what_is_replaced_while_it_is_looked_at_is_not_kept(store, s3_url):
    """A URL is good for minutes: also while the bytes are read that it put first."""
    client = boto3.client("s3", endpoint_url=s3_url)
    presigned = Presigned(store, client)
    good, bad = b"good" * 1000, b"evil" * 1000
    ticket = presigned.put(len(good))
    httpx.put(ticket.url, content=good).raise_for_status()
    copy = client.copy_object

    def late(**words):
        httpx.put(ticket.url, content=bad).raise_for_status()
        there = client.head_object(**words["CopySource"])["ETag"]
        if words.get("CopySourceIfMatch", there) != there:  # S3 asks this, moto does not
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "CopyObject")
        return copy(**words)

    client.copy_object = late
    with pytest.raises(BlobCorruptError, match="replaced"):
        presigned.keep(ticket.upload, cid(good))
    assert not store.has(cid(good))


@pytest.mark.parametrize("upload", ["../../lease.json", "x" * 32, "0", ""])
def test_an_upload_is_named_by_us(store, upload):
    """No name leads to another object of the bucket."""
    with pytest.raises(DecodeError, match="names no upload"):
        Presigned(store).keep(upload, cid(LARGE))


def test_limits_and_roles_hold(behind, store):
    """Without a token there is no URL, and none for more than a blob may have."""
    deployment, _, door = behind
    store.put(LARGE)
    stranger = replace(deployment, token="another-token-0123456789")
    with pytest.raises(AuthenticationError):
        stranger.transport().send("GET", f"/blobs/{cid(LARGE)}")
    size = door.coordinator.settings.max_blob + 1
    with pytest.raises(LimitError, match="the limit is"):
        deployment.transport().send(
            "POST",
            f"/blobs/{cid(LARGE)}/upload",
            b'{"size": %d}' % size,
            headers={"Content-Type": "application/json"},
        )


def test_what_comes_from_elsewhere_is_verified(behind, store):
    """Bytes that are not what the cid names are refused."""
    deployment, _, _ = behind
    name = store.put(LARGE)
    store._client.put_object(Bucket=store.bucket, Key=store.key(name), Body=LARGE[::-1])
    with pytest.raises(BlobCorruptError):
        RemoteBlobs(deployment.transport()).get(name)


def test_who_may_not_read_the_bucket_asks_the_coordinator(behind, store):
    """Without rights of his own to S3 a caller has large values by the coordinator's word."""
    deployment, gate, _ = behind
    name = store.put(LARGE)
    asked = []

    class Denied:
        def _no(self, what, _argument):
            asked.append(what)
            raise BlobError("denied", code="AccessDenied")

        def get(self, cid):
            self._no("get", cid)

        def put(self, data):
            self._no("put", data)

    blobs = DirectBlobs(Denied(), RemoteBlobs(deployment.transport()))
    with pytest.raises(BlobNotFoundError):  # S3 says "denied" of what is missing, too
        blobs.get(cid(b"nobody has it"))
    assert blobs.get(name) == LARGE
    assert blobs.put(SMALL) == cid(SMALL)
    assert asked == ["get", "get"]
    assert gate.seen[f"/blobs/{name}"] == 1


def test_s3_that_is_away_is_said(behind, store, monkeypatch):
    deployment, _, _ = behind
    name = store.put(LARGE)
    monkeypatch.setattr("noob_cloud.coordinator.remote_blobs.sleep", lambda _seconds: None)
    monkeypatch.setattr(Presigned, "get", lambda *_: "http://127.0.0.1:1/away")
    with pytest.raises(UnavailableError, match=r"S3 at 127\.0\.0\.1:1 does not answer"):
        RemoteBlobs(deployment.transport()).get(name)


def test_urls_name_the_region_and_end(monkeypatch):
    """On AWS: the bucket's host in its region, version 4, for a quarter of an hour, one size."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    signer = Presigned(S3Store("pictures", prefix="coordinator/blobs"))

    url = urlsplit(signer.get(cid(SMALL)))
    assert url.scheme == "https"
    assert url.netloc == f"pictures.s3.{REGION}.amazonaws.com"
    assert url.path == f"/coordinator/blobs/{cid(SMALL)}"
    assert parse_qs(url.query)["X-Amz-Expires"] == ["900"]

    ticket = signer.put(12)
    query = parse_qs(urlsplit(ticket.url).query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert urlsplit(ticket.url).path == f"/coordinator/blobs/incoming/{ticket.upload}"
