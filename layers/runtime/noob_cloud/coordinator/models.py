"""What requests and answers look like in JSON: the OpenAPI document is made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_DAYS = 366 * 86_400
TaskId = Annotated[int, Field(ge=1, lt=1 << 40, examples=[17])]
Tag = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
WorkerId = Annotated[str, Field(min_length=1, max_length=200, examples=["gpu-worker-1"])]
Cid = Annotated[str, Field(min_length=1, max_length=100, examples=["bafkr4ih..."])]
RunId = Annotated[str, Field(min_length=1, max_length=200, examples=["run-5f0c9d2b7a31e846"])]
Seconds = Annotated[float, Field(gt=0, le=_DAYS, allow_inf_nan=False)]
_Epoch = Annotated[int, Field(ge=-(2**53), le=2**53, examples=[0])]


class Body(BaseModel):
    """A request's body: of these types, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {"error": "TaskNotFoundError", "message": "no task has the id 17"}
        },
    )
    error: str = Field(description="Name of the error's class in noob_cloud.exceptions.")
    message: str = Field(description="A sentence with the value in it, and what helps.")


class Health(BaseModel):
    """Whether the coordinator serves."""

    status: Literal["ok", "draining"]
    version: str = Field(examples=["0.1.0"])


# ---- tasks


class NewTask(Body):
    """A task to submit."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "node_id": "detect",
                "epoch": 0,
                "data": {"tile": 7},
                "priority": "HIGH",
                "affinity_tags": ["gpu"],
            }
        }
    )
    node_id: Name = Field(description="The node to run.")
    epoch: _Epoch = Field(description="The epoch to run it for.")
    data: Any = Field(default=None, description="What the worker is given: any JSON.")
    priority: Literal["CRITICAL", "HIGH", "NORMAL", "LOW"] = "NORMAL"
    affinity_tags: list[Tag] = Field(
        default=[], max_length=64, description="A worker with any of these may claim it."
    )
    required_tags: list[Tag] = Field(
        default=[], max_length=64, description="A worker must have all of these."
    )
    timeout_seconds: Seconds = Field(default=300.0, description="Longest run of one attempt.")
    max_retries: int = Field(default=3, ge=0, le=1_000_000)
    delay: float = Field(default=0.0, ge=0, le=_DAYS, allow_inf_nan=False)
    idempotency_key: Name | None = Field(
        default=None, description="A task with this key is submitted once."
    )
    key: Name | None = Field(default=None, description="Name that /limits limits.")
    run_id: RunId | None = None
    queue_timeout: Seconds | None = Field(
        default=None, description="Seconds after which it is dead if no worker has claimed it."
    )
    memory: int | None = Field(
        default=None,
        gt=0,
        lt=1 << 62,
        description="Bytes that a worker needs: with pools it goes to one that has them.",
    )


class NewTasks(Body):
    """Tasks to submit in one commit."""

    tasks: list[NewTask] = Field(max_length=10_000)
    once: Name | None = Field(
        default=None,
        description="Names this request: sent again, it answers with the same ids and adds nothing",
        examples=["5d1f-upload-7"],
    )


class Ids(BaseModel):
    """Ids in the order of what was submitted."""

    ids: list[int] = Field(examples=[[17, 18]])


class TokenBody(Body):
    """The fencing token of a lease."""

    epoch: int = Field(ge=0, lt=1 << 62, examples=[0])
    attempt: int = Field(ge=1, lt=1 << 31, examples=[1])


class TaskBody(BaseModel):
    """Everything about one task."""

    task_id: int = Field(examples=[17])
    node_id: str = Field(examples=["detect"])
    epoch: Any = Field(examples=[0])
    data: Any = Field(default=None, description="Shown by its repr where JSON has no such value.")
    status: str = Field(examples=["completed"])
    priority: str = Field(examples=["NORMAL"])
    affinity_tags: list[str] = []
    required_tags: list[str] = []
    timeout_seconds: float = Field(examples=[300.0])
    max_retries: int = Field(examples=[3])
    token: TokenBody | None = None
    worker_id: str | None = Field(default=None, examples=["gpu-worker-1"])
    lease_expires_at: float | None = None
    created_at: float = Field(examples=[1795411200.5])
    available_at: float = Field(examples=[1795411200.5])
    started_at: float | None = None
    finished_at: float | None = None
    result: Any = None
    error: str | None = None
    traceback: str | None = None
    key: str | None = None
    idempotency_key: str | None = None
    run_id: str | None = None


class TaskList(BaseModel):
    """Tasks, in the order of their ids."""

    tasks: list[TaskBody]


class ClaimBody(Body):
    """Who claims, and what."""

    worker_id: WorkerId
    limit: int = Field(default=1, ge=1, le=10_000)
    tags: list[Tag] | None = Field(
        default=None,
        max_length=64,
        description="Narrows what the token allows; null for all of that.",
        examples=[["gpu"]],
    )
    accept_untagged: bool = True
    lease_seconds: Seconds | None = None
    wait: float = Field(
        default=0.0, ge=0, le=25, allow_inf_nan=False, description="Longest wait for a task."
    )


class OutcomeBody(Body):
    """What became of one claimed task."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "task_id": 17,
                "token": {"epoch": 0, "attempt": 1},
                "status": "completed",
                "result": {"things": 12},
            }
        }
    )
    task_id: TaskId
    token: TokenBody
    status: Literal["started", "completed", "failed", "released"]
    result: Any = None
    error: str | None = Field(default=None, max_length=1_000_000)
    traceback: str | None = Field(default=None, max_length=1_000_000)
    retryable: bool = True


