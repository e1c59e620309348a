"""What the parts of a deployment are called, so that stacks need not import it of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALIAS: Final = "live"
"""Of the published version of a function that is invoked."""
REPLICA: Final = "coordinator"
"""Prefix in the bucket of the replica, its lease and its blobs."""
INBOX: Final = "inbox"
"""Prefix in the bucket of what users upload."""
OUTBOX: Final = "outbox"
"""Prefix in the bucket of what users' nodes write."""
PORT: Final = 8080
"""Of the coordinator."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one deployment."""

    deployment: str

    def stack(self, part: str) -> str:
        """Return the name of a stack."""
        return f"{self.deployment}-{part}"

    def function(self, pool: str, size: int) -> str:
        """Return the name of the Lambda worker of a size, in MiB."""
        return f"{self.deployment}-{pool}-{size}"

    def service(self, pool: str) -> str:
        """Return the name of a service."""
        return f"{self.deployment}-{pool}"

    @property
    def cluster(self) -> str:
        """Of the coordinator and of the workers on Fargate."""
        return self.deployment

    def gpu_cluster(self, pool: str) -> str:
        """Return the name of the cluster of a pool's instances."""
        return f"{self.deployment}-{pool}"

    @property
    def submit(self) -> str:
        """The function that turns events into runs."""
        return f"{self.deployment}-submit"

    @property
    def chain(self) -> str:
        """The function that turns a contract's events into tasks."""
        return f"{self.deployment}-chain"

    @property
    def events(self) -> str:
        """The queue of events."""
        return f"{self.deployment}-events"

    @property
    def dead_events(self) -> str:
        """The queue of the events that could not be submitted."""
        return f"{self.deployment}-events-dead"

    def log_group(self, part: str) -> str:
        """Return the name of the log group of a part."""
        return f"/noob-cloud/{self.deployment}/{part}"

    def parameter(self, name: str) -> str:
        """Return the name of a parameter in SSM."""
        return f"/noob-cloud/{self.deployment}/{name}"
