"""Write the Python that runs one epoch of a plan: locals for slots, a loop for each map.

The text is a template of ours filled with integers. Names that a tube's author chose never enter
it: they are reached through the names that `Compiled` binds.

    v3      a slot's value; behind a map, the list of its values by row
    f3 h3   how to call step 3: its function, or the helper that also knows its special arguments
    j3      leave the epoch to the scheduler core: an optional argument is not there
    q3 s3   look at a return value that may be more than a plain value: of one signal, of several
    a3      an asset; k3_0 a name of the return node's first value
    e e2    the root epoch; the subepochs of scope 2
    p2_1    the rows of scope 2 to their rows in the enclosing scope of depth 1
    M N     nothing came; NoEvent
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from noob.asset import AssetScope

from noob_cloud.engine.positions import by_position
from noob_cloud.plan.graph import Arg, Kind, Step

if TYPE_CHECKING:
    from noob_cloud.plan.graph import Graph


class Source:
    """The text of one plan's epoch.

    Args:
        graph: the plan's graph; it must be regular.
        watched: whether each step tells callbacks what it emitted.
        risky: maps that end the compiled order when they emit nothing.
    """

    def __init__(self, graph: Graph, *, watched: bool, risky: set[str]) -> None:
        self.graph = graph
        self.watched = watched
        self.risky = risky
        self.lines: list[str] = []
        self.assets: list[str] = list(graph.tube.state.assets)
        self.scopes: dict[tuple[str, ...], int] = {}
        self.gathers: list[int] = []
        self.helped = [self._needs_help(step) for step in graph.steps]
        """Whether a step is called through its helper."""

    def text(self) -> str:
        """Return the module's text: one function, `run(S, n, I)`."""
        made = {
            slot
            for step in self.graph.steps
            if step.kind is not Kind.RETURN
            for slot in step.outputs
        }
        body: list[str] = []
        never = []
        for slot, (node, _) in enumerate(self.graph.names):
            if node == "input":
                body.append(f"v{slot} = I[{slot}]")
            elif slot not in made:
                never.append(f"v{slot} = ")
        if never:
            body.append("".join(never) + "M")
        body.append("ret = None")
        if self._needs_epoch():
            body.append("e = Epoch(n)")
        for step in self.graph.steps:
            body.extend(self._step(step))
        ends = ", ".join(f"*e{number}" for number in reversed(self.scopes.values()))
        if self.watched:
            body.append(f"end([{ends + ', ' if ends else ''}e])")
        slots = "".join(f"v{slot}, " for slot in range(len(self.graph.names)))
        gathers = "".join(f"g{index}, " for index in self.gathers)
        body.append(f"S.last = (n, w, ret, ({slots}), ({gathers}), C)")
        body.append("if w: S.noev = []")
        body.append("return ret")
        indented = "\n".join("        " + line for line in body)
        return (
            "def run(S, n, I):\n"
            "    w = S.noev\n"
            "    try:\n"
            f"{indented}\n"
            "    except Odd as odd:\n"
            "        return odd_(odd, n, I, w, locals())\n"
            "    except BaseException:\n"
            "        abort(n, w, locals())\n"
            "        raise\n"
        )

    # ---- what a step needs

    def _needs_help(self, step: Step) -> bool:
        if step.kind in (Kind.MAP, Kind.RETURN):
            return False
        scopes = self.graph.tube.state.assets
        return (
            step.optional
            or "events" in step.injections
            or any(scopes[name].scope is AssetScope.node for name in step.assets if name in scopes)
            or any(name not in scopes for name in step.assets)
        )

    def _needs_epoch(self) -> bool:
        return self.watched or any(
            step.kind in (Kind.MAP, Kind.GATHER)
            or "epoch" in step.injections
            or step.updates
            or self.helped[step.index]
            for step in self.graph.steps
        )

    def _depth(self, slot: int) -> int:
        return len(self.graph.slot_scope[slot])

    # ---- steps

    def _step(self, step: Step) -> list[str]:
        if step.scope:
            return self._rows(step)
        if step.kind is Kind.MAP:
            return self._map(step)
        names = {arg.slot: f"v{arg.slot}" for arg in step.args if arg.slot >= 0}
        lines: list[str] = []
        if step.kind is Kind.RETURN:
            return self._return(step, names)
        inner = self._call(step, names, "0", "e")
        inner.extend(f"v{slot} = x{position}" for position, slot in enumerate(step.outputs))
        guard = " and ".join(f"v{slot} is not M" for slot in step.needs)
        if guard or self.helped[step.index]:
            absent = "".join(f"v{slot} = " for slot in step.outputs)
            lines.append(f"if {guard or 'True'}:")
            lines.extend("    " + line for line in inner)
            if absent:
                lines.append(f"else: {absent}M")
            return lines
        return inner

    def _call(self, step: Step, names: dict[int, str], row: str, epoch: str) -> list[str]:
        """Call a step and spread what it returns over x0, x1, ...; tell assets and callbacks."""
        index = step.index
        count = len(step.outputs)
        lines = [f"x = {self._expression(step, names, row, epoch)}"]
        spread: list[str] = []
        xs = ", ".join(f"x{position}" for position in range(count))
        if step.kind is Kind.GATHER:
            spread.append(f"x0 = o{index}(x, {row})")
        elif count == 1:
            spread.append(f"x0 = q{index}(x, {row}) if type(x) in ODD else x")
        elif count > 1:
            odd = " or ".join(f"type(x{position}) in ODD" for position in range(count))
            spread.append(f"if type(x) is tuple and len(x) == {count}:")
            spread.append(f"    {xs} = x")
            spread.append(f"    if {odd}: {xs} = s{index}(x, {row})")
            spread.append(f"else: {xs} = s{index}(x, {row})")
        for slot, asset in step.updates:
            position = step.outputs.index(slot)
            spread.append(
                f"if x{position} is not M: u{self.assets.index(asset)}(x{position}, {epoch})"
            )
        if self.watched and count:
            spread.append(f"y{index}({epoch}, {row}, {xs})")
        if not self.helped[index]:
            return lines + spread
        lines.append(f"if x is M: {' = '.join(f'x{p}' for p in range(count))} = M" if count else "")
        lines.append("else:")
        lines.extend("    " + line for line in spread or ["x = M"])
        return [line for line in lines if line]

    def _expression(self, step: Step, names: dict[int, str], row: str, epoch: str) -> str:
        index = step.index
        if self.helped[index]:
            given = "".join(f"{names[arg.slot]}, " for arg in step.args if arg.slot >= 0)
            return f"h{index}({row}, {epoch}, ({given}))"
        if step.kind is Kind.GENERATOR and not step.args and not step.injections:
            return f"f{index}()"
        values: dict[int | str, str] = {arg.key: self._value(arg, names) for arg in step.args}
        if "epoch" in step.injections:
            values[step.injections["epoch"]] = epoch
        passed = by_position(step, values)
        if passed is None:
            passed = [
                f"**{{k{index}_{place}: {values[arg.key]}}}"
                if isinstance(arg.key, str)
                else values[arg.key]
                for place, arg in enumerate(step.args)
            ]
            if "epoch" in step.injections:
                passed.append(f"**{{k{index}_e: {epoch}}}")
        call = f"f{index}({', '.join(passed)})"
        if step.assets:
            present = " or ".join(
                f"a{self.assets.index(name)}.obj is not None" for name in step.assets
            )
            given = "".join(f"{names[arg.slot]}, " for arg in step.args if arg.slot >= 0)
            call = f"{call} if {present} else h{index}({row}, {epoch}, ({given}))"
        return call

    def _value(self, arg: Arg, names: dict[int, str]) -> str:
        return names[arg.slot] if arg.asset is None else f"a{self.assets.index(arg.asset)}.obj"

    # ---- rows

    def _rows(self, step: Step) -> list[str]:
        """Run a step for each row of its scope."""
        scope, depth = step.scope, len(step.scope)
        number = self.scopes[scope]
        columns: dict[int, str] = {}
        sources: list[str] = []
        targets: list[str] = []
        for arg in step.args:
            if arg.slot < 0 or arg.slot in columns:
                continue
            theirs = self._depth(arg.slot)
            if theirs == 0:
                columns[arg.slot] = f"v{arg.slot}"
                continue
            columns[arg.slot] = f"c{arg.slot}"
            targets.append(f"c{arg.slot}")
            sources.append(
                f"v{arg.slot}"
                if theirs == depth
                else f"map(v{arg.slot}.__getitem__, p{number}_{theirs})"
            )
        absent = " or ".join(f"{columns[slot]} is M" for slot in step.needs)
        head = (
            f"for r, (ep, {', '.join(targets)}) in enumerate(zip(e{number}, {', '.join(sources)})):"
        )
        if step.kind is Kind.MAP:
            return self._nested_map(step, columns, head, absent)
        if step.kind is Kind.RETURN:
            return [
                *self._look_ahead(step, columns, head, absent),
                *self._row_return(step, columns, head, absent, number),
            ]
        if step.kind is Kind.GATHER:
            return self._gather(step, columns, head, absent, number)
        outputs = step.outputs
        lines = [f"v{slot} = []" for slot in outputs]
        lines.extend(self._look_ahead(step, columns, head, absent))
        lines.append(head)
        if absent:
            missing = "; ".join(f"v{slot}.append(M)" for slot in outputs)
            lines.append(f"    if {absent}: {missing + '; ' if missing else ''}continue")
        lines.extend("    " + line for line in self._call(step, columns, "r", "ep"))
        lines.extend(f"    v{slot}.append(x{position})" for position, slot in enumerate(outputs))
        return lines

    def _look_ahead(self, step: Step, columns: dict[int, str], head: str, absent: str) -> list[str]:
        """Stop before the first row if one lacks an optional argument: it may have to go first."""
        lacking = list(
            dict.fromkeys(f"{columns[arg.slot]} is M" for arg in step.args if not arg.required)
        )
        if not lacking:
            return []
        some = " or ".join(lacking)
        if step.kind is Kind.RETURN and len(lacking) > 1 and not step.needs:
            some = f"({some}) and not ({' and '.join(lacking)})"
        elif step.kind is Kind.RETURN and not step.needs:
            return []
        return [
            head,
            *([f"    if {absent}: continue"] if absent else []),
            f"    if {some}: j{step.index}(r)",
        ]

    def _gather(
        self, step: Step, columns: dict[int, str], head: str, absent: str, number: int
    ) -> list[str]:
        index, (slot,) = step.index, step.outputs
        depth = len(step.scope)
        self.gathers.append(index)
        outer = "" if depth == 1 else str(self.scopes[step.scope[:-1]])
        lines = [f"g{index} = []", f"v{slot} = {'M' if depth == 1 else f'[M] * len(e{outer})'}"]
        lines.append(head)
        if absent:
            lines.append(f"    if {absent}: continue")
        lines.append(f"    x = {self._expression(step, columns, 'r', 'ep')}")
        lines.append("    if x is M: continue")
        lines.append("    if x is N:")
        lines.append(f"        {f'y{index}(ep, r, M)' if self.watched else 'continue'}")
        if self.watched:
            lines.append("        continue")
        target = f"v{slot}" if depth == 1 else f"v{slot}[p{number}_{depth - 1}[r]]"
        lines.append(f"    {target} = x = x['value']")
        lines.append(f"    g{index}.append((r, x))")
        parent = "e" if depth == 1 else f"e{outer}[p{number}_{depth - 1}[r]]"
        lines.extend(f"    u{self.assets.index(asset)}(x, {parent})" for _, asset in step.updates)
        if self.watched:
            lines.append(f"    y{index}({parent}, r, x)")
        return lines

    # ---- maps

    def _map(self, step: Step) -> list[str]:
        values, total = step.outputs
        index = step.index
        (items,) = [arg.slot for arg in step.args]
        number = self.scopes[(step.id,)] = len(self.scopes)
        tell = [f"y{index}(e, e{number}, v{values}, v{total})"] if self.watched else []
        return [
            f"e{number} = v{values} = ()",
            f"v{total} = M",
            *([f"if v{items} is M: i{index}(0, M)"] if step.id in self.risky else []),
            f"if v{items} is not M:",
            f"    if len(v{items}) == 0: " + self._nothing(step, "0"),
            "    else:",
            f"        v{values} = [*v{items}]",
            f"        v{total} = len(v{values})",
            f"        e{number} = e.make_subepochs(m{index}, v{total})",
            *("    " + line for line in tell),
        ]

    def _nothing(self, step: Step, row: str) -> str:
        values, total = step.outputs
        tell = f"y{step.index}({'e' if row == '0' else 'ep'}, (), (), M); " if self.watched else ""
        if step.id in self.risky:
            return f"i{step.index}({row}, N)"
        return f"{tell}w.extend((({values}, {row}), ({total}, {row})))"

    def _nested_map(self, step: Step, columns: dict[int, str], head: str, absent: str) -> list[str]:
        values, total = step.outputs
        index, depth = step.index, len(step.scope)
        outer = self.scopes[step.scope]
        number = self.scopes[(*step.scope, step.id)] = len(self.scopes)
        (items,) = [columns[arg.slot] for arg in step.args]
        risk = f"i{index}(r, M); " if step.id in self.risky else ""
        lines = [
            f"e{number} = []; p{number}_{depth} = []; v{values} = []; v{total} = []",
            head,
            f"    if {absent or 'False'}: {risk}v{total}.append(M); continue",
            f"    x = {items}",
            f"    if len(x) == 0: {self._nothing(step, 'r')}; v{total}.append(M)",
            "    else:",
            "        x = [*x]; j = len(x)",
            f"        v{values}.extend(x); v{total}.append(j)",
            f"        x1 = ep.make_subepochs(m{index}, j); e{number}.extend(x1)",
            f"        p{number}_{depth}.extend([r] * j)",
        ]
        if self.watched:
            lines.append(f"        y{index}(ep, x1, x, j)")
        lines.extend(
            f"p{number}_{level} = [p{outer}_{level}[r] for r in p{number}_{depth}]"
            for level in range(1, depth)
        )
        return lines

    # ---- the tube's value

    def _return(self, step: Step, names: dict[int, str]) -> list[str]:
        index = step.index
        spec = step.node.spec
        slots = [arg.slot for arg in step.args]
        values = "".join(f"{names[slot]}, " for slot in slots if slot >= 0)
        named = [isinstance(arg.key, str) for arg in step.args]
        whole = ""
        if all(slot >= 0 for slot in slots):
            if spec is not None and isinstance(spec.depends, str):
                whole = names[slots[0]]
            elif not any(named):
                whole = f"({values})"
            elif all(named):
                pairs = ", ".join(f"k{index}_{p}: {names[s]}" for p, s in enumerate(slots))
                whole = f"{{{pairs}}}"
        events = [arg for arg in step.args if arg.slot >= 0 and arg.input is None]
        present = " and ".join(f"{names[arg.slot]} is not M" for arg in events) or "True"
        needs = " and ".join(f"{names[slot]} is not M" for slot in step.needs) or "True"
        helper = f"ret = h{index}(0, {'e' if self.watched else None}, ({values}))"
        tell = [f"    y{index}(e, 0, M)"] if self.watched else []
        if not whole:
            return [f"if {needs}: {helper}"]
        lines = [f"if {present}:", f"    ret = {whole}", *tell]
        if step.optional:
            lines.append(f"elif {needs}: {helper}")
        return lines

    def _row_return(
        self, step: Step, columns: dict[int, str], head: str, absent: str, number: int
    ) -> list[str]:
        index, depth = step.index, len(step.scope)
        values, wheres = "", ""
        for arg in step.args:
            if arg.slot >= 0:
                theirs = self._depth(arg.slot)
                values += f"{columns[arg.slot]}, "
                where = "0" if theirs == 0 else "r" if theirs == depth else f"p{number}_{theirs}[r]"
                wheres += f"{where}, "
        lines = [f"x = b{index}()", head]
        if absent:
            lines.append(f"    if {absent}: continue")
        lines.append(f"    h{index}(r, x, ({values}), ({wheres}))")
        if self.watched:
            lines.append(f"    y{index}(ep, r, M)")
        lines.append(f"ret = x.value(z{index})")
        return lines
