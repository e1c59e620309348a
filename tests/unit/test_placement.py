"""Where nodes may run: what a placement accepts, and how it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from noob import Tube

from noob_cloud.exceptions import PlacementError
from noob_cloud.placement import NodePlacement, Placement, schema

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tube() -> Tube:
    return Tube.from_specification(
        {
            "noob_id": "placed",
            "nodes": {
                "source": {"type": "noob_cloud_testnodes.counter"},
                "detect": {
                    "type": "noob_cloud_testnodes.double",
                    "depends": [{"value": "source.index"}],
                },
            },
        }
    )


def test_node_without_entry_runs_anywhere() -> None:
    """A node that the placement does not name runs anywhere."""
    assert Placement()["detect"] == NodePlacement()


def test_every_field_is_read(tube: Tube) -> None:
    """Each field of an entry arrives with its unit."""
    placed = Placement.of(
        {
            "detect": {
                "affinity": ["gpu", "cuda"],
                "required": "big",
                "timeout": 30,
                "memory": "2GiB",
                "retries": 0,
                "concurrency": 4,
                "deterministic": True,
            }
        },
        tube=tube,
    )["detect"]

    assert placed == NodePlacement(
        affinity=frozenset({"gpu", "cuda"}),
        required=frozenset({"big"}),
        timeout=30.0,
        memory=2 * 2**30,
        retries=0,
        concurrency=4,
        deterministic=True,
    )


def test_short_form_adds_affinity(tube: Tube) -> None:
    """`affinity=` adds tags to what the placement says."""
    placed = Placement.of(
        {"detect": {"affinity": ["cuda"], "timeout": 1}}, tube=tube, affinity={"detect": ["gpu"]}
    )["detect"]

    assert placed.affinity == {"gpu", "cuda"}
    assert placed.timeout == 1.0


def test_file_beside_the_tube_is_read(tmp_path: Path, tube: Tube) -> None:
    """NAME.cloud.yaml is found beside NAME.yaml; where there is none, nodes run anywhere."""
    (tmp_path / "placed.cloud.yaml").write_text("nodes:\n  detect:\n    affinity: [gpu]\n")

    assert Placement.beside(tmp_path / "placed.yaml")["detect"].affinity == {"gpu"}
    assert len(Placement.beside(tmp_path / "other.yaml")) == 0
    assert Placement.of(tmp_path / "placed.cloud.yaml", tube=tube)["detect"].affinity == {"gpu"}


def test_document_reads_back() -> None:
    """What a placement says in plain values reads back as itself."""
    placement = Placement.of({"a": {"affinity": ["y", "x"], "memory": "1MB"}, "b": None})

    assert placement.document() == {"a": {"affinity": ["x", "y"], "memory": 10**6}, "b": {}}
    assert Placement.of(placement.document()) == placement


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"gpu": True}, "gpu of detect is not a field; the fields are affinity"),
        ({"timeout": 0}, "timeout of detect is 0; write seconds above 0 up to 604800"),
        ({"timeout": True}, "timeout of detect is True"),
        ({"memory": "lots"}, "write bytes, or a size such as 2GiB"),
        ({"memory": 0}, "memory of detect is 0"),
        ({"retries": 101}, "retries of detect is 101; write a whole number from 0 to 100"),
        ({"concurrency": 0}, "concurrency of detect is 0; write a whole number from 1"),
        ({"affinity": ["has space"]}, "a tag is 1 to 64 letters"),
        ({"affinity": [f"t{i}" for i in range(33)]}, "has 33 tags; at most 32"),
        ({"required": 7}, "write a list of tags"),
        ({"deterministic": "yes"}, "write true or false"),
        ("gpu", "write a mapping of affinity"),
    ],
)
def test_bad_entry_is_refused(entry: object, says: str, tube: Tube) -> None:
    """A bad entry names the node, the field, the limit and the way out."""
    with pytest.raises(PlacementError, match="detect") as caught:
        Placement.of({"detect": entry}, tube=tube)

    assert says in str(caught.value)


def test_unknown_node_is_refused(tube: Tube) -> None:
    """A node that the tube has not is refused, with the nodes that it has."""
    with pytest.raises(PlacementError, match=r"'detekt'.*detect, source"):
        Placement.of({"detekt": {}}, tube=tube)


def test_stateful_node_with_tags_is_refused(tube: Tube) -> None:
    """A stateful node runs where the runner runs: tags on it could not be kept."""
    with pytest.raises(PlacementError, match=r"source.*stateful: false"):
        Placement.of({"source": {"affinity": ["gpu"]}}, tube=tube)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nodes: [", "is not YAML"),
        ("- a", "holds a list"),
        ("node: {}", "unknown key 'node'"),
    ],
)
def test_bad_file_is_refused(text: str, says: str, tmp_path: Path) -> None:
    """A file that is no placement says what it is and what to write."""
    path = tmp_path / "bad.cloud.yaml"
    path.write_text(text)

    with pytest.raises(PlacementError, match=says):
        Placement.load(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A path that cannot be read is named."""
    with pytest.raises(PlacementError, match=r"none\.cloud\.yaml cannot be read"):
        Placement.load(tmp_path / "none.cloud.yaml")


def test_empty_file_places_nothing(tmp_path: Path) -> None:
    """An empty file is a placement without entries."""
    path = tmp_path / "empty.cloud.yaml"
    path.write_text("")

    assert len(Placement.load(path)) == 0


def test_schema_names_every_field() -> None:
    """The editors' schema has the fields that a placement reads, and no others."""
    entry = schema()["properties"]["nodes"]["additionalProperties"]

    assert set(entry["properties"]) == set(NodePlacement.__dataclass_fields__)
    assert entry["additionalProperties"] is False
