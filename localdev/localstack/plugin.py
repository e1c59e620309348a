"""What LocalStack finds of us, by the entry points in `entry/`; loaded in its environment alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstack.runtime import hooks  # type: ignore[import-not-found]
from localstack.runtime.server.core import (  # type: ignore[import-not-found]
    RuntimeServerPlugin,
)
from localstack.services.lambda_.invocation.plugins import (  # type: ignore[import-not-found]
    RuntimeExecutorPlugin,
)

if TYPE_CHECKING:
    from localdev.localstack.executor import ProcessExecutor
    from localdev.localstack.server import GivenSocketServer

__all__ = ["Executors", "Servers", "put_right"]


@hooks.on_infra_start()  # type: ignore[untyped-decorator] # its types are not here
def put_right() -> None:
    """Put right what LocalStack does wrong."""
    from localdev.localstack import patches  # noqa: PLC0415 - LocalStack loads lazily

    patches.install()


class Executors(RuntimeExecutorPlugin):  # type: ignore[misc] # its types are not here
    """`LAMBDA_RUNTIME_EXECUTOR=noob-cloud`: functions are processes."""

    name = "noob-cloud"

    def load(self, *_args: object, **_options: object) -> type[ProcessExecutor]:
        """Return the executor."""
        from localdev.localstack.executor import (  # noqa: PLC0415 - LocalStack loads lazily
            ProcessExecutor,
        )

        return ProcessExecutor


class Servers(RuntimeServerPlugin):  # type: ignore[misc] # as above
    """`GATEWAY_SERVER=noob-cloud`: listen on the socket that was inherited, and on no other."""

    name = "noob-cloud"

    def load(self, *_args: object, **_options: object) -> GivenSocketServer:
        """Return the server."""
        from localdev.localstack.server import (  # noqa: PLC0415 - as above
            GivenSocketServer,
        )

        return GivenSocketServer()
