"""`noob-cloud plan`: where nodes would run, how long, and what it would cost, before any launch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from noob_cloud.cli.app import run_app
from noob_cloud.coordinator.client import CoordinatorClient
from noob_cloud.coordinator.estimate import Work, estimate
from noob_cloud.coordinator.pools import PoolsSettings
from noob_cloud.coordinator.prices import Prices
from noob_cloud.coordinator.routing import Router

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TUBE = """\
noob_id: plan-test
noob_model: noob.tube.TubeSpecification
noob_version: 1003.0.2
nodes:
  source:
    type: noob_cloud_testnodes.counter
    params: {start: 0, limit: 30}
  twice:
    type: noob_cloud_testnodes.double
    depends:
      - value: source.index
  again:
    type: noob_cloud_testnodes.double
    depends:
      - value: twice.value
  return:
    type: return
    depends: again.value
"""
POOLS = """
[stack]
name = "demo"

[[pools]]
kind = "lambda"
sizes = [1024, 4096]
timeout_seconds = 600
max_workers = 50

[[pools]]
kind = "fargate"
vcpu = 2
memory = 8192
slots = 2
storage_gib = 40

[[pools]]
name = "gpu"
kind = "ec2"
instance = "g5.xlarge"
tags = ["gpu"]
accept_untagged = false

[budget]
per_day = 0.5
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("NOOB_CLOUD_COORDINATOR", "NOOB_CLOUD_TOKEN", "NOOB_CLOUD_DEPLOYMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "tube.yaml").write_text(TUBE)
    return tmp_path


@pytest.fixture
def cli(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*args: str) -> tuple[int, str, str]:
        code = run_app(["plan", "tube.yaml", *args])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def ask(cli: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    def run(*args: str) -> Any:
        code, out, err = cli(*args, "--json")
        assert code == 0, (out, err)
        return json.loads(out)

    return run


def test_without_anything_it_is_a_new_deployment(ask: Callable[..., Any]) -> None:
    """Its pools are taken, and what is not known is assumed, and said to be."""
    found = ask("-n", "1000")
    source, twice = found["nodes"][:2]
    assert source["place"] is None
    assert twice["name"] == "twice+again"
    assert (twice["place"], twice["memory"], twice["tasks"]) == ("lambda-1024", 1024, 1000)
    assert twice["others"] == ["lambda-4096", "fargate"]
    assert (twice["seconds"], twice["source"]) == (1.0, "assumed")
    assert any("Assumed, not measured: 1 s a task of twice+again" in x for x in found["notes"])
    assert any("those of a new deployment" in x for x in found["notes"])
    assert twice["cost"] == pytest.approx(1000 * 0.0000133334)
    assert found["cost"] > twice["cost"]


def test_a_deployments_settings_and_a_placement(here: Path, ask: Callable[..., Any]) -> None:
    """noob-cloud.toml holds the pools as they are deployed; the placement says who goes where."""
    (here / "noob-cloud.toml").write_text(POOLS)
    (here / "tube.cloud.yaml").write_text(
        "nodes:\n  twice: {required: [gpu], timeout: 3000}\n  again: {memory: 2GiB}\n"
    )
    found = ask("-n", "10", "--seconds", "twice=60", "--seconds", "again=2")
    nodes = {x["name"]: x for x in found["nodes"]}
    assert nodes["twice"]["place"] == "gpu"
    assert nodes["twice"]["source"] == "given"
    assert (nodes["again"]["place"], nodes["again"]["others"]) == ("lambda-4096", ["fargate"])
    crews = {x["place"]: x for x in found["places"]}
    assert crews["gpu"]["price_hour"] == pytest.approx(1.011)  # with its public address
    assert crews["gpu"]["workers"] == 4  # ten minutes of work, and no more workers than that
    assert any("gpu: all of its 4 workers" in x for x in found["notes"])
    assert any("The budget of a day is 0.5 USD" in x for x in found["notes"])


def test_for_a_person(here: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    """A table of nodes, one of workers, one line of what it comes to."""
    (here / "pools.toml").write_text(POOLS)
    code, out, _err = cli("-n", "100", "--pools", "pools.toml", "--seconds", "0.5")
    assert code == 0
    assert "twice + again" in out
    assert "where the run is driven" in out
    assert "lambda-1024" in out
    assert "500 ms given" in out
    assert "About" in out
    assert "$" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("-n", "1", "--seconds", "moon=3"), "no node 'moon'"),
        (("-n", "1", "--seconds", "twice=fast"), "NAME=NUMBER"),
        (("-n", "1", "--items", "twice=0"), "above 0"),
        (("-n", "1", "--pools", "none.toml"), "none.toml cannot be read"),
        (("-n", "1", "--pools", "tube.yaml"), "cannot be read"),
    ],
)
def test_what_makes_no_sense(
    cli: Callable[..., tuple[int, str, str]], args: tuple[str, ...], said: str
) -> None:
    """One sentence, and exit code 2."""
    code, _out, err = cli(*args)
    assert code == 2
    assert said in err


