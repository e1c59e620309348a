"""Cut a graph into stages: what is fused, what may run anywhere, what is pinned, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob.asset import AssetScope

from noob_cloud.placement import Placement
from noob_cloud.plan.graph import Graph, Kind, Step
from noob_cloud.plan.nouns import Row, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import CodeType

    from noob import Tube

_ANYWHERE = (Kind.FUNCTION, Kind.CLASS, Kind.COROUTINE)


class Plan:
    """A tube as it is now, compiled.

    Args:
        tube: the tube. Enabling or disabling a node makes the plan stale: see `fresh`.
        placement: a `Placement`, a mapping, the path of a file (`Placement.beside(tube_path)`
            finds it), or None: every node runs anywhere.
        fuse: whether chains of stateless nodes with the same placement become one stage.

    Raises:
        PlacementError: the placement does not fit the tube.
    """

    def __init__(
        self,
        tube: Tube,
        placement: Placement | Mapping[str, Any] | str | Path | None = None,
        *,
        fuse: bool = True,
    ) -> None:
        self.tube = tube
        self.placement = Placement.of(placement, tube=tube)
        self.fuse = fuse
        self.core = tube.scheduler._core  # noqa: SLF001 - its identity says whether we are stale
        self.graph = Graph.of(tube)
        self.texts: dict[bool, CodeType] = {}
        """Compiled code, by whether callbacks are told."""
        self._stages: tuple[Stage, ...] | None = None
        self._solo: dict[str, Stage] = {}
        self._turns: dict[int, int] = {}

    @property
    def fresh(self) -> bool:
        """Whether no node has been enabled or disabled since."""
        return self.tube.scheduler._core is self.core  # noqa: SLF001 - see above

    @property
    def steps(self) -> list[Step]:
        """The enabled nodes, in upstream's order."""
        return self.graph.steps

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, in an order in which each comes after what it reads."""
        if self._stages is None:
            self._stages = self._cut()
        return self._stages

    @property
    def levels(self) -> tuple[tuple[Stage, ...], ...]:
        """Stages by level: those of one level do not depend on each other."""
        found: dict[int, list[Stage]] = {}
        for stage in self.stages:
            found.setdefault(stage.level, []).append(stage)
        return tuple(tuple(found[level]) for level in sorted(found))

    @property
    def last_level(self) -> int:
        """A level above that of every stage."""
        return max((stage.level for stage in self.stages), default=0) + 2

    def turn_of(self, stage: Stage) -> int | None:
        """Return the level of the turn that a stage must wait for; None where it keeps no state.

        Nodes that share an asset take one turn together, at the highest of their levels.
        """
        _ = self.stages
        return self._turns.get(stage.id)

    def solo(self, node: str) -> Stage:
        """Return the stage of one node alone, which gives back all its signals."""
        found = self._solo.get(node)
        if found is None:
            step = self.graph.by_id[node]
            remote, why = remote_why(step)
            found = self._solo[node] = self._stage(-1, [step], remote=remote, why=why, level=0)
        return found

    def explain(self) -> list[Row]:
        """Say of each node what is compiled, fused, remote or pinned, and why."""
        stage_of = {node: stage for stage in self.stages for node in stage.nodes}
        irregular = self.graph.irregular
        rows = []
        for step in self.steps:
            stage = stage_of[step.id]
            placed = self.placement.get(step.id)
            why = stage.why
            if irregular:
                why += f"; ordered by upstream's scheduler core, since {irregular}"
            rows.append(
                Row(
                    node=step.id,
                    kind=step.kind.value,
                    how="scheduler" if irregular else "compiled",
                    where="remote" if stage.remote else "pinned",
                    stage=stage.id,
                    fused=len(stage.nodes) > 1,
                    level=stage.level,
                    why=why,
                    affinity=tuple(sorted(placed.affinity)),
                    required=tuple(sorted(placed.required)),
                )
            )
        rows.extend(
            Row(
                node=node,
                kind="",
                how="compiled",
                where="off",
                stage=None,
                fused=False,
                level=-1,
                why="disabled: it is not called, and what depends on it waits",
            )
            for node in self.graph.off
        )
        return rows

    def _stage(self, id_: int, steps: list[Step], *, remote: bool, why: str, level: int) -> Stage:
        inputs, outputs = self.interface(steps)
        placed = self.placement.get(steps[0].id)
        return Stage(
            id=id_,
            nodes=tuple(step.id for step in steps),
            inputs=inputs,
            outputs=outputs,
            remote=remote,
            why=why,
            level=level,
            affinity=placed.affinity,
            required=placed.required,
            timeout=placed.timeout,
            memory=placed.memory,
            retries=placed.retries,
            concurrency=placed.concurrency,
        )

    def interface(self, steps: list[Step]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the slots that steps read from outside, and those they give back."""
        inside = {slot for step in steps for slot in step.outputs}
        members = {step.id for step in steps}
        inputs = dict.fromkeys(
            arg.slot
            for step in steps
            for arg in step.args
            if arg.slot >= 0 and arg.slot not in inside
        )
        inner = {arg.slot for step in steps for arg in step.args}
        outside = {arg.slot for step in self.steps if step.id not in members for arg in step.args}
        outputs = [
            slot
            for step in steps
            for slot in step.outputs
            if len(steps) == 1 or slot in outside or inner.isdisjoint(step.outputs)
        ]
        return tuple(inputs), tuple(outputs)

    def _cut(self) -> tuple[Stage, ...]:
        groups = self._group()
        levels = self._level(groups)
        order = sorted(range(len(groups)), key=lambda number: (levels[number], number))
        stages = []
        for id_, number in enumerate(order):
            steps = groups[number]
            remote, why = remote_why(steps[0])
            if len(steps) > 1:
                why = f"{why}; fused with its chain {' -> '.join(step.id for step in steps)}"
            stages.append(self._stage(id_, steps, remote=remote, why=why, level=levels[number]))
        self._take_turns(stages)
        return tuple(stages)

    def _group(self) -> list[list[Step]]:
        """Put each step in a group of its own, or at the end of the chain that it continues."""
        producer = {slot: step.id for step in self.steps for slot in step.outputs}
        readers: dict[str, set[str]] = {}
        for step in self.steps:
            for arg in step.args:
                if arg.slot in producer:
                    readers.setdefault(producer[arg.slot], set()).add(step.id)
        strict = any(step.optional for step in self.steps)
        groups: list[list[Step]] = []
        home: dict[str, int] = {}
        for step in self.steps:
            joined = None
            if self.fuse and not self.graph.irregular and not step.optional and remote_why(step)[0]:
                before = {producer[arg.slot] for arg in step.args if arg.slot in producer}
                joined = self._chain(step, before, groups, home, readers, strict=strict)
            if joined is None:
                joined = len(groups)
                groups.append([])
            groups[joined].append(step)
            home[step.id] = joined
        return groups

    def _chain(
        self,
        step: Step,
        before: set[str],
        groups: list[list[Step]],
        home: dict[str, int],
        readers: dict[str, set[str]],
        *,
        strict: bool,
    ) -> int | None:
        for node in before:
            group = groups[home[node]]
            tail, head = group[-1], group[0]
            others = before - {member.id for member in group}
            if (
                tail.id == node
                and remote_why(tail)[0]
                and readers[node] == {step.id}
                and tail.scope == step.scope
                and self.placement.get(tail.id) == self.placement.get(step.id)
                and len({home[other] for other in before}) == 1 + len({home[o] for o in others})
                and not (strict and others)
                and others <= _reads(head, self.graph)
            ):
                return home[node]
        return None

    def _level(self, groups: list[list[Step]]) -> list[int]:
        """Give local groups even levels and remote ones odd levels, above what they read."""
        of_slot = {
            slot: number
            for number, group in enumerate(groups)
            for step in group
            for slot in step.outputs
        }
        levels = [-1] * len(groups)
        touched: dict[str, int] = {}
        for number in sorted(range(len(groups)), key=lambda n: groups[n][0].index):
            group = groups[number]
            remote = remote_why(group[0])[0]
            below = max(
                (
                    levels[of_slot[arg.slot]]
                    for step in group
                    for arg in step.args
                    if arg.slot in of_slot and of_slot[arg.slot] != number
                ),
                default=-1,
            )
            level = below + 1
            if level % 2 != int(remote):
                level += 1
            for asset in _touches(group[0]):
                level = max(level, touched.get(asset, 0))
                touched[asset] = level
            levels[number] = level
        return levels

    def _take_turns(self, stages: list[Stage]) -> None:
        by_id = self.graph.by_id
        spans: dict[str, tuple[int, int]] = {}
        for stage in stages:
            for asset in _touches(by_id[stage.nodes[0]]):
                low, high = spans.get(asset, (stage.level, stage.level))
                spans[asset] = (min(low, stage.level), max(high, stage.level))
        scopes = {name: asset.scope for name, asset in self.tube.state.assets.items()}
        shared = [span for name, span in spans.items() if scopes.get(name) is not AssetScope.node]
        merged: list[tuple[int, int]] = []
        for low, high in sorted(shared):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        for stage in stages:
            step = by_id[stage.nodes[0]]
            if stage.remote or not (step.stateful or _touches(step)):
                continue
            turn = stage.level
            for low, high in merged:
                if low <= stage.level <= high:
                    turn = high
            self._turns[stage.id] = turn


