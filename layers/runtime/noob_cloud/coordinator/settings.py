"""How a coordinator is started: arguments, or NOOB_CLOUD_* in the environment."""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from noob_cloud.coordinator.pools import PoolsSettings
from noob_cloud.identity import TokenBook

MIB = 1 << 20
_PLACE = re.compile(r"s3://[^/?\s]+")


class CoordinatorSettings(BaseSettings):
    """Where a coordinator listens, what it keeps where, and what a request may cost."""

    model_config = SettingsConfigDict(
        env_prefix="NOOB_CLOUD_",
        extra="ignore",
        env_ignore_empty=True,
        ignored_types=(cached_property,),
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    """0: any free one."""
    url: str | None = None
    """Where others reach it, which its lease tells them; by default the host and the port."""
    db_path: Path | None = Path("noob-cloud.db")
    """The queue's file; None: in memory, lost with the process."""
    blob_dir: Path | None = None
    """Folder of large values, of this queue alone: what nothing in the queue names is removed. By
    default beside the queue's file."""
    token: SecretStr | None = None
    """The owner's token, for everything."""
    token_file: Path | None = None
    """TOML file of scoped tokens (`noob_cloud.identity.read`)."""
    synchronous: Literal["OFF", "NORMAL", "FULL"] = "NORMAL"
    """FULL: a commit survives the loss of power, at a hundredth of the speed."""
    epoch: int = Field(default=0, ge=0, lt=1 << 30)
    """Epoch of this coordinator, for its fencing tokens."""
    replica: str | None = None
    """`s3://bucket/prefix`, with `?endpoint_url=` for another S3 than AWS's: every commit is copied
    there, and the newest state is restored from there at the start. `db_path` then says only where
    the copy being served lies."""
    ack: Literal["replicated", "local"] = "replicated"
    """With a replica: when an answer leaves, after its commit is in S3, or after the local one."""
    replica_lease_seconds: float = Field(default=10.0, ge=1.0, le=300.0)
    """How long a coordinator trusts its right to serve the replica, in seconds."""
    replica_kept_hours: float = Field(default=7 * 24.0, ge=1.0)
    """How far back the replica can be restored to a point in time, in hours."""
    lease_seconds: float = Field(default=60.0, gt=0)
    max_body: int = Field(default=64 * MIB, gt=0)
    """Bytes of a request's body."""
    max_blob: int = Field(default=1024 * MIB, gt=0)
    """Bytes of an uploaded blob."""
    presign_bytes: int = Field(default=4 * MIB, ge=0)
    """Larger blobs that lie in S3 are fetched from there, by a URL that is good for minutes."""
    max_bodies: int = Field(default=2048 * MIB, gt=0)
    """Bytes of all the large bodies that are under way or being worked on."""
    max_batch: int = Field(default=10_000, gt=0)
    """Tasks that one request may submit, claim or settle."""
    max_wait: float = Field(default=25.0, ge=0)
    """Longest poll, in seconds: under the 30 s of common gateways."""
    worker_timeout: float = Field(default=90.0, gt=0)
    """Seconds of silence after which a worker counts as lost."""
    run_takeovers: int = Field(default=20, ge=0)
    """How often a run may lose its driver before it fails."""
    run_timeout: float = Field(default=7 * 86_400.0, gt=0)
    """Longest time that one driver may drive a run, in seconds."""
    runs_kept_hours: float = Field(default=30 * 24.0, ge=1.0)
    """How long a run that ended is known, with its results, in hours."""
    pools: PoolsSettings | None = None
    """Where workers can be had, and for how much: JSON. Without it the coordinator takes every
    task, and starts no worker."""
    pools_file: Path | None = None
    """The same from a TOML or JSON file."""
    scale_pools: bool = True
    """Whether to start workers and scale services; otherwise pools only say where tasks may run."""
    deployment: str | None = None
    """Name of the deployment, for metrics."""
    emf: bool = False
    """Write metrics to standard output once a minute, as CloudWatch reads them."""
    drain_seconds: float = Field(default=10.0, ge=0)
    """How long requests may take to end when the coordinator shuts down."""
    client_clock: bool = False
    """Tests only: take the time from a request's Noob-Now header."""

    @model_validator(mode="after")
    def _check_replica(self) -> CoordinatorSettings:
        if self.replica is not None and not _PLACE.match(self.replica):
            raise ValueError(
                f"The replica {self.replica!r} is no place like s3://bucket/prefix, perhaps with"
                " ?endpoint_url=http://... behind it."
            )
        if self.replica is not None and self.db_path is None:
            raise ValueError("A replica is of a file: give db_path, the place of the copy served.")
        return self

    @model_validator(mode="after")
    def _choose_blob_dir(self) -> CoordinatorSettings:
        if self.blob_dir is None and self.db_path is not None:
            self.blob_dir = self.db_path.with_name(f"{self.db_path.name}.blobs")
        return self

    @model_validator(mode="after")
    def _read_pools(self) -> CoordinatorSettings:
        if self.pools_file is not None and self.pools is None:
            try:
                self.pools = PoolsSettings.load(self.pools_file)
            except OSError as error:
                raise ValueError(f"{self.pools_file} cannot be read: {error.strerror}") from error
        return self

    @cached_property
    def tokens(self) -> TokenBook:
        """Who may ask for what; a token is made if none was given.

        Raises:
            ValueError: a token is too short, or the token file is not well formed.
        """
        token = None if self.token is None else self.token.get_secret_value()
        return TokenBook.from_settings(token=token, token_file=self.token_file)

    def check_exposed(self) -> None:
        """Refuse to listen beyond this machine with a token that only this terminal has seen.

        Raises:
            ValueError: no token was given, and the host is not a loopback address.
        """
        if self.tokens.generated is not None and not _is_loopback(self.host):
            raise ValueError(
                f"Without a token the coordinator listens on 127.0.0.1 only, not on {self.host}."
                " Set NOOB_CLOUD_TOKEN (openssl rand -hex 32), or give a token file."
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