def test_a_node_that_may_run_nowhere(here: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    """Known before the launch, with the pools that there are."""
    (here / "tube.cloud.yaml").write_text("nodes:\n  twice: {required: [tpu]}\n")
    code, _out, err = cli("-n", "1")
    assert code == 2
    assert "No pool offers all of tpu" in err


def test_what_a_coordinator_has_measured(
    ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pools, the times of earlier runs, and what it has learned of nodes."""
    place = {
        "name": "lambda-1024",
        "pool": "lambda",
        "kind": "lambda",
        "memory": 1024,
        "most": 10,
        "slots": 1,
        "tags": [],
        "accept_untagged": True,
        "max_seconds": 900.0,
        "max_memory": 1024.0,
        "price_hour": 0.036,
        "start_price": 0.0,
        "cooldown_seconds": 120.0,
        "burst": 1000.0,
        "starts_per_second": 100.0,
    }
    large = {**place, "name": "lambda-4096", "memory": 4096, "max_memory": 4096.0}
    told = {
        "places": [place, large],
        "money": {"currency": "EUR", "per_day": None, "per_run": None},
        "learned": [{"node_id": "twice+again", "memory": 1024.0, "seconds": 0.0}],
        "target_seconds": 60.0,
        "node_seconds": {"twice+again": 3.5},
    }
    monkeypatch.setattr(CoordinatorClient, "capacity", lambda _self: told)
    found = ask("-n", "2", "--coordinator", "http://127.0.0.1:1", "--token", "t" * 16)
    twice = found["nodes"][1]
    assert (twice["place"], twice["seconds"], twice["source"]) == ("lambda-4096", 3.5, "measured")
    assert found["currency"] == "EUR"
    assert any("Killed before" in x for x in found["notes"])


def test_more_workers_cost_no_more_work_and_end_sooner() -> None:
    """The work's price is the same; only starting and ending is paid for each worker."""
    ends = []
    for most in (1, 10, 100):
        settings = PoolsSettings.model_validate(
            [{"name": "l", "kind": "lambda", "sizes": {1024: "f"}, "max_workers": most}]
        )
        found = estimate(
            [Work("n", seconds=60.0)], settings.places(), Router(settings.routes()), 100
        )
        assert found.rows[0].cost == pytest.approx(100 * 60 * 0.0000133334)
        assert found.places[0].workers == most
        ends.append(found.seconds)
    assert ends == sorted(ends, reverse=True)
    assert ends[-1] == pytest.approx(found.ideal_seconds, abs=5.0)


@pytest.mark.parametrize(
    ("others", "drive"),
    [
        ([], {"l-128"}),
        ([{"name": "o", "kind": "own"}], {"o"}),
        ([{"name": "o", "kind": "own", "accept_untagged": False}], {"l-128"}),
        ([{"name": "o", "kind": "own", "accept_untagged": False, "drives": True}], {"o"}),
    ],
)
def test_who_drives_runs(others: list[dict[str, Any]], drive: set[str]) -> None:
    """Those who stay; Lambdas where there is nobody else."""
    pools = [{"name": "l", "kind": "lambda", "sizes": {128: "f"}}, *others]
    settings = PoolsSettings.model_validate(pools)
    assert {x.name for x in settings.places() if x.drives} == drive
    assert {x.name for x in settings.routes() if x.drives} == drive


def test_the_prices_say_when_and_where() -> None:
    """A date, a region, and a source for each kind of price."""
    prices = Prices.load()
    assert prices.date >= "2025"
    assert prices.region == "us-east-1"
    assert {"lambda", "fargate", "ec2"} <= prices.source.keys()


def test_a_price_that_is_not_known_is_asked_for() -> None:
    """At once, with the way out."""
    pool = {"name": "g", "kind": "ec2", "cluster": "c", "service": "s", "instance": "z9.huge"}
    with pytest.raises(ValueError, match=r"know no 'z9.huge' for the pool g; give it `price"):
        PoolsSettings.model_validate([pool])
    assert PoolsSettings.model_validate([{**pool, "price": 7.2}]).places()[0].price == 0.002


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"kind": "lambda"}, "needs sizes"),
        ({"kind": "lambda", "sizes": {64: "f"}}, "128 to 10240 MiB"),
        ({"kind": "lambda", "sizes": {128: "f"}, "max_seconds": 901}, "900 s at most"),
        ({"kind": "fargate"}, "needs cluster and service"),
        ({"kind": "fargate", "cluster": "c", "service": "s"}, "needs vcpu and memory"),
        (
            {
                "kind": "fargate",
                "cluster": "c",
                "service": "s",
                "vcpu": 1,
                "memory": 1,
                "instance": "g5.xlarge",
            },
            "no GPU",
        ),
        ({"kind": "own", "tags": ["noob:x"]}, "are ours"),
        ({"kind": "own", "min_workers": 11}, "above max_workers=10"),
    ],
)
def test_a_pool_that_cannot_be(pool: dict[str, Any], said: str) -> None:
    """Each setting is refused by a sentence with its value."""
    with pytest.raises(ValueError, match=said):
        PoolsSettings.model_validate([{"name": "p", **pool}])
