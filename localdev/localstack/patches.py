"""Put right what LocalStack 4.9.2 does wrong.

- It takes a property for changed when what that refers to has changed, and replaces the resource:
  an alias whose function has new code is made a second time, and then it is gone.
- Where a kind of resource has no way to be changed, it says that it has changed it.
- An object's event has the key quoted, and the same sequencer each time: an object that is put
  again is taken for an event that is delivered again.
- All LocalStacks of a machine keep the objects of S3 in one folder.
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from localstack.services.cloudformation.engine.v2.change_set_model import (  # type: ignore[import-not-found]
    is_nothing,
)
from localstack.services.cloudformation.engine.v2.change_set_model_executor import (  # type: ignore[import-not-found]
    ChangeSetModelExecutor,
)
from localstack.services.cloudformation.resource_provider import (  # type: ignore[import-not-found]
    OperationStatus,
    ProgressEvent,
    ResourceProviderExecutor,
)
from localstack.services.events.resource_providers.aws_events_rule import (  # type: ignore[import-not-found]
    EventsRuleProvider,
)
from localstack.services.lambda_.resource_providers.aws_lambda_eventinvokeconfig import (  # type: ignore[import-not-found]
    LambdaEventInvokeConfigProvider,
)
from localstack.services.lambda_.resource_providers.lambda_alias import (  # type: ignore[import-not-found]
    LambdaAliasProvider,
)
from localstack.services.s3.notifications import (  # type: ignore[import-not-found]
    EventBridgeNotifier,
)
from localstack.services.s3.storage.ephemeral import (  # type: ignore[import-not-found]
    EphemeralS3ObjectStore,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install"]

_LOOK_SECONDS: Final = 0.2
"""How often a resource that takes a while is looked at; LocalStack waits for 5 s each time."""
_ALIAS: Final = ("FunctionName", "FunctionVersion", "Name", "Description", "RoutingConfig")
_execute_change: Final = ChangeSetModelExecutor._execute_resource_change  # noqa: SLF001 - there is no other way in
_deploy_loop: Final = ResourceProviderExecutor.deploy_loop
_event: Final = EventBridgeNotifier._get_event_payload  # noqa: SLF001 - as above
_store: Final = EphemeralS3ObjectStore.__init__


def install() -> None:
    """Put our ways in place of LocalStack's."""
    ChangeSetModelExecutor._execute_resource_change = _change  # noqa: SLF001 - as above
    ResourceProviderExecutor.deploy_loop = _deploy
    LambdaAliasProvider.update = _update_alias
    for provider in (EventsRuleProvider, LambdaEventInvokeConfigProvider):
        provider.update = _made_again(provider.create)
    EventBridgeNotifier._get_event_payload = staticmethod(_event_of_object)  # noqa: SLF001 - as above
    EphemeralS3ObjectStore.__init__ = _store_here


def _change(self: Any, name: str, before: Any, after: Any) -> None:
    """Replace a resource only where a property that cannot be changed has another value."""
    both = not is_nothing(before) and not is_nothing(after)
    if both and before.resource_type == after.resource_type and after.requires_replacement:
        after.requires_replacement = _replaced(before, after)
    _execute_change(self, name, before, after)


def _replaced(before: Any, after: Any) -> bool:
    provider = ResourceProviderExecutor.try_load_resource_provider(after.resource_type)
    fixed = {
        path.removeprefix("/properties/").split("/")[0]
        for path in provider.SCHEMA.get("createOnlyProperties", [])
    }
    old, new = before.properties.properties, after.properties.properties
    return any(old.get(name) != new.get(name) for name in fixed)


def _deploy(self: Any, *given: Any, **options: Any) -> Any:
    return _deploy_loop(self, *given, **{"sleep_time": _LOOK_SECONDS, **options})


def _update_alias(_self: Any, request: Any) -> Any:
    """Point an alias at another version."""
    wanted = request.desired_state
    told = {name: wanted[name] for name in _ALIAS if name in wanted}
    wanted["Id"] = request.aws_client_factory.lambda_.update_alias(**told)["AliasArn"]
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=wanted)


def _made_again(create: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return an update of what AWS's API puts: made again by its name, it has changed."""

    @functools.wraps(create)
    def update(self: Any, request: Any) -> Any:
        known = request.desired_state.pop("Id", None) or request.previous_state.get("Id", "")
        if isinstance(self, EventsRuleProvider):
            request.desired_state.setdefault("Name", known.split("|")[-1])
        return create(self, request)

    return update


def _event_of_object(context: Any, config_id: Any = None) -> Any:
    """Write an object's event as AWS does."""
    entry = _event(context, config_id)
    detail = json.loads(entry["Detail"])
    told = detail["object"]
    told["key"] = unquote(told["key"])
    if "sequencer" in told:
        told["sequencer"] = f"{time.time_ns():018X}"
    return {**entry, "Detail": json.dumps(detail)}


def _store_here(self: Any, root_directory: str | None = None) -> None:
    """Keep objects in this LocalStack's own temporary folder."""
    del root_directory
    folder = Path(tempfile.gettempdir()) / "s3"
    folder.mkdir(parents=True, exist_ok=True)
    _store(self, str(folder))
