"""A browser on this machine reaches a deployed coordinator, and nobody else does through it."""

from __future__ import annotations

import socket
from dataclasses import replace
from http.client import HTTPConnection
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.conformance.served import TOKEN, served

from noob_cloud.deployment import Deployment
from noob_cloud.proxy import Proxy

from .gateway import ACCESS, REGION, SECRET, SESSION, Gateway

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy to a coordinator behind a gateway that wants signatures."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION)
    with served(behind=Gateway) as (url, _):
        found = replace(Deployment(url, TOKEN), region=REGION, signed=True)
        with Proxy(found.transport(patience=0.0)) as made:
            thread = Thread(target=made.serve_forever, args=(0.01,))
            thread.start()
            yield made
            made.shutdown()
            thread.join(10)


def ask(proxy: Proxy, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and body of an answer; a header that is "" is left out."""
    said = {
        "host": f"127.0.0.1:{proxy.server_port}",
        "authorization": f"Bearer {proxy.key}",
        "content-type": "application/json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    connection = HTTPConnection("127.0.0.1", proxy.server_port, timeout=10)
    method = "GET" if body is None else "POST"
    connection.request(method, path, body, {k: v for k, v in said.items() if v})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


def test_page_and_its_data(proxy: Proxy) -> None:
    """The page comes without a key; data, and what changes something, with it."""
    status, page = ask(proxy, "/dashboard", authorization="")
    assert status == 200
    assert b"location.hash" in page
    status, data = ask(proxy, "/tasks", b'{"tasks": [{"node_id": "n", "epoch": 0}]}')
    assert status == 200, data
    status, data = ask(proxy, "/stats?seconds=5")
    assert msgspec.json.decode(data)["queue"]["ready"] == 1
    assert proxy.url.endswith(f"/dashboard#{proxy.key}")


def test_page_keeps_its_policy(proxy: Proxy) -> None:
    """The page's content security policy arrives at the browser."""
    connection = HTTPConnection("127.0.0.1", proxy.server_port, timeout=10)
    connection.request("GET", "/dashboard")
    assert "default-src 'none'" in connection.getresponse().headers["content-security-policy"]
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer x"}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 401),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1:1"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
    ],
)
def test_refused(proxy: Proxy, headers: dict[str, str], status: int) -> None:
    """Without the key, under another name, or for another site's page there is nothing."""
    found, data = ask(proxy, "/stats", **headers)

    assert found == status
    assert "queue" not in msgspec.json.decode(data)
    if status == 403:  # not even the page
        assert ask(proxy, "/dashboard", **headers)[0] == 403


def test_own_origin(proxy: Proxy) -> None:
    """The page's own requests carry its origin, under either name of this machine."""
    for host in proxy.hosts:
        said = {"host": host, "origin": f"http://{host}", "sec_fetch_site": "same-origin"}
        assert ask(proxy, "/stats", **said)[0] == 200


def test_coordinators_errors(proxy: Proxy) -> None:
    """What the coordinator refuses keeps its status and its words."""
    status, data = ask(proxy, "/tasks/77")

    assert status == 404
    assert msgspec.json.decode(data)["error"] == "TaskNotFoundError"


def test_bounded(proxy: Proxy) -> None:
    """A body that is large, or of unknown length, is refused unread."""
    assert ask(proxy, "/tasks", b"x", content_length="99999999")[0] == 413
    assert ask(proxy, "/tasks", b"x", content_length="-1")[0] == 413


def test_this_machine_alone(proxy: Proxy) -> None:
    """It listens on the loopback address."""
    assert proxy.socket.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="in use"):
        Proxy(proxy.transport, proxy.server_port)
    with socket.create_connection(("127.0.0.1", proxy.server_port)) as raw:
        raw.sendall(b"GET http://evil.example/stats HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert b" 403 " in raw.recv(100)