def remote_why(step: Step) -> tuple[bool, str]:
    """Say whether any process may run a step, and why."""
    reason = ""
    if step.kind is Kind.MAP:
        reason = "pinned: it only makes subepochs"
    elif step.kind is Kind.RETURN:
        reason = "pinned: it gives the tube's value to the caller"
    elif step.kind is Kind.TUBE:
        reason = "pinned: a nested tube, compiled as well, runs where its runner runs"
    elif step.stateful:
        reason = f"pinned: a stateful {step.kind.value} sees its events in epoch order"
    elif step.assets or step.updates:
        names = ", ".join(dict.fromkeys((*step.assets, *(name for _, name in step.updates))))
        reason = f"pinned: the asset {names} lives where the runner runs"
    elif step.context:
        reason = "pinned: its init asks for the runner's context"
    elif "events" in step.injections:
        reason = "pinned: it reads whole events, not their values"
    if reason:
        return False, reason
    return step.kind in _ANYWHERE, f"remote: a stateless {step.kind.value}"


def _touches(step: Step) -> list[str]:
    return list(dict.fromkeys((*step.assets, *(asset for _, asset in step.updates))))


def _reads(step: Step, graph: Graph) -> set[str]:
    return {graph.names[arg.slot][0] for arg in step.args if arg.slot >= 0}
