"""`python -m localdev.cloud`: AWS's API on this machine, as one process.

A moto server with our CloudFormation types, EventBridge and calls of functions. Below `/_localdev/`
it says what is deployed, for the agent that runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import signal
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["main"]

ACCOUNT: Final = "123456789012"
"""The account of everything: moto's own."""
_OURS: Final = "/_localdev/"


class Application:
    """Answers what is ours; leaves the rest to moto."""

    def __init__(self, moto: Any, region: str) -> None:
        self._moto = moto
        self._region = region

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        path = environ.get("PATH_INFO", "")
        if not path.startswith(_OURS):
            found: Iterable[bytes] = self._moto(environ, start)
            return found
        status, headers, body = self._answer(environ, path.removeprefix(_OURS))
        start(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _answer(  # noqa: PLR0911 - one for each thing that is asked
        self, environ: dict[str, Any], path: str
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        from localdev import schedules, state  # noqa: PLC0415 - moto takes a second to load

        match environ["REQUEST_METHOD"], path.split("/"):
            case "GET", ["state"]:
                body = state.describe(ACCOUNT, self._region)
                tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                if environ.get("HTTP_IF_NONE_MATCH") == tag:
                    return "304 Not Modified", [("ETag", tag)], b""
                return "200 OK", [("ETag", tag), ("Content-Type", "application/json")], body
            case "GET", ["archive", digest]:
                found = state.archive(ACCOUNT, self._region, digest)
                return ("404 Not Found", [], b"") if found is None else ("200 OK", [], found)
            case "POST", ["counts"]:
                length = int(environ.get("CONTENT_LENGTH") or 0)
                told = json.loads(environ["wsgi.input"].read(length))
                state.report(ACCOUNT, self._region, told)
                return "204 No Content", [], b""
            case "POST", ["fire", name]:
                for schedule in state.schedules(ACCOUNT, self._region):
                    if schedule["name"] == name:
                        schedules.fire(schedule, account=ACCOUNT, region=self._region)
                        return "204 No Content", [], b""
                return "404 Not Found", [], f"no schedule is called {name}".encode()
            case "GET", ["recorded"]:
                from localdev.cloudformation import RECORDED  # noqa: PLC0415 - as above

                return "200 OK", [], json.dumps(sorted(RECORDED)).encode()
            case _:
                return "404 Not Found", [], b"nothing is here"


def main(arguments: list[str] | None = None) -> int:
    """Serve on a socket that was inherited, or on a port, until told to stop."""
    parser = argparse.ArgumentParser(prog="localdev.cloud", description=__doc__)
    parser.add_argument("--fd", type=int, help="a listening socket of the parent")
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--agent", required=True, help="URL of the agent that runs functions")
    parser.add_argument("--region", default="us-east-1")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    logging.getLogger("localdev").setLevel(logging.INFO)
    server = _serve(chosen)
    signal.signal(signal.SIGTERM, lambda *_: Thread(target=server.shutdown).start())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it says when to stop
    server.serve_forever()
    return 0


def _serve(chosen: argparse.Namespace) -> Any:
    from werkzeug.serving import make_server  # noqa: PLC0415 - after the arguments

    port = chosen.port
    if chosen.fd is not None:
        import socket  # noqa: PLC0415 - only here

        port = socket.socket(fileno=os.dup(chosen.fd)).getsockname()[1]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": chosen.region,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "MOTO_PORT": str(port),
    }
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - it reads the environment
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )

    from localdev import cloudformation, engine, eventbridge, invoking, queues, schedules  # noqa: PLC0415
    from localdev import resources as resources  # noqa: PLC0414, PLC0415 - registers its types

    os.environ[invoking.AGENT_VARIABLE] = chosen.agent.rstrip("/")
    for part in (cloudformation, engine, eventbridge, invoking, queues):
        part.install()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request says nothing here
    schedules.Scheduler(ACCOUNT, chosen.region).start()
    application = Application(DomainDispatcherApplication(create_backend_app), chosen.region)
    return make_server(
        "127.0.0.1",
        port,
        application,
        threaded=True,
        request_handler=MotoRequestHandler,
        fd=chosen.fd,
    )


if __name__ == "__main__":
    sys.exit(main())
