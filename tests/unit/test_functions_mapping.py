"""The file that says which event starts which run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noob_cloud.exceptions import MappingError
from noob_cloud.serverless.mapping import Mapping, check

if TYPE_CHECKING:
    from pathlib import Path


def mapping(folder: Path, text: str) -> Mapping:
    path = folder / "events.toml"
    path.write_text(text)
    return Mapping.load(path)


def test_object_starts_by_prefix_and_suffix(tmp_path: Path) -> None:
    """An object starts what names its prefix and its suffix, and nothing else."""
    (entry,) = mapping(tmp_path, '[[on]]\ns3 = "in/"\nsuffix = ".png"\ntube = "t.yaml"').on

    assert entry.takes("s3", {"key": "in/a.png"})
    assert not entry.takes("s3", {"key": "in/a.txt"})
    assert not entry.takes("s3", {"key": "out/a.png"})
    assert not entry.takes("schedule", {"schedule": "rate(1 hour)"})


def test_inputs_take_fields(tmp_path: Path) -> None:
    """A field alone keeps its type; inside a text it is written into it."""
    text = '[[on]]\nqueue = "go"\ntube = "t.yaml"\ninputs = {a = "{n}", b = ["n={deep.er}"], c = 3}'
    (entry,) = mapping(tmp_path, text).on

    found = entry.inputs_of({"n": 7, "deep": {"er": 1.5}})

    assert found == {"a": 7, "b": ["n=1.5"], "c": 3}


def test_field_that_the_event_lacks(tmp_path: Path) -> None:
    """An input that names a field which the event has not is an error that lists those it has."""
    (entry,) = mapping(
        tmp_path, '[[on]]\nqueue = "go"\ntube = "t.yaml"\ninputs = {a = "{nmae}"}'
    ).on

    with pytest.raises(MappingError, match=r"no 'nmae', only id, name"):
        entry.inputs_of({"name": 1, "id": 2})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "on: Field required"),
        ('[[on]]\ntube = "t.yaml"', "on.0: needs exactly one of s3, schedule, event, queue"),
        ('[[on]]\ns3 = "a/"\nqueue = "b"\ntube = "t.yaml"', "on.0: needs exactly one"),
        ('[[on]]\ns3 = "a/"', "on.0.tube: Field required"),
        ('[[on]]\ns3 = "a/"\ntube = "t.yaml"\ninput = {}', "on.0.input: Extra inputs"),
        ('[[on]]\nschedule = "hourly"\ntube = "t.yaml"', "on.0.schedule: String should match"),
        ('[[on]]\nqueue = "a"\ntube = "../t.yaml"', "to lie beside this file"),
        ('[[on]]\nqueue = "a"\ntube = "t.yaml"\ninputs = {}\nn = 3', "inputs are of one epoch"),
        ('[[on]]\nqueue = "a"\nsuffix = "x"\ntube = "t.yaml"', "suffix goes with s3"),
        ('[[on]]\nqueue = "schedule"\ntube = "t.yaml"', "are those of schedules"),
        ('[[on]]\nevent = {}\ntube = "t.yaml"', "every event there is"),
        ('[[on]]\nqueue = "a"\ntags = ["noob:x"]\ntube = "t.yaml"', "are ours: ['noob:x']"),
        ('[[on]]\nqueue = "a"\ntube = "handler.py"', "neither a YAML file nor a cid"),
        ("[[on", "cannot be read"),
    ],
)
def test_wrong_mapping_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is named with its place."""
    with pytest.raises(MappingError) as raised:
        mapping(tmp_path, text)

    assert said in str(raised.value)


def test_tubes_beside_the_mapping_are_found(tmp_path: Path) -> None:
    """What is deployed is the mapping, its tubes and their placements; a missing one is said."""
    (tmp_path / "tubes").mkdir()
    (tmp_path / "tubes" / "a.yaml").write_text("{}")
    (tmp_path / "tubes" / "a.cloud.yaml").write_text("{}")
    path = tmp_path / "events.toml"
    path.write_text('[[on]]\nqueue = "a"\ntube = "tubes/a.yaml"')

    assert sorted(check(path)) == ["events.toml", "tubes/a.cloud.yaml", "tubes/a.yaml"]

    path.write_text('[[on]]\nqueue = "a"\ntube = "./tubes/./a.yaml"')
    assert sorted(check(path)) == ["events.toml", "tubes/a.cloud.yaml", "tubes/a.yaml"]

    path.write_text('[[on]]\nqueue = "a"\ntube = "b.yaml"')
    with pytest.raises(MappingError, match=r"on\.0\.tube: there is no b\.yaml"):
        check(path)


def test_pattern_of_events(tmp_path: Path) -> None:
    """An event of EventBridge starts what its pattern fits, other patterns' entries do not."""
    text = '[[on]]\nevent = {source = ["my.app"], detail = {kind = ["a", "b"]}}\ntube = "t.yaml"'
    (entry,) = mapping(tmp_path, text).on

    assert entry.takes("event", {"source": "my.app", "detail": {"kind": "b"}})
    assert not entry.takes("event", {"source": "my.app", "detail": {"kind": "c"}})
    assert not entry.takes("event", {"source": "other"})
