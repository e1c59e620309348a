"""The coordinator's own queries."""

from __future__ import annotations

from pathlib import Path

from noob_cloud.queue.statements import Statements

SQL = Statements.of(Path(__file__).with_name("coordinator.sql"))
"""The queries of `coordinator.sql`."""
