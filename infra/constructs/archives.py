"""Archives in the deployment's bucket of assets, which containers fetch when they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from infra.archives import sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Archives(Construct):
    """Archives to fetch, in their order.

    Attributes:
        urls: `s3://BUCKET/KEY#SHA256` of each, separated by spaces.
    """

    def __init__(self, scope: Construct, name: str, *, paths: Mapping[str, Path]) -> None:
        super().__init__(scope, name)
        self._assets = [assets.Asset(self, each, path=str(path)) for each, path in paths.items()]
        self.urls = " ".join(
            f"s3://{asset.s3_bucket_name}/{asset.s3_object_key}#{sha256(path)}"
            for asset, path in zip(self._assets, paths.values(), strict=True)
        )

    def grant_fetch(self, role: iam.IGrantable) -> None:
        """Allow to fetch them, and nothing else of that bucket."""
        role.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["s3:GetObject"],
                resources=[
                    f"arn:{Aws.PARTITION}:s3:::{asset.s3_bucket_name}/{asset.s3_object_key}"
                    for asset in self._assets
                ],
            )
        )
