"""A deployed kit is found by its name and asked with the user's credentials."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import noob_cloud_testnodes as nodes
import numpy as np
import pytest
from tests.conformance.served import TOKEN, served

from noob_cloud.blobs import open_store
from noob_cloud.cli.app import run_app
from noob_cloud.coordinator import following, transport
from noob_cloud.deployment import Deployment
from noob_cloud.exceptions import (
    AuthenticationError,
    DeploymentNotFoundError,
    ForbiddenError,
    UnavailableError,
)
from noob_cloud.executors import ServerlessExecutor
from noob_cloud.signing import SignedTransport, Signer
from noob_cloud.worker.claim import ClaimLoop
from noob_cloud.worker.slots import slots

from .gateway import ACCESS, REGION, SECRET, SESSION, Gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

API = f"https://abc123.execute-api.{REGION}.amazonaws.com"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that the gateway knows, and nothing of the machine's own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SESSION,
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "NOOB_CLOUD_TOKEN", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def deploy(aws: None, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write what a deployment leaves in SSM and Secrets Manager; give its name."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", s3_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", s3_url)

    def write(secret: str = TOKEN, **parameters: str) -> str:
        name = f"pictures-{uuid4().hex[:8]}"
        ssm = boto3.client("ssm", endpoint_url=s3_url)
        vault = boto3.client("secretsmanager", endpoint_url=s3_url)
        made = vault.create_secret(Name=name, SecretString=secret)
        for key, value in {"token_secret": made["ARN"], **parameters}.items():
            path = f"/noob-cloud/{name}/{key.replace('_', '-')}"
            ssm.put_parameter(Name=path, Value=value, Type="String")
        return name

    return write


@pytest.fixture
def gateway() -> Iterator[tuple[str, Gateway]]:
    """A coordinator behind a gateway: the gateway's URL, and the gateway."""
    made: list[Gateway] = []

    def behind(door: Any) -> Gateway:
        made.append(Gateway(door))
        return made[0]

    with served(behind=behind) as (url, _):
        yield url, made[0]


def signed(url: str, **changes: Any) -> Deployment:
    return replace(Deployment(url, TOKEN, region=REGION, signed=True), **changes)


# ---- find


def test_find(deploy: Callable[..., str]) -> None:
    """The parameters say where everything is, the secret has the token."""
    name = deploy(api_url=API, blobs="s3://bucket/pictures/blobs", code="bafkcode")

    found = Deployment.find(name)

    assert (found.url, found.token, found.name) == (API, TOKEN, name)
    assert (found.blobs, found.code) == ("s3://bucket/pictures/blobs", "bafkcode")
    assert found.signed
    assert found.region == REGION
    assert TOKEN not in repr(found)


def test_find_secret_in_json(deploy: Callable[..., str]) -> None:
    """A secret that Secrets Manager generated is a JSON object."""
    name = deploy(json.dumps({"token": "generated"}), api_url=API)

    assert Deployment.find(name).token == "generated"


def test_find_more_parameters_than_a_page(deploy: Callable[..., str]) -> None:
    """SSM gives ten parameters a page; all of them count."""
    name = deploy(api_url=API, **{f"a{number:02}": "x" for number in range(25)}, code="bafkcode")

    assert Deployment.find(name).code == "bafkcode"


def test_find_nothing(deploy: Callable[..., str]) -> None:
    """A name that was never deployed is an error that says where it was looked for."""
    deploy(api_url=API)

    with pytest.raises(DeploymentNotFoundError, match=rf"'missing' in {REGION}.*noob-cloud deploy"):
        Deployment.find("missing")


def test_find_half_deployed(deploy: Callable[..., str]) -> None:
    """A deployment whose coordinator stack is missing says which parameter it lacks."""
    name = deploy(blobs="s3://b/c")

    with pytest.raises(DeploymentNotFoundError, match=f"/noob-cloud/{name}/api-url is missing"):
        Deployment.find(name)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "x" * 64])
def test_find_bad_name(name: str) -> None:
    """What no deployment can be called is refused before anybody is asked."""
    with pytest.raises(ValueError, match="no name of a deployment"):
        Deployment.find(name)


