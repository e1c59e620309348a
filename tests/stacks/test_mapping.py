"""The rules that a mapping of events needs."""

from __future__ import annotations

import pytest

from infra.mapping import Rules

TUBE = 'tube = "x.yaml"\n'


def test_each_kind_is_read(tmp_path):
    """Prefixes, schedules and patterns, each once; messages need no rule."""
    path = tmp_path / "events.toml"
    entries = (
        's3 = "in/"',
        's3 = "in/"',
        's3 = "pictures*/"\nsuffix = ".png"',
        'schedule = "cron(0 6 * * ? *)"',
        'event = { source = ["a"] }',
        'queue = "word"',
    )
    path.write_text("".join(f"[[on]]\n{entry}\n{TUBE}" for entry in entries))

    rules = Rules.load(path)

    assert rules.uploads == ({"prefix": "in/"}, {"wildcard": "pictures\\*/*.png"})
    assert rules.schedules == ("cron(0 6 * * ? *)",)
    assert rules.patterns == ({"source": ["a"]},)


@pytest.mark.parametrize("prefix", ["coordinator/blobs/", "coordinator/", "coord"])
def test_what_would_start_itself_is_refused(tmp_path, prefix):
    """The coordinator's own prefix starts nothing, and neither does one that holds it."""
    path = tmp_path / "events.toml"
    path.write_text(f'[[on]]\ns3 = "{prefix}"\n{TUBE}')

    with pytest.raises(ValueError, match=r"on\.0\.s3: below .* the coordinator itself writes"):
        Rules.load(path)
