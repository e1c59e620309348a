"""What tubes, runs, workers and events look like in JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from noob_cloud.coordinator.models import Body, Cid, RunId, Tag, WorkerId

# ---- tubes, runs, workers, events


class NewTube(Body):
    """A tube's specification as JSON."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "spec": {
                    "noob_id": "by-hand",
                    "noob_model": "noob.tube.TubeSpecification",
                    "noob_version": "1003.0.2",
                    "nodes": {"count": {"type": "itertools.count"}},
                }
            }
        }
    )
    spec: dict[str, Any] = Field(description="The specification, as its YAML file has it.")
    input: dict[str, Any] = Field(default={}, description="Tube-scoped inputs.")


class CidBody(BaseModel):
    """The name of what was kept."""

    cid: Cid


class TubeBody(BaseModel):
    """A tube that is known here."""

    cid: Cid
    name: str
    bytes: int
    created_at: float


class NewRunBody(Body):
    """A run without a client: a worker drives it."""

    model_config = ConfigDict(json_schema_extra={"example": {"tube": "bafkr4ih...", "n": 100}})
    tube: Cid | NewTube = Field(description="cid of a tube sent before, or the tube itself.")
    n: int | None = Field(default=None, ge=0, le=1 << 40, description="Epochs.")
    inputs: list[dict[str, Any]] | None = Field(
        default=None, max_length=100_000, description="Process-scoped input of each epoch."
    )
    run_id: RunId | None = Field(default=None, description="The same id adds nothing.")
    placement: dict[str, Any] | None = Field(
        default=None, description="What NAME.cloud.yaml beside the tube says."
    )
    priority: Literal["CRITICAL", "HIGH", "NORMAL", "LOW"] = "NORMAL"
    affinity_tags: list[Tag] = Field(
        default=[], max_length=64, description="Of the worker that drives the run."
    )


class RunBody(BaseModel):
    """A run, as it stands."""

    run_id: RunId
    tube: Cid
    n: int | None
    total: int | None = Field(description="Results to come, where that is known.")
    task_id: int = Field(description="Its driver's task.")
    created_at: float
    created_by: str
    status: str = Field(description="waiting, running, completed, failed or cancelled")
    finished_at: float | None
    error: str | None
    traceback: str | None
    done: int = Field(description="Results so far.")
    worker_id: str | None = Field(description="Who drives it.")


class RunList(BaseModel):
    """Runs, the latest first."""

    runs: list[RunBody]


class ResultBody(BaseModel):
    """One result of a run."""

    position: int
    cid: Cid
    value: Any = Field(default=None, description="Shown by its repr where JSON has none such.")


class ResultPage(BaseModel):
    """A page of results."""

    results: list[ResultBody]
    page: int
    total: int = Field(description="Results that the run has so far.")


class WorkerBody(BaseModel):
    """A worker that the coordinator has heard of."""

    worker_id: WorkerId
    identity: str = Field(description="Whose token it uses.")
    tags: list[str]
    first_seen: float
    last_seen: float
    running: int
    claimed: int
    completed: int
    failed: int
    lost: bool


class WorkerList(BaseModel):
    """Workers, those alive first."""

    workers: list[WorkerBody]


class EventList(BaseModel):
    """What happened, in order."""

    events: list[dict[str, Any]]
    last: int = Field(description="Ask for what comes after it next.")


# ---- blobs that S3 carries


class BlobElsewhere(BaseModel):
    """Where a large blob is to be fetched from."""

    url: str = Field(description="GET it, without any token of ours; `Range` works.")
    cid: str = Field(description="What the bytes are to be checked by.")
    expires_in: int = Field(description="Seconds that the URL is good for.", examples=[900])


class NewUpload(BaseModel):
    """A large blob that is to be uploaded."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"size": 50_000_000}})
    size: int = Field(ge=1, le=1 << 40, strict=True, description="Bytes, exactly.")


class UploadBody(BaseModel):
    """Where it is to be put."""

    url: str | None = Field(description="PUT the bytes there; null: to /blobs/{cid} here.")
    upload: str | None = Field(description="Names the upload when it is to be kept.")
    expires_in: int = Field(description="Seconds that the URL is good for.", examples=[900])
