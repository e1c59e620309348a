"""`noob-cloud dashboard`: the page of a deployed coordinator, for a browser on this machine."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from noob_cloud.cli import options  # noqa: TC001 - Typer reads the annotations
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen
from noob_cloud.cli.target import locate


def dashboard(
    *,
    deployment: options.Deployment = None,
    coordinator: options.Coordinator = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on this machine; 0: any free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page at once.")
    ] = True,
    token: options.Token = None,
) -> None:
    """Show a deployed coordinator's page, signing its requests with your credentials; Ctrl-C ends.

    Only this machine can reach it, and only with the key in the address that is printed.
    """
    found = locate(coordinator, token, deployment)
    from noob_cloud.proxy import Proxy  # noqa: PLC0415 - loads a server

    transport = found.transport(patience=3.0)
    transport.send("GET", "/stats?seconds=0")  # so that what is wrong is said here
    try:
        proxy = Proxy(transport, port)
    except OSError as error:
        raise UsageError(f"Cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
    with proxy:
        screen.say(f"[green]{found.name or found.url}[/] at {proxy.url}    Ctrl-C ends it")
        if browser:
            webbrowser.open(proxy.url)
        with suppress(KeyboardInterrupt):
            proxy.serve_forever()
