"""The CloudFormation types that the local cloud adds to moto's, by service."""

from localdev.resources import compute, containers, network, storage, watching

__all__ = ["compute", "containers", "network", "storage", "watching"]
