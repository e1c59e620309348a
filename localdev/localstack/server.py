"""LocalStack's server on a socket that it inherits: its own listens on every interface."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from localstack.runtime.server.twisted import (  # type: ignore[import-not-found]
    TwistedRuntimeServer,
)
from rolo.serving.twisted import TwistedGateway  # type: ignore[import-not-found]
from twisted.internet import reactor  # type: ignore[import-not-found]

__all__ = ["SOCKET_VARIABLE", "GivenSocketServer"]

SOCKET_VARIABLE: Final = "LOCALDEV_SOCKET"
"""The number of the listening socket's file descriptor."""


class GivenSocketServer(TwistedRuntimeServer):  # type: ignore[misc] # its types are not here
    """Serves LocalStack's gateway there."""

    def register(self, gateway: Any, listen: Any, ssl_creds: Any = None) -> None:
        """Take the socket; what LocalStack would listen on is what it was bound to."""
        del listen, ssl_creds
        number = int(os.environ[SOCKET_VARIABLE])
        os.set_blocking(number, False)  # or the reactor waits for the next to connect
        reactor.adoptStreamPort(number, socket.AF_INET, TwistedGateway(gateway))
        os.close(number)  # twisted has a copy
