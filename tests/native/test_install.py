"""What happens where the Rust core cannot be built."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SCRIPT = Path(__file__).parents[2] / "native" / "install.py"


def test_a_build_that_fails_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python serves where a compiler breaks: the exit code is 0, and no stamp marks a build."""
    spec = importlib.util.spec_from_file_location("native_install", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    maturin = tmp_path / "maturin"
    maturin.write_text("#!/bin/sh\necho linker exploded\nexit 101\n")
    maturin.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["install.py", str(tmp_path / "stamp")])
    monkeypatch.setattr(install, "lacking", lambda: None)

    code = install.main()

    said = capsys.readouterr().out
    assert code == 0
    assert "linker exploded" in said
    assert "The paths in Python serve" in said
    assert not (tmp_path / "stamp").exists()
