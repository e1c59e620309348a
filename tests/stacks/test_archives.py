"""Archives that are the same bytes for the same files."""

from __future__ import annotations

import os
from zipfile import ZipFile

import pytest

from infra.archives import image, pack, sha256


def test_the_same_files_are_the_same_bytes(tmp_path):
    """Neither times nor the order of the folder are in an archive, so nothing is deployed anew."""
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, names in ((first, "xy"), (second, "yx")):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    os.utime(second / "x", (1, 1))

    one = pack("one", (first,), tmp_path / "out")
    two = pack("two", (second,), tmp_path / "out")

    assert sha256(one) == sha256(two)


def test_our_handler_is_not_replaced(tmp_path):
    """Of two files with one name the first part's is taken; programs stay programs."""
    ours, user = tmp_path / "ours", tmp_path / "user"
    for folder in (ours, user):
        folder.mkdir()
        (folder / "handler.py").write_text(folder.name)
    (user / "run").write_text("#!/bin/sh\n")
    (user / "run").chmod(0o755)
    (user / "__pycache__").mkdir()
    (user / "__pycache__" / "x.pyc").write_text("")

    packed = pack("worker", (ours, pack("user", (user,), tmp_path)), tmp_path / "out")

    with ZipFile(packed) as archive:
        assert archive.namelist() == ["handler.py", "run"]
        assert archive.read("handler.py") == b"ours"
        assert archive.getinfo("run").external_attr >> 16 & 0o111


def test_images_are_pinned():
    """Each Python has an image by its digest, and one that has none is said."""
    assert image("3.13").startswith("public.ecr.aws/docker/library/python@sha256:")
    with pytest.raises(ValueError, match=r"no image of Python 2\.7"):
        image("2.7")
