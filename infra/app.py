"""`python -m infra.app`: compose the stacks of one deployment, as its settings say."""

from __future__ import annotations

import sys
from pathlib import Path

from aws_cdk import App, DefaultStackSynthesizer, Tags

from infra.assets import Assets, AssetsError
from infra.names import Names
from infra.settings import Settings, read
from noob_cloud.exceptions import NoobCloudError
from stacks.chain import ChainStack
from stacks.coordinator import CoordinatorStack
from stacks.events import EventsStack
from stacks.gpu import GpuStack
from stacks.observe import ObserveStack
from stacks.storage import StorageStack
from stacks.workers import WorkersStack


def compose(app: App, settings: Settings) -> None:
    """Add the stacks of a deployment to an app, in the order of the flow.

    They name no account and no region: they go where the credentials of `cdk deploy` point.
    """
    names, assets = Names(settings.name), Assets(settings, Path(app.outdir))
    storage = StorageStack(
        app,
        names.stack("storage"),
        settings=settings,
        synthesizer=_synthesizer(),
        description=f"noob-cloud {settings.name}: the bucket and the token",
    )
    coordinator = CoordinatorStack(
        app,
        names.stack("coordinator"),
        settings=settings,
        synthesizer=_synthesizer(),
        storage=storage,
        archives=assets.coordinator_archives(settings.architecture),
        description=f"noob-cloud {settings.name}: the queue and its API",
    )
    WorkersStack(
        app,
        names.stack("workers"),
        settings=settings,
        synthesizer=_synthesizer(),
        storage=storage,
        coordinator=coordinator,
        assets=assets,
        description=f"noob-cloud {settings.name}: workers on Lambda and Fargate",
    )
    if settings.ec2_pools:
        GpuStack(
            app,
            names.stack("gpu"),
            settings=settings,
            synthesizer=_synthesizer(),
            storage=storage,
            coordinator=coordinator,
            assets=assets,
            description=f"noob-cloud {settings.name}: workers with GPUs",
        )
    EventsStack(
        app,
        names.stack("events"),
        settings=settings,
        synthesizer=_synthesizer(),
        storage=storage,
        coordinator=coordinator,
        code=assets.submit(),
        layers=[*assets.layers(settings.architecture).items()],
        description=f"noob-cloud {settings.name}: events that start runs",
    )
    if settings.chain is not None:
        ChainStack(
            app,
            names.stack("chain"),
            settings=settings,
            chain=settings.chain,
            synthesizer=_synthesizer(),
            storage=storage,
            coordinator=coordinator,
            code=assets.chain_listener(),
            layers=[
                *assets.layers(settings.architecture).items(),
                ("chain", assets.chain_layer(settings.architecture)),
            ],
            description=f"noob-cloud {settings.name}: offers of a contract that become tasks",
        )
    ObserveStack(
        app,
        names.stack("observe"),
        settings=settings,
        synthesizer=_synthesizer(),
        coordinator=coordinator,
        description=f"noob-cloud {settings.name}: dashboard and alarms",
    )
    for key, value in {"noob-cloud:deployment": settings.name, **settings.tags}.items():
        Tags.of(app).add(key, value)


def _synthesizer() -> DefaultStackSynthesizer:
    """Return what writes a stack, without parameters.

    Whether the account is bootstrapped is checked by the CDK's command line as well.
    """
    return DefaultStackSynthesizer(generate_bootstrap_version_rule=False)


def main() -> int:
    """Compose what the context says, and write it where the CDK wants it."""
    app = App()
    try:
        compose(app, read(app.node.get_all_context(), folder=Path.cwd()))
    except (AssetsError, NoobCloudError, ValueError) as error:  # every one of ours is a sentence
        sys.stderr.write(f"{error}\n")
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
