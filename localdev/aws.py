"""Calls of the emulated cloud's API, with a template's properties as their arguments."""

from __future__ import annotations

import functools
import os
from typing import Any

import boto3
from botocore.config import Config

__all__ = ["call", "client", "fit"]


@functools.lru_cache
def client(service: str, region: str | None = None) -> Any:
    """Return a client of the emulated cloud, which AWS_ENDPOINT_URL names."""
    return boto3.client(
        service,
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        region_name=region or os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=50),
    )


def call(service: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call an operation with those of the arguments that it takes, as the types that it takes.

    A template's properties are an API's arguments but for the case of their first letter and for
    numbers and truths that may be text.
    """
    target = client(service)
    method = target.meta.method_to_api_mapping[operation]
    shape = target.meta.service_model.operation_model(method).input_shape
    answer: dict[str, Any] = getattr(target, operation)(**fit(shape, arguments))
    return answer


def fit(shape: Any, value: Any) -> Any:  # noqa: PLR0911 - one for each kind of shape
    """Return a template's value as the API's shape wants it."""
    match shape.type_name:
        case "structure":
            members = {name.lower(): name for name in shape.members}
            known = {
                members[key.lower()]: each for key, each in value.items() if key.lower() in members
            }
            return {key: fit(shape.members[key], each) for key, each in known.items()}
        case "list":
            each = value if isinstance(value, list) else [value]
            return [fit(shape.member, one) for one in each]
        case "map":
            return {key: fit(shape.value, each) for key, each in value.items()}
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            return float(value)
        case "boolean":
            return value if isinstance(value, bool) else str(value).lower() == "true"
        case "string":
            return value if isinstance(value, str) else str(value)
        case _:
            return value
