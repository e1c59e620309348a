"""A deployed kit: its Lambdas and services run the stages of a tube."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from noob_cloud.exceptions import RunnerError
from noob_cloud.executors.serverless import ServerlessExecutor
from noob_cloud.runner.executor import ExecutorRunner

if TYPE_CHECKING:
    from noob_cloud.deployment import Deployment


@dataclass
class LambdaRunner(ExecutorRunner):
    """Run the stateless stages of a tube on the workers of a deployed kit.

    Which of its pools a stage goes to (Lambda, Fargate, GPU instances) follows from the stage's
    placement and the deployment's own rules. A runner that crashes is resumed by one with the
    same `run_id`.

    Args:
        tube: the tube to run.
        deployment: the name of a deployed kit, a `Deployment`, or the URL of a coordinator.
        run_id: names the run, to resume it.
        timeout_seconds: longest run of one attempt where the placement names none.
        max_retries: further attempts after the loss of a worker, where the placement names none.
    """

    deployment: Deployment | str | None = None
    run_id: str = field(default_factory=lambda: uuid4().hex)
    timeout_seconds: float = 300.0
    max_retries: int = 3

    def __post_init__(self) -> None:
        if self.deployment is None and self.executor is None:
            raise RunnerError(
                'LambdaRunner needs deployment="NAME", what `noob-cloud deploy` deployed, or the'
                " URL of a coordinator"
            )
        super().__post_init__()

    def _open(self) -> ServerlessExecutor:
        return ServerlessExecutor(
            self.deployment,
            run_id=self.run_id,
            timeout_seconds=self.timeout_seconds,
            max_retries=self.max_retries,
        )
