"""`noob-cloud plan`: where each node of a tube would run, how long, and what it would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group
from rich.text import Text

from noob_cloud.cli import options, tube
from noob_cloud.cli.errors import UsageError
from noob_cloud.cli.screen import screen, table
from noob_cloud.cli.target import open_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noob_cloud.coordinator.capacity import Place
    from noob_cloud.coordinator.estimate import Estimate, Work
    from noob_cloud.coordinator.routing import Router

_MIB: Final = 1 << 20
_HERE: Final = Path("noob-cloud.toml")
_TIMEOUT: Final = 300.0
_SECONDS_A_MINUTE: Final = 60
_MINUTES: Final = 120
_HOURS: Final = 48


@dataclass
class _Ground:
    """What an estimate stands on."""

    places: Sequence[Place]
    router: Router
    pools: str
    """Where the pools come from."""
    prices: str
    currency: str
    target_seconds: float = 60.0
    node_seconds: dict[str, float] = field(default_factory=dict)
    floors: dict[str, tuple[float, float]] = field(default_factory=dict)
    per_day: float | None = None
    per_run: float | None = None


def plan(
    tube_source: options.TubeArgument,
    *,
    n: Annotated[int, typer.Option("-n", min=1, help="Epochs of the run.")],
    inputs: options.Inputs = None,
    placement: Annotated[
        Path | None,
        typer.Option(help="Placement file; by default NAME.cloud.yaml beside the tube."),
    ] = None,
    pools: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="[[pools]] in TOML or JSON; by default noob-cloud.toml here, else the "
            "coordinator's, else those of a new deployment.",
        ),
    ] = None,
    seconds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE=S", help="How long a task of NODE takes; S alone: of every node."
        ),
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(metavar="MAP=N", help="How many items the map node MAP gives in an epoch."),
    ] = None,
    coordinator: options.Coordinator = None,
    deployment: options.Deployment = None,
    token: options.Token = None,
    json: options.Json = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Show before launch where each node of TUBE would run, how long and what it would cost.

    How long a task takes is taken from --seconds, else from what the coordinator measured in
    earlier runs, else assumed to be 1 s.
    """
    from noob_cloud.coordinator.estimate import estimate  # noqa: PLC0415 - loads Pydantic
    from noob_cloud.plan import Plan  # noqa: PLC0415 - loads upstream

    loaded = tube.load(tube_source, inputs)
    compiled = Plan(loaded, tube.placement_of(tube_source, placement))
    ground = _ground(pools, coordinator, deployment, token)
    works = _works(compiled, ground, _numbers(seconds, "--seconds"), _numbers(items, "--items"))
    found = estimate(
        works,
        ground.places,
        ground.router,
        n,
        target_seconds=ground.target_seconds,
        floors=ground.floors,
    )
    notes = _notes(found, ground, compiled, items)
    screen.show(
        _as_json(tube_source, found, ground, notes), _view(tube_source, found, ground, notes)
    )


# ---- what it stands on


