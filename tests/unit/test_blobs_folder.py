"""What a process that is killed leaves in a folder of blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noob_cloud.blobs import FolderStore, folder

if TYPE_CHECKING:
    from pathlib import Path


class _Killed(BaseException):
    """The process ends here."""


def test_blob_survives_a_process_that_is_killed_while_it_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stored again meanwhile, and lay aside when the process ended."""
    store = FolderStore(tmp_path)
    name = store.put(b"needed")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", _die)
        with pytest.raises(_Killed):
            store.delete(name, stored_before=0.0)
    assert not store.has(name)
    list(store.list())
    assert not store.has(name)  # somebody may be at it

    monkeypatch.setattr(folder, "_ABANDONED", -1.0)
    assert [blob.cid for blob in store.list()] == [name]
    assert store.get(name) == b"needed"
    assert not list((tmp_path / ".new").iterdir())


def test_what_is_left_of_a_write_or_stored_anew_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    name = store.put(b"whole")
    left = tmp_path / ".new"
    (left / f"{name}.0").write_bytes(b"old")
    (left / "half").write_bytes(b"ha")

    monkeypatch.setattr(folder, "_ABANDONED", -1.0)
    list(store.list())
    assert not list(left.iterdir())
    assert store.get(name) == b"whole"


def _die(*_: object) -> None:
    raise _Killed