class OutcomesBody(Body):
    """Outcomes of claimed tasks, and a claim in the same commit."""

    worker_id: WorkerId
    outcomes: list[OutcomeBody] = Field(default=[], max_length=10_000)
    claim: ClaimBody | None = None


class SettledBody(BaseModel):
    """What became of the outcomes."""

    refused: list[int] = Field(description="Tasks whose lease is lost: nothing was changed.")
    statuses: dict[int, str] = Field(description="Of each failed task: delayed, ready or dead.")
    tasks: list[TaskBody]


class HeldBody(Body):
    """A claimed task."""

    task_id: TaskId
    token: TokenBody


class BeatBody(Body):
    """A worker's sign of life."""

    worker_id: WorkerId
    tasks: list[HeldBody] = Field(default=[], max_length=10_000)
    lease_seconds: Seconds | None = None
    tags: list[Tag] = Field(default=[], max_length=64)
    running: int = Field(default=0, ge=0, le=1_000_000)


class BeatenBody(BaseModel):
    """What a worker must stop."""

    lost: list[int]
    cancelled: list[int] = Field(description="Those of `lost` that somebody cancelled.")


class WaitBody(Body):
    """Tasks whose outcome is wanted."""

    ids: list[TaskId] = Field(max_length=10_000)
    timeout: float = Field(default=0.0, ge=0, le=25, allow_inf_nan=False)
    at_least: int | None = Field(default=None, ge=0, le=10_000)


class CancelledBody(BaseModel):
    """Whether it was cancelled; false where it had its outcome."""

    cancelled: bool


class CancelBody(Body):
    """Which tasks to cancel."""

    task_ids: list[TaskId] = Field(max_length=10_000)


class CancelledTasksBody(BaseModel):
    """Those that were cancelled; the others have their outcome, or do not exist."""

    cancelled: list[int]


class RedriveBody(Body):
    """Which dead letters to bring back."""

    task_ids: list[TaskId] | None = Field(default=None, description="null: all of them")


class RedrivenBody(BaseModel):
    """Tasks that are ready again."""

    redriven: list[int]


class RateBody(Body):
    """So many in so many seconds."""

    tasks: int = Field(ge=1, le=1_000_000_000, examples=[10])
    seconds: Seconds = Field(examples=[1.0])


class LimitBody(Body):
    """Limits of a key; with neither it is unlimited."""

    key: Name
    concurrency: int | None = Field(default=None, ge=0, le=1_000_000_000)
    rate: RateBody | None = Field(default=None, description="How many may begin in a time.")


class QueueCounts(BaseModel):
    """How many tasks are where."""

    ready: int
    parked: int
    delayed: int
    claimed: int
    running: int
    completed: int
    dead: int
    cancelled: int
    ready_by_tags: dict[str, int]


class StatsBody(BaseModel):
    """The state of the coordinator at one moment."""

    queue: QueueCounts
    totals: dict[str, int] = Field(description="Since the start.")
    history: list[dict[str, float]] = Field(description="The same for each of the latest seconds.")
    waiting_claims: int = Field(description="Workers that wait for a task.")
    started_at: float
