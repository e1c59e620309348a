"""`python -m noob_cloud.coordinator`: serve, with every setting from NOOB_CLOUD_*."""

from __future__ import annotations

import sys

from noob_cloud.coordinator import CoordinatorSettings, serve
from noob_cloud.upstream import quieten


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    quieten()
    settings = CoordinatorSettings()

    def say(url: str) -> None:
        sys.stdout.write(f"noob-cloud coordinator listens on {url}\n")
        if settings.tokens.generated is not None:
            sys.stdout.write(f"token for this run, shown once: {settings.tokens.generated}\n")
        sys.stdout.flush()

    serve(settings, on_start=say)


if __name__ == "__main__":
    main()
