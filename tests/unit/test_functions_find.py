"""Where a worker finds its coordinator, and where a coordinator says that it is."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from noob_cloud.exceptions import CoordinatorError
from noob_cloud.serverless.code import allowed_modules, deployed_code
from noob_cloud.serverless.coordinator import own_url
from noob_cloud.serverless.find import find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_url_and_token_of_the_environment() -> None:
    """A URL is taken as it is, with the environment's token; an argument goes before both."""
    environ = {"NOOB_CLOUD_COORDINATOR": "http://a:1", "NOOB_CLOUD_TOKEN": "t"}

    assert (find(environ=environ).url, find(environ=environ).token) == ("http://a:1", "t")
    found = find("http://b:2", "u", environ=environ)
    assert (found.url, found.token) == ("http://b:2", "u")


def test_no_coordinator_is_named() -> None:
    """Without any the error names the variables that say it."""
    with pytest.raises(CoordinatorError, match="NOOB_CLOUD_COORDINATOR"):
        find(environ={})


class _Metadata(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        told = {"Containers": [{"Networks": [{"IPv4Addresses": ["10.42.0.7"]}]}]}
        self.send_response(200 if self.path == "/v4/x/task" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Metadata) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v4/x"
        server.shutdown()
        thread.join()


def test_address_of_a_container(metadata: str) -> None:
    """A coordinator that listens everywhere says the address that ECS gave its task."""
    everywhere = {"NOOB_CLOUD_HOST": "0.0.0.0", "NOOB_CLOUD_PORT": "81"}
    task = {"ECS_CONTAINER_METADATA_URI_V4": metadata}

    assert own_url(everywhere | task) == "http://10.42.0.7:81"
    assert own_url(everywhere | task | {"NOOB_CLOUD_URL": "http://me"}) == "http://me"
    assert own_url({}) == "http://127.0.0.1:8080"
    assert own_url(everywhere).startswith("http://")
    assert "0.0.0.0" not in own_url(everywhere)


def test_modules_that_tubes_may_use(tmp_path: Path) -> None:
    """They are those of the packed code beside the handler, and what the environment adds."""
    (tmp_path / "noob-cloud-code.json").write_text('{"modules": ["mine", "json"]}')

    found = allowed_modules([tmp_path], {"NOOB_CLOUD_MODULES": "numpy, mine"})

    assert found == ("numpy", "mine", "json")
    assert allowed_modules([tmp_path / "absent"], {}) == ()


def test_deployed_code() -> None:
    """A dash stands for none: SSM keeps no empty parameter."""
    assert deployed_code({"NOOB_CLOUD_CODE": "cid"}) == "cid"
    assert deployed_code({"NOOB_CLOUD_CODE": "-"}) is None
    assert deployed_code({}) is None
