"""The `noob-cloud` command: run tubes here or elsewhere, and serve, watch and mend the queue."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the exit code says how it went (see `noob_cloud.cli.errors`)."""
    try:
        from noob_cloud.cli.app import run_app  # noqa: PLC0415 - the library works without it
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(
            f"noob-cloud needs {error.name} for its command line: pip install 'noob-cloud[cli]'\n"
        )
        sys.exit(2)
    sys.exit(run_app())


if __name__ == "__main__":
    main()
