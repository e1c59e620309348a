"""The Rust core is used where it fits, left aside where it does not, and never needed."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from noob_cloud import native


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("noob_cloud_core")
    module.__version__ = "0.1.0"  # type: ignore[attr-defined]
    module.INTERFACE = native.INTERFACE  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "noob_cloud_core", module)
    return module


def test_a_core_of_this_interface_is_used(installed: ModuleType):
    assert native._find("") == (installed, "noob_cloud_core 0.1.0")
    assert native._find("1") == (installed, "noob_cloud_core 0.1.0")


def test_a_core_is_left_aside_when_told(installed: ModuleType):
    assert native._find("0") == (None, "left aside: NOOB_CLOUD_NATIVE=0")


def test_a_core_of_another_interface_is_left_aside(installed: ModuleType):
    installed.INTERFACE = native.INTERFACE + 1  # type: ignore[attr-defined]
    found, why = native._find("")
    assert found is None
    assert why == "left aside: it offers interface 2, this package asks for 1"
    with pytest.raises(ImportError, match="offers interface 2"):
        native._find("1")


def test_the_absence_of_the_core_is_an_error_only_when_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "noob_cloud_core", None)  # as if it could not be imported
    found, why = native._find("")
    assert found is None
    assert why.startswith("not installed")
    with pytest.raises(ImportError, match="NOOB_CLOUD_NATIVE=1 asks for the Rust core"):
        native._find("1")
