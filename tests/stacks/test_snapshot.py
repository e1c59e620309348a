"""The templates as they were last looked at.

What changes them on purpose writes them anew, and the difference is read before it is committed:

    NOOB_CLOUD_WRITE_SNAPSHOTS=1 python -m pytest tests/stacks/test_snapshot.py
"""

from __future__ import annotations

import json
import os
import re
from copy import deepcopy
from pathlib import Path

import pytest

from infra.archives import ROOT

FOLDER = Path(__file__).parent / "snapshots"
PARTS = ("storage", "coordinator", "workers", "gpu", "events", "chain", "observe")


@pytest.mark.parametrize("part", PARTS)
def test_template_is_what_it_was(documents, part):
    """A change of a template is seen where it is reviewed."""
    told = _settled(documents[part])
    path = FOLDER / f"{part}.json"
    if os.environ.get("NOOB_CLOUD_WRITE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(told, encoding="utf-8")

    assert told == path.read_text(encoding="utf-8"), (
        "NOOB_CLOUD_WRITE_SNAPSHOTS=1 writes it anew; read the difference before it is committed"
    )


def _settled(document):
    """Return a template without what follows from the bytes of archives."""
    document = deepcopy(document)
    for resource in document["Resources"].values():
        resource.pop("Metadata", None)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    boot = json.dumps((ROOT / "infra" / "boot.py").read_text(encoding="utf-8"))
    text = text.replace(boot, '"(infra/boot.py)"')
    text = re.sub(r"(CurrentVersion[0-9A-F]{8})[0-9a-f]{32}", r"\1", text)
    return re.sub(r"\b[0-9a-f]{64}\b", "(hash)", text) + "\n"
