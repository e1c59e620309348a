"""`python -m noob_cloud.runner.worker_server`: serve a machine's cores to tubes, over HTTP.

Its modules are imported when it runs, so that importing this one costs nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noob_cloud.upstream import quieten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from noob_cloud.worker.settings import WorkerSettings

_LOOPBACK = "127.0.0.1"
_CONTAINER = "ECS_CONTAINER_METADATA_URI_V4"
_POOL = "noob:pool-"


def arguments() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="python -m noob_cloud.runner.worker_server",
        description="Run stages of noob tubes for whoever holds a token.",
    )
    add = parser.add_argument
    add("--host", default=_LOOPBACK, help="address to listen on (default %(default)s)")
    add("--port", type=int, default=8000, help="port; 0 takes a free one and says which")
    add("--tube", help="a tube (path or id) to load before the first request")
    add("--max-tasks", type=_positive, default=os.cpu_count() or 1, help="tasks at once")
    add(
        "--worker-id",
        help="name in messages and metrics (default: host and port; in ECS pool and id)",
    )
    add("--tags", type=_words, default=frozenset(), help="what this machine offers: gpu,cuda")
    add("--token", help="the token to ask for; NOOB_CLOUD_TOKEN keeps it out of `ps`")
    add("--token-file", type=Path, help="TOML file of scoped tokens")
    add(
        "--allow-module",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that tubes sent here may import, with what is below it; repeat",
    )
    add("--task-timeout", type=float, default=300.0, help="seconds for a task that names none")
    add("--max-body", type=_positive, default=256, help="largest request body, in MiB")
    add("--drain-seconds", type=float, default=30.0, help="time to finish at shutdown")
    add("--threads", action="store_true", help="run nodes in threads instead of processes")
    add(
        "--coordinator",
        metavar="URL",
        help="also pull tasks from this coordinator; s3://BUCKET/PREFIX of its replica finds it",
    )
    add("--tagged-only", action="store_true", help="with --coordinator: take no untagged task")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, Ctrl-C or `POST /shutdown`; return the exit status."""
    options = arguments().parse_args(argv)
    quieten()
    try:
        settings = _settings(options)
        listener = _listen(_host(options.host, settings), options.port)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    with listener:
        _announce(options, settings, listener)
        from noob_cloud.worker.serving import WorkerServer  # noqa: PLC0415 - as above

        return 0 if WorkerServer(settings).serve_on(listener) else 1


def _settings(options: Namespace) -> WorkerSettings:
    from noob_cloud.identity import TokenBook  # noqa: PLC0415 - see the module's docstring
    from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - see the module's docstring
    from noob_cloud.worker.settings import WorkerSettings  # noqa: PLC0415 - see above

    name = options.worker_id or name_of(options, os.environ)
    if options.tube is not None and Path(options.tube).exists():
        sys.path.insert(0, str(Path(options.tube).resolve().parent))  # its modules lie beside it
    return WorkerSettings(
        tokens=TokenBook.from_settings(token=options.token, token_file=options.token_file),
        worker_id=name,
        tags=options.tags,
        tube=None if options.tube is None else TubeSource.of(_tube(options.tube)),
        allowed_modules=tuple(options.allow_module),
        max_tasks=options.max_tasks,
        max_body=options.max_body * 1024 * 1024,
        task_timeout=options.task_timeout or None,
        drain_seconds=options.drain_seconds,
        isolate=not options.threads,
        coordinator=options.coordinator,
        coordinator_token=options.token,
        accept_untagged=not options.tagged_only,
    )


def name_of(options: Namespace, environ: Mapping[str, str]) -> str:
    """Return a worker's name: host and port; of a container of ECS its pool and its own id.

    The id ends the address of the container's metadata. Hosts are shared: two containers on one
    instance may be told one host name.
    """
    container = environ.get(_CONTAINER, "").rstrip("/").rpartition("/")[2]
    if not container:
        return f"{socket.gethostname()}-{options.port or os.getpid()}"
    pools = sorted(tag.removeprefix(_POOL) for tag in options.tags if tag.startswith(_POOL))
    return f"{pools[0] if pools else 'worker'}-{container[:12]}"


def _tube(name: str) -> Any:
    return Path(name) if Path(name).exists() else name


def _host(host: str, settings: WorkerSettings) -> str:
    if settings.tokens.generated is None or _is_loopback(host):
        return host
    sys.stderr.write(
        f"No token was given, so this worker listens on {_LOOPBACK} and not on {host}: set "
        "NOOB_CLOUD_TOKEN (or --token-file) to be reached from other machines.\n"
    )
    return _LOOPBACK


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _announce(options: Namespace, settings: WorkerSettings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    lines = [f"noob-cloud worker {settings.worker_id} listens on http://{shown}:{port}"]
    if settings.tags:
        lines.append(f"tags: {', '.join(sorted(settings.tags))}")
    if settings.tokens.generated is not None:
        lines.append(f"token for this run, shown once: {settings.tokens.generated}")
    if not settings.modules:
        lines.append("no module is allowed yet: use --allow-module MODULE, or --tube TUBE")
    if options.coordinator:
        lines.append(f"pulls from {options.coordinator}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{number} is less than 1")
    return number


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


if __name__ == "__main__":
    sys.exit(main())
