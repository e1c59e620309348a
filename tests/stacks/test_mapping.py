"""The file that says which event starts what, as the rules need it."""

from __future__ import annotations

import pytest

from infra.mapping import Mapping


def test_each_kind_is_read(tmp_path):
    """Prefixes, schedules and patterns, each once; messages need no rule."""
    path = tmp_path / "events.toml"
    path.write_text(
        '[[on]]\ns3 = "in/"\n[[on]]\ns3 = "in/"\n[[on]]\nschedule = "cron(0 6 * * ? *)"\n'
        '[[on]]\nevent = { source = ["a"] }\n[[on]]\nqueue = "word"\n'
    )

    mapping = Mapping.load(path)

    assert mapping.prefixes == ("in/",)
    assert mapping.schedules == ("cron(0 6 * * ? *)",)
    assert mapping.patterns == ({"source": ["a"]},)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on = ", "cannot be read"),
        ("x = 1", r"has no \[\[on\]\]"),
        ("[[on]]\ntube = 'x'", r"on\.0 needs one of s3, schedule, event, queue"),
        ("[[on]]\ns3 = 'a'\nqueue = 'b'", "needs one of"),
        ("[[on]]\ns3 = 1", "is a text, not 1"),
        ("[[on]]\nevent = 'x'", "a pattern of EventBridge"),
        ("[[on]]\nschedule = 'daily'", r"is rate\(1 hour\) or cron"),
        ("[[on]]\ns3 = 'coordinator/blobs/'", "the coordinator itself writes"),
        ("[[on]]\ns3 = 'coord'", "the coordinator itself writes"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    """A wrong entry is named, and so is one that would start itself."""
    path = tmp_path / "events.toml"
    path.write_text(text)

    with pytest.raises(ValueError, match=message):
        Mapping.load(path)
