"""The container's way into the coordinator: `python -m main`."""

from __future__ import annotations

from noob_cloud.serverless.coordinator import main

if __name__ == "__main__":
    main()
