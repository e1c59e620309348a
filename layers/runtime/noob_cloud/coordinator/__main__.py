"""`python -m noob_cloud.coordinator`: serve, with every setting from NOOB_CLOUD_*."""

from __future__ import annotations

import sys

from noob_cloud.coordinator import CoordinatorSettings, serve
from noob_cloud.upstream import quieten

_INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C ended."""


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    quieten()
    settings = CoordinatorSettings()

    def say(url: str) -> None:
        sys.stdout.write(f"noob-cloud coordinator listens on {url}\n")
        if settings.tokens.generated is not None:
            sys.stdout.write(f"token for this run, shown once: {settings.tokens.generated}\n")
        sys.stdout.flush()

    try:
        serve(settings, on_start=say)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
