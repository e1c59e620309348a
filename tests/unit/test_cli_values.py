"""Values on their way into and out of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.feed import read_feed, write_results
from noob_cloud.cli.runners import Address, workers_of
from noob_cloud.cli.values import inputs, plain, short, tags
from noob_cloud.task import TaskPriority, TaskStatus


def test_inputs_are_json_where_they_are_json():
    """A value is JSON if it parses, else text; objects are merged in the order given."""
    given = ["n=3", "name=coins", "names=[1, 2]", "flag=true", "text=a=b", '{"n": 4, "x": null}']

    assert inputs(given) == {
        "n": 4,
        "name": "coins",
        "names": [1, 2],
        "flag": True,
        "text": "a=b",
        "x": None,
    }


@pytest.mark.parametrize("pair", ["n", "=3", "two words=1", "{not json", "1x=2"])
def test_inputs_that_make_no_sense_are_named(pair: str):
    """What is wrong with an input is said with the input in it."""
    with pytest.raises(UsageError, match="--input") as caught:
        inputs([pair])

    assert pair in str(caught.value)


def test_tags_by_comma():
    """Blanks and empty places are left out."""
    assert tags(" gpu, cuda,,") == ["gpu", "cuda"]
    assert tags(None) == []


@dataclass
class _Point:
    x: int
    where: Path


def test_plain_turns_anything_into_json():
    """Arrays, enums, dataclasses, sets, bytes and paths have a place in JSON."""
    value = {
        "array": np.arange(4).reshape(2, 2),
        "scalar": np.float32(0.5),
        "point": _Point(1, Path("a/b")),
        "set": {3, 1, 2},
        "bytes": b"\x00\x01",
        "priority": TaskPriority.HIGH,
        TaskStatus.DEAD: (1, None),
        "odd": slice(1),
    }

    assert plain(value) == {
        "array": [[0, 1], [2, 3]],
        "scalar": 0.5,
        "point": {"x": 1, "where": "a/b"},
        "set": [1, 2, 3],
        "bytes": "AAE=",
        "priority": "HIGH",
        "dead": [1, None],
        "odd": "slice(None, 1, None)",
    }


def test_short_outlines_large_values():
    """A table's cell says what a large value is made of, and never spans lines."""
    text = short({"image": np.zeros((3, 4)), "many": list(range(100)), "name": "a\nb"})

    assert text == "{image: array 3x4 float64, many: [100 items], name: 'a\\nb'}"
    assert len(short("x" * 500)) == 100
    assert short("a\n  b") == "a b"


def test_workers_are_a_number_or_addresses():
    """`--workers` is read both ways, and anything else is named."""
    assert workers_of(None) is None
    assert workers_of("8") == 8
    assert workers_of("a:1, https://b:2/+gpu+cuda") == [
        Address("a", 1),
        Address("b", 2, ("gpu", "cuda"), "https"),
    ]
    for text in ("0", "-1", "somewhere", "a:b", "a:1,b"):
        with pytest.raises(UsageError, match="--workers"):
            workers_of(text)


def test_feed_reads_json_lines(tmp_path: Path):
    """One epoch for each line; blank lines are none."""
    file = tmp_path / "epochs.jsonl"
    file.write_text('{"x": 1}\n\n{"x": [2]}\n')

    assert list(read_feed(file)) == [{"x": 1}, {"x": [2]}]


@pytest.mark.parametrize(("text", "said"), [("{", "line 1 is not JSON"), ("\n3\n", "line 2")])
def test_feed_names_the_bad_line(tmp_path: Path, text: str, said: str):
    """A line that is no JSON object is named by its number."""
    file = tmp_path / "epochs.jsonl"
    file.write_text(text)

    with pytest.raises(UsageError, match=said):
        list(read_feed(file))


def test_feed_without_a_file(tmp_path: Path):
    """A file that is not there is a usage error."""
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_feed(tmp_path / "none.jsonl"))


def test_results_are_written_as_a_list_or_by_line(tmp_path: Path):
    """`.jsonl` gets a line for each result, anything else one list."""
    write_results(tmp_path / "a" / "r.jsonl", [1, {"x": 2}])
    write_results(tmp_path / "r.json", [1, {"x": 2}])

    assert (tmp_path / "a" / "r.jsonl").read_text() == '1\n{"x": 2}\n'
    assert (tmp_path / "r.json").read_text() == '[1, {"x": 2}]\n'
    with pytest.raises(UsageError, match="cannot be written"):
        write_results(tmp_path, [])