def _ground(
    pools: Path | None, coordinator: str | None, deployment: str | None, token: str | None
) -> _Ground:
    from noob_cloud.coordinator.pools import PoolsSettings  # noqa: PLC0415 - loads Pydantic

    told: dict[str, Any] = {}
    if coordinator is not None or deployment is not None:
        with open_target(coordinator, None, token, deployment) as target:
            told = target.runs("a plan's measured times").capacity()
    path = pools or (_HERE if _HERE.exists() and _has_pools(_HERE) else None)
    if path is None and told.get("places"):
        return _of_coordinator(told)
    try:
        settings = PoolsSettings.usual() if path is None else PoolsSettings.load(path, planned=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    from noob_cloud.coordinator.routing import Router  # noqa: PLC0415 - as above

    prices = settings.price_table()
    return _Ground(
        settings.places(),
        Router(settings.routes()),
        "those of a new deployment" if path is None else str(path),
        f"{prices.region}, list prices of {prices.date}",
        prices.currency,
        settings.target_seconds,
        told.get("node_seconds", {}),
        _floors(told),
        settings.budget.per_day,
        settings.budget.per_run,
    )


def _has_pools(path: Path) -> bool:
    import tomllib  # noqa: PLC0415 - few commands read TOML

    try:
        return "pools" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _of_coordinator(told: dict[str, Any]) -> _Ground:
    from noob_cloud.coordinator.capacity import Place  # noqa: PLC0415 - few plans ask
    from noob_cloud.coordinator.estimate import router_of  # noqa: PLC0415 - as above

    rows, money = told["places"], told["money"]
    endless = float("inf")
    places = [
        Place(
            name=row["name"],
            pool=row["pool"],
            kind=row["kind"],
            memory=row["memory"],
            most=row["most"],
            slots=row["slots"],
            price=row["price_hour"] / 3600.0,
            start_price=row["start_price"],
            cooldown_seconds=row["cooldown_seconds"],
            burst=endless if row["burst"] is None else row["burst"],
            refill=endless if row["starts_per_second"] is None else row["starts_per_second"],
        )
        for row in rows
    ]
    return _Ground(
        places,
        router_of(rows),
        "the coordinator's",
        "as the coordinator is set",
        money["currency"],
        told["target_seconds"],
        told["node_seconds"],
        _floors(told),
        money["per_day"],
        money["per_run"],
    )


def _floors(told: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {x["node_id"]: (x["memory"], x["seconds"]) for x in told.get("learned", ())}


def _numbers(pairs: Iterable[str] | None, option: str) -> dict[str, float]:
    """Read NAME=NUMBER; a number alone is every name's, under the empty one."""
    found: dict[str, float] = {}
    for pair in pairs or ():
        name, _, text = pair.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise UsageError(f"{option} {pair} is not NAME=NUMBER with a number above 0")
        found[name] = number
    return found


def _works(
    compiled: Any, ground: _Ground, seconds: dict[str, float], items: dict[str, float]
) -> list[Work]:
    from noob_cloud.coordinator.estimate import Work  # noqa: PLC0415 - as above

    nodes = {node for stage in compiled.stages for node in stage.nodes}
    for name in [*seconds, *items]:
        if name and name not in nodes:
            raise UsageError(f"The tube has no node {name!r}; it has {', '.join(sorted(nodes))}")
    works = []
    for stage in compiled.stages:
        name = "+".join(stage.nodes)
        scope = compiled.graph.by_id[stage.nodes[0]].scope
        calls = math.prod(items.get(node, 1.0) for node in scope)
        took, source = _took(stage.nodes, name, seconds, ground)
        works.append(
            Work(
                name,
                calls,
                stage.affinity,
                stage.required,
                stage.timeout or _TIMEOUT,
                (stage.memory or 0) / _MIB,
                took if stage.remote else 0.0,
                source if stage.remote else "",
                stage.concurrency,
                pinned=not stage.remote,
            )
        )
    return works


def _took(
    nodes: Sequence[str], name: str, seconds: dict[str, float], ground: _Ground
) -> tuple[float, str]:
    given = [seconds[node] for node in nodes if node in seconds]
    if given:
        return sum(given), "given"
    if name in ground.node_seconds:
        return max(ground.node_seconds[name], 0.001), "measured"
    if "" in seconds:
        return seconds[""], "given"
    return 1.0, "assumed"


def _notes(
    found: Estimate, ground: _Ground, compiled: Any, items: Sequence[str] | None
) -> list[str]:
    notes = [f"Pools: {ground.pools}. Prices: {ground.prices}, without data and storage."]
    assumed = [row.name for row in found.rows if row.source == "assumed"]
    if assumed:
        notes.append(
            f"Assumed, not measured: 1 s a task of {', '.join(assumed)}. Say it with"
            " --seconds NODE=S, or take it from earlier runs with --coordinator URL."
        )
    maps = {node for step in compiled.steps for node in step.scope}
    unsaid = sorted(maps - {pair.rpartition("=")[0] for pair in items or ()})
    if unsaid:
        notes.append(
            f"Assumed: one item an epoch of {', '.join(unsaid)}. Say it with --items MAP=N."
        )
    notes.extend(
        f"{crew.place}: all of its {crew.limit} workers; with more it would be done sooner."
        for crew in found.places
        if crew.workers >= crew.limit
    )
    for name, most in (("run", ground.per_run), ("day", ground.per_day)):
        if most is not None and found.cost > most:
            notes.append(
                f"The budget of a {name} is {most:g} {ground.currency}: starts would stop there."
            )
    climbing = sorted(node for node in ground.floors if node in {x.name for x in found.rows})
    if climbing:
        notes.append(f"Killed before for memory or time, so placed larger: {', '.join(climbing)}.")
    return notes


# ---- showing


def _as_json(name: str, found: Estimate, ground: _Ground, notes: list[str]) -> dict[str, Any]:
    return {
        "tube": name,
        "epochs": found.epochs,
        "nodes": found.rows,
        "places": found.places,
        "seconds": found.seconds,
        "ideal_seconds": found.ideal_seconds,
        "cost": found.cost,
        "currency": ground.currency,
        "prices": ground.prices,
        "notes": notes,
    }


def _view(name: str, found: Estimate, ground: _Ground, notes: list[str]) -> Group:
    nodes = table(
        f"{name}, {found.epochs:,} epochs",
        ("node", "runs in", "or in", "tasks", "each", "cost of the work"),
        [
            (
                row.name.replace("+", " + "),
                row.place or "where the run is driven",
                ", ".join(row.others),
                f"{row.tasks:,}",
                f"{_span(row.seconds)} {row.source}" if row.place else "",
                _money(row.cost, ground.currency) if row.place else "",
            )
            for row in found.rows
        ],
    )
    crews = table(
        "Workers",
        ("place", "workers", "a worker-hour", "done after", "idle", "cost"),
        [
            (
                crew.place,
                f"{crew.workers:,} of {crew.limit:,}",
                _money(crew.price_hour, ground.currency),
                _span(crew.seconds),
                _span(crew.idle_seconds),
                _money(crew.cost, ground.currency),
            )
            for crew in found.places
        ],
    )
    total = Text.assemble(
        "About ",
        (_span(found.seconds), "bold"),
        " and ",
        (_money(found.cost, ground.currency), "bold"),
        f"; with a worker for each task, there at once: {_span(found.ideal_seconds)}.",
    )
    said = [Text(note, style="dim") for note in notes]
    return Group(nodes, Text(""), crews, Text(""), total, *said)


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < _MINUTES:
        return f"{seconds:.3g} s"
    minutes = seconds / _SECONDS_A_MINUTE
    if minutes < _MINUTES:
        return f"{minutes:.0f} min"
    hours = minutes / _SECONDS_A_MINUTE
    return f"{hours:.0f} h" if hours < _HOURS else f"{hours / 24:.0f} days"


def _money(amount: float, currency: str) -> str:
    sign = "$" if currency == "USD" else ""
    unit = "" if sign else f" {currency}"
    if 0 < amount < 0.01:  # noqa: PLR2004 - a cent
        return f"under {sign}0.01{unit}"
    return f"{sign}{amount:,.2f}{unit}"
