"""The worker server keeps what its OpenAPI document promises, whatever is sent to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from noob_cloud_testtubes.case import chain, node, result
from schemathesis.checks import CHECKS, load_all_checks
from starlette.testclient import TestClient

from noob_cloud.identity import Identity, TokenBook
from noob_cloud.tubes import TubeSource
from noob_cloud.worker.server import create_app
from noob_cloud.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "the-token-of-schemathesis"
FRAME = "application/vnd.noob-cloud.frame"
SPEC = chain(
    "schemathesis",
    both=node("add", "left=src.index", "right=src.index"),
    bad=node("fail_at", "value=src.index"),
    out=result("sum=both.value"),
)

load_all_checks()


@schemathesis.serializer(FRAME)
def _frame(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The application, started, with its document."""
    app = create_app(
        WorkerSettings(
            tokens=TokenBook({TOKEN: Identity("fuzz", "admin")}),
            tube=TubeSource.of(SPEC),
            allowed_modules=("noob_cloud_testnodes",),
            max_tasks=4,
            max_body=10_000,
            task_timeout=5.0,
            isolate=False,
        )
    )
    with TestClient(app):
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


ROUTES = [
    ("/health", "GET"),
    ("/metrics", "GET"),
    ("/tasks", "GET"),
    ("/execute", "POST"),
    ("/load_tube", "POST"),
    ("/cancel/{task_id}", "POST"),
]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_keeps_its_promises(
    api: Any, path: str, method: str, mode: schemathesis.GenerationMode
) -> None:
    """No failure of the server, only documented answers, of the documented form."""
    operation = api[path][method]
    if mode is MODES[1] and not (operation.body or operation.query or operation.path_parameters):
        pytest.skip("the route takes nothing that could be wrong")
    kept_out = [
        CHECKS.get_one("positive_data_acceptance"),  # of all bytes few are a frame
        CHECKS.get_one("ignored_auth"),  # see the next test
    ]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=kept_out
        )

    check()


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_wants_a_token(api: Any, path: str, method: str) -> None:
    """Whatever is sent, without a token every route but /health is 401."""

    @given(case=api[path][method].as_strategy())
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": "Bearer not-a-token-of-this-worker"})
        assert answer.status_code == (200 if path == "/health" else 401)

    check()
