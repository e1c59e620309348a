"""The tubes of one process: loaded once, their stages compiled once, the oldest let go."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from noob_cloud.exceptions import NodeNotFoundError, TubeNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from noob import Tube
    from noob.node import Node
    from noob_core import Epoch

    from noob_cloud.engine import StageProgram
    from noob_cloud.plan import Plan
    from noob_cloud.tubes import TubeSource

    Program = Callable[[Epoch, Sequence[Any]], tuple[Any, ...]]
    """A compiled stage: the epoch and its input values to its output values."""


class _OneAtATime:
    """A stage with coroutines: it has one event loop, which one thread at a time may run."""

    def __init__(self, program: StageProgram) -> None:
        self._program = program
        self._lock = Lock()

    def __call__(self, epoch: Epoch, values: Sequence[Any]) -> tuple[Any, ...]:
        """Run the stage once."""
        with self._lock:
            return self._program(epoch, values)


class CachedTube:
    """One tube here: loaded when first used, with the compiled programs of its stages."""

    def __init__(self, source: TubeSource, allowed_modules: Sequence[str] | None) -> None:
        self.source = source
        self.users = 0
        self._allowed = allowed_modules
        self._lock = RLock()
        self._tube: Tube | None = None
        self._plan: Plan | None = None
        self._programs: dict[tuple[str, ...], Program] = {}
        self._compiled: list[StageProgram] = []
        self._initialised: dict[str, Node] = {}

    @property
    def code(self) -> str:
        """The cid of the code that the tube's nodes come from, as it is installed here."""
        return self.source.code

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that the tube's nodes come from."""
        return tuple(self.source.modules)

    @property
    def tube(self) -> Tube:
        """The tube itself.

        Raises:
            TubeRefusedError: it names a module that may not be imported here.
        """
        with self._lock:
            if self._tube is None:
                self._tube = self.source.load(allowed_modules=self._allowed)
            return self._tube

    def program(self, nodes: tuple[str, ...]) -> Program:
        """Return the compiled stage of `nodes`, its class nodes initialised."""
        program = self._programs.get(nodes)
        if program is not None:
            return program
        from noob_cloud.engine import StageProgram  # noqa: PLC0415 - imports stay light
        from noob_cloud.plan import Plan  # noqa: PLC0415 - imports stay light

        with self._lock:
            if nodes not in self._programs:
                if self._plan is None:
                    self._plan = Plan(self.tube)
                program = StageProgram(self.tube, nodes, plan=self._plan)
                program.init()
                loops = any(self.tube.nodes[node_id].is_coroutine for node_id in nodes)
                self._compiled.append(program)
                self._programs[nodes] = _OneAtATime(program) if loops else program
            return self._programs[nodes]

    def node(self, node_id: str) -> Node:
        """Return one node, initialised.

        Raises:
            NodeNotFoundError: the tube has no such node.
        """
        with self._lock:
            node = self.tube.nodes.get(node_id)
            if node is None:
                known = ", ".join(sorted(self.tube.nodes))
                raise NodeNotFoundError(f"the tube has no node {node_id!r}; it has {known}")
            if node_id not in self._initialised:
                node.init()
                self._initialised[node_id] = node
            return node

    def close(self) -> None:
        """Deinitialise the nodes that ran here."""
        with self._lock:
            self._programs.clear()
            while self._compiled:
                self._compiled.pop().deinit()
            while self._initialised:
                self._initialised.popitem()[1].deinit()


class TubeCache:
    """Tubes by cid, at most `limit`; safe to share between threads.

    Args:
        limit: how many are kept; the one not used for longest goes first, never one in use.
        allowed_modules: prefixes of the modules that a tube may import; None: any, for one's own
            child processes.
    """

    def __init__(self, *, limit: int = 32, allowed_modules: Sequence[str] | None = None) -> None:
        self._limit = limit
        self._allowed = allowed_modules
        self._tubes: OrderedDict[str, CachedTube] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, cid: str) -> bool:
        return cid in self._tubes

    def __len__(self) -> int:
        return len(self._tubes)

    def add(self, tube: TubeSource | bytes) -> str:
        """Know a tube from now on; return its cid. Nothing is imported before it is used.

        Raises:
            DecodeError: the bytes are not a tube's document.
        """
        from noob_cloud.tubes import TubeSource  # noqa: PLC0415 - imports stay light

        source = TubeSource.from_document(tube) if isinstance(tube, bytes) else tube
        with self._lock:
            if source.cid in self._tubes:
                self._tubes.move_to_end(source.cid)
                return source.cid
            self._tubes[source.cid] = CachedTube(source, self._allowed)
            excess = list(self._tubes)[: max(0, len(self._tubes) - self._limit)]
            idle = [cid for cid in excess if self._tubes[cid].users == 0]
            gone = [self._tubes.pop(cid) for cid in idle]
        for old in gone:
            old.close()
        return source.cid

    def discard(self, cid: str) -> None:
        """Forget a tube that does not load."""
        with self._lock:
            self._tubes.pop(cid, None)

    @contextmanager
    def lend(self, cid: str) -> Iterator[CachedTube]:
        """Hold a tube while it is used.

        Raises:
            TubeNotFoundError: `add` it first.
        """
        with self._lock:
            tube = self._tubes.get(cid)
            if tube is None:
                raise TubeNotFoundError(
                    f"no tube {cid} is known here; send its document first", tube=cid
                )
            self._tubes.move_to_end(cid)
            tube.users += 1
        try:
            yield tube
        finally:
            with self._lock:
                tube.users -= 1

    def close(self) -> None:
        """Let every tube go."""
        with self._lock:
            tubes = list(self._tubes.values())
            self._tubes.clear()
        for tube in tubes:
            tube.close()
