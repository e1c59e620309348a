"""The coordinator keeps what its OpenAPI document promises, whatever is sent to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks

sys.path.insert(0, str(Path(__file__).parent))
from coordinator_processes import OWNER, coordinator

if TYPE_CHECKING:
    from collections.abc import Iterator

BEARER = {"Authorization": f"Bearer {OWNER}"}
FRAME = "application/vnd.noob-cloud.frame"

load_all_checks()


@schemathesis.serializer(FRAME)
def _frame(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A coordinator, with its document; its polls do not wait."""
    with coordinator(tmp_path_factory.mktemp("schemathesis"), max_wait=0.0) as made:
        yield schemathesis.openapi.from_url(f"{made.url}/openapi.json", headers=BEARER)


ROUTES = [
    ("/health", "GET"),
    ("/metrics", "GET"),
    ("/stats", "GET"),
    ("/workers", "GET"),
    ("/events", "GET"),
    ("/tasks", "POST"),
    ("/tasks", "GET"),
    ("/tasks/{task_id}", "GET"),
    ("/tasks/{task_id}/cancel", "POST"),
    ("/tasks/{task_id}/redrive", "POST"),
    ("/cancel", "POST"),
    ("/redrive", "POST"),
    ("/settled", "POST"),
    ("/limits", "POST"),
    ("/checkpoints/{name}", "GET"),
    ("/checkpoints/{name}", "POST"),
    ("/claims", "POST"),
    ("/heartbeats", "POST"),
    ("/outcomes", "POST"),
    ("/tubes", "POST"),
    ("/tubes", "GET"),
    ("/tubes/{cid}", "GET"),
    ("/runs", "POST"),
    ("/runs", "GET"),
    ("/runs/{run_id}", "GET"),
    ("/runs/{run_id}/cancel", "POST"),
    ("/runs/{run_id}/results", "GET"),
    ("/runs/{run_id}/results", "POST"),
    ("/blobs/{cid}", "GET"),
    ("/blobs/{cid}", "PUT"),
    ("/blobs/{cid}/upload", "POST"),
    ("/blobs/{cid}/upload/{upload}", "PUT"),
    ("/capacity", "GET"),
]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


def test_every_route_is_tried(api: Any) -> None:
    """A route that is added joins the list above."""
    paths = api.raw_schema["paths"]
    documented = {(path, method.upper()) for path, item in paths.items() for method in item}

    assert documented == set(ROUTES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_keeps_its_promises(
    api: Any, path: str, method: str, mode: schemathesis.GenerationMode
) -> None:
    """No failure of the server, only documented answers, of the documented form."""
    operation = api[path][method]
    if mode is MODES[1] and not (operation.body or operation.query or operation.path_parameters):
        pytest.skip("the route takes nothing that could be wrong")
    checks = [
        CHECKS.get_one(name)
        for name in (
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
        )
    ]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    def send(case: Any) -> None:
        case.call_and_validate(headers={**BEARER, "Accept": "application/json"}, checks=checks)

    send()
