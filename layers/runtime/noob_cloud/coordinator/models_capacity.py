"""What the route of the capacity answers, in JSON."""

from __future__ import annotations

from pydantic import BaseModel, Field


class PlaceBody(BaseModel):
    """Where workers are had, as it stands."""

    name: str = Field(examples=["lambda-1024"])
    pool: str = Field(examples=["lambda"])
    kind: str = Field(examples=["lambda"])
    memory: int | None = Field(description="Of one worker, in MiB.")
    slots: int = Field(description="Tasks at once in one worker.")
    most: int = Field(description="Workers that the pool may have.")
    tags: list[str]
    accept_untagged: bool
    max_seconds: float | None = Field(description="Longest timeout of a task; null: any.")
    max_memory: float | None = Field(description="Most memory of a task, in MiB; null: any.")
    price_hour: float = Field(description="Money for a worker-hour.")
    start_price: float = Field(description="Money for a start.")
    cooldown_seconds: float
    burst: float | None = Field(description="Starts at once; null: any.")
    starts_per_second: float | None = Field(description="Starts thereafter; null: any.")
    alive: int
    busy: int
    starting: int
    desired: int | None = Field(description="Of a service: how many it was told to have.")
    wanted: int = Field(description="Workers that there is work for.")
    failed_starts: int
    blocked: bool = Field(description="Whether it cools down after starts that failed.")
    seconds: float | None = Field(description="How long a task takes there.")
    spent_today: float


class MoneyBody(BaseModel):
    """What was spent, and what may be."""

    currency: str = Field(examples=["USD"])
    day: str = Field(description="In UTC.", examples=["2026-07-01"])
    spent: float
    reserved: float = Field(description="What workers that are there may still cost.")
    per_day: float | None
    per_run: float | None
    runs: dict[str, float] = Field(description="Spent by each of the latest runs.")


class LearnedBody(BaseModel):
    """What a node is known to need more than, since its attempts were killed with it."""

    node_id: str
    memory: float = Field(description="In MiB; 0: nothing is known.")
    seconds: float = Field(description="0: nothing is known.")


class CapacityBody(BaseModel):
    """Places, money, and what was learned of nodes."""

    places: list[PlaceBody]
    money: MoneyBody | None
    learned: list[LearnedBody]
    target_seconds: float = Field(description="In this time what is ready is to be done.")
    node_seconds: dict[str, float] = Field(
        description="How long the latest tasks of each node took, where that was over 0.2 s."
    )