def test_find_without_credentials(
    deploy: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials the message says how to get some."""
    name = deploy(api_url=API)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    with pytest.raises(AuthenticationError, match="aws configure"):
        Deployment.find(name)


def test_find_without_region(deploy: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region the message asks for one."""
    name = deploy(api_url=API)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    with pytest.raises(DeploymentNotFoundError, match="AWS_REGION"):
        Deployment.find(name)


def test_find_on_emulated_cloud(
    deploy: Callable[..., str], place: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing forwards to the coordinator, its lease says where it listens."""
    name = deploy(api_url=API, replica=str(place), blobs=f"{place}/blobs")
    with pytest.raises(UnavailableError, match="none has begun"):
        Deployment.find(name, endpoint_url=s3_url)

    told = {"epoch": 1, "url": "http://127.0.0.1:7777", "released": False}
    place.write("lease.json", json.dumps(told).encode(), replacing=None)
    found = Deployment.find(name, endpoint_url=s3_url)

    assert found.url == "http://127.0.0.1:7777"
    assert not found.signed
    store = found.store()
    assert store is not None
    assert store.get(store.put(b"large")) == b"large"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    assert Deployment.of(name) == found


def test_coordinator_that_moves(
    deploy: Callable[..., str], place: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of an emulated cloud follows its coordinator to another address."""
    monkeypatch.setattr(following, "_PAUSE", 0.0)
    name = deploy(api_url=API, replica=str(place))

    def listens(url: str, replacing: str | None, **more: Any) -> str:
        told = {"epoch": 1, "url": url, "released": False, **more}
        tag: str = place.write("lease.json", json.dumps(told).encode(), replacing=replacing)
        return tag

    with served() as (first, door):
        tag = listens(first, None)
        queue = Deployment.find(name, endpoint_url=s3_url).queue()
        assert queue.stats().live == 0
        door.coordinator.drain()  # it answers 503 from here on
        with served() as (second, _):
            tag = listens(first, tag, released=True)
            with pytest.raises(UnavailableError, match="handed over"):
                Deployment.find(name, endpoint_url=s3_url)
            listens(second, tag)
            assert queue.submit_task("n", 0) == 1
            assert queue.url == second


def test_of_url() -> None:
    """A URL is a coordinator of one's own, and asks AWS nothing."""
    assert Deployment.of("http://127.0.0.1:8080") == Deployment.at("http://127.0.0.1:8080")


# ---- signed requests


def test_signed_requests_arrive(aws: None, gateway: tuple[str, Gateway]) -> None:
    """Every kind of request passes the gateway, with the kit's token beside the signature."""
    url, _ = gateway
    with signed(url).client() as client:
        task_id = client.queue.submit_task("blur", 0, data={"a": [1, 2.5, "ü"]})
        assert client.queue.get_task(task_id).payload == {"a": [1, 2.5, "ü"]}
        assert client.queue.list_tasks("ready", run_id="a run, with+signs&more") == []
        assert client.queue.wait_settled([task_id], timeout=0.0) == []
        cid = client.blobs.put(b"blob")
        assert client.blobs.get(cid) == b"blob"
        assert client.queue.cancel_task(task_id)
        assert client.runs() == []


def test_wrong_secret_is_refused(
    aws: None, gateway: tuple[str, Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the gateway refuses says what the credentials need."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(AuthenticationError, match="execute-api:Invoke"):
        signed(gateway[0]).queue().stats()


def test_wrong_token_is_refused(aws: None, gateway: tuple[str, Gateway]) -> None:
    """A signature alone does not open the coordinator."""
    with pytest.raises(AuthenticationError, match="not known here"):
        signed(gateway[0], token="a-token-of-somebody-else").queue().stats()


def test_signature_covers_the_body(aws: None, gateway: tuple[str, Gateway]) -> None:
    """What was changed on the way is refused."""
    url, _ = gateway

    class Meddling(Signer):
        def headers(self, method: str, url: str, body: bytes | None) -> dict[str, str]:
            return super().headers(method, url, (body or b"") + b"!")

    signer = Meddling(boto3.Session(), REGION)
    with pytest.raises(AuthenticationError, match="refuses"):
        SignedTransport(url, signer, token=TOKEN).send("POST", "/redrive", b"{}")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_gateway_trouble_is_ridden_out(
    aws: None, gateway: tuple[str, Gateway], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that is throttled, or whose coordinator is away, is asked again."""
    monkeypatch.setattr(transport, "sleep", lambda _seconds: None)
    url, front = gateway
    front.failures = [status, status]

    assert signed(url).queue().stats().live == 0
    assert front.seen["/stats"] == 3


def test_no_credentials_to_sign_with(aws: None) -> None:
    """Without credentials no request leaves."""

    class Nobody:
        def get_credentials(self) -> None:
            return None

    with pytest.raises(AuthenticationError, match="no AWS credentials"):
        signed("http://127.0.0.1:1", session=Nobody()).queue()


def test_access_denied_names_the_actions(
    aws: None, monkeypatch: pytest.MonkeyPatch, s3_url: str
) -> None:
    """A policy that is too narrow is an error that says what it lacks."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - beside its use

    class Denying:
        region_name = REGION

        def client(self, *_: Any, **__: Any) -> Any:
            told = {"Error": {"Code": "AccessDeniedException", "Message": "not you"}}
            raise ClientError(told, "GetParametersByPath")

    with pytest.raises(ForbiddenError, match="ssm:GetParametersByPath"):
        Deployment.find("pictures", session=Denying())


def test_large_values_go_around_the_gateway(place: Any, aws: None, s3_url: str) -> None:
    """What is larger than a gateway takes goes to the bucket and comes from there, both ways."""
    where = f"{place}/blobs?endpoint_url={s3_url}"
    store = open_store(where)
    fronts: list[Gateway] = []

    def behind(door: Any) -> Gateway:
        fronts.append(Gateway(door))
        return fronts[0]

    large = np.ones((1300, 1300))  # 13.5 MB
    with served(behind=behind, blobs=store) as (url, _):
        found = signed(url, blobs=where)
        queue = found.queue()
        places = slots(1, isolate=False, allowed_modules=["noob_cloud_testnodes"])
        loop = ClaimLoop(queue, places, worker_id="w", documents=queue.blobs.get)
        thread = Thread(target=loop.run)
        thread.start()
        try:
            with ServerlessExecutor(found) as executor:
                assert executor.submit(nodes.mean, large).result(30) == 1.0
                image = executor.submit(nodes.image, 1, side=300)
                assert image.result(30).shape == (300, 300)
                assert image.cid is not None
                assert store.has(image.cid)
        finally:
            loop.stop()
            thread.join(20)
            places.close()
    assert not [path for path in fronts[0].seen if path.startswith("/blobs")]


# ---- the command line


def test_command_line(
    deploy: Callable[..., str], gateway: tuple[str, Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--deployment NAME` stands where `--coordinator URL` does."""
    name = deploy(api_url=gateway[0])

    assert run_app(["submit", "--task", "blur", "--deployment", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["where"] == name
    assert run_app(["status", "--deployment", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["ready"] == 1
    assert run_app(["cancel", str(told["task_id"]), "--deployment", name, "--json"]) == 0
    assert run_app(["results", str(told["task_id"]), "--deployment", name, "--json"]) == 1


def test_command_line_chooses(
    deploy: Callable[..., str],
    gateway: tuple[str, Gateway],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is typed goes before what a variable says; both typed is an error."""
    name = deploy(api_url=gateway[0])
    monkeypatch.setenv("NOOB_CLOUD_COORDINATOR", "http://127.0.0.1:1")
    assert run_app(["status", "--deployment", name, "--json"]) == 0
    assert run_app(["status", "--deployment", name, "--coordinator", "http://127.0.0.1:1"]) == 2
    assert "exclude each other" in capsys.readouterr().err

    monkeypatch.setenv("NOOB_CLOUD_DEPLOYMENT", name)
    assert run_app(["status", "--json"]) == 0
    assert run_app(["status", "--coordinator", "http://127.0.0.1:1"]) == 3
    assert run_app(["status", "--deployment", "missing"]) == 2
    assert "Nothing is deployed as 'missing'" in capsys.readouterr().err
