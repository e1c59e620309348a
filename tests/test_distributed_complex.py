"""Whole pipelines on several processes: complex graphs, many at once, and workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from noob import SynchronousRunner as UpstreamRunner
from noob_cloud_testtubes import Spec, chain, load, node, result, scalar, tube_spec
from tests.conformance.servers import environment, worker_server

from noob_cloud.executors.process import ProcessExecutor
from noob_cloud.runner import DistributedRunner, MultiProcessRunner, QueuedRunner, TaskQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from noob_cloud.runner import WorkerConfig


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(max_workers=2) as made:
        yield made


def upstream(spec: Spec, n: int) -> Any:
    runner = UpstreamRunner(load(spec))
    try:
        return runner.run(n)
    finally:
        runner.deinit()


IMAGES = chain(
    "complex-images",
    picture=node("image", "value=src.index", params={"side": 64}),
    cut=node("tiles", "image=picture.image", params={"side": 16}),
    tile=node("map", "value=cut.value"),
    bright=node("brighten", "image=tile.value"),
    turned=node("transpose", "image=bright.value"),
    measured=node("mean", "image=turned.value"),
    all=node("gather", "value=measured.mean", "n=tile.n"),
    summed=node("total", "items=all.value"),
    history=node("Window", "value=summed.sum", params={"size": 4}),
    out=result("means=all.value", "history=history.window"),
)


def _layers(width: int, depth: int) -> Spec:
    """Each node reads two of the layer above; a stateful node between every two layers."""
    nodes: Spec = {"src": node("counter")}
    above = [f"a0_{i}.next" for i in range(width)]
    for i in range(width):
        nodes[f"a0_{i}"] = node("increment", "value=src.index", params={"by": i})
    for layer in range(1, depth):
        for i in range(width):
            nodes[f"a{layer}_{i}"] = node(
                "add", f"left={above[i]}", f"right={above[(i + layer) % width]}"
            )
        above = [f"a{layer}_{i}.value" for i in range(width)]
        nodes[f"s{layer}"] = node("Accumulator", f"value={above[0]}")
        above[0] = f"s{layer}.total"
    nodes["all"] = node("gather_args", *above)
    nodes["out"] = scalar("all.value")
    return tube_spec("complex-layers", nodes)


class TestMultiProcessPipelines:
    def test_images_are_cut_measured_and_gathered(self, pool: ProcessExecutor) -> None:
        """Map over tiles, three steps for each, gather, and a history in epoch order."""
        with MultiProcessRunner(load(IMAGES), executor=pool) as runner:
            assert runner.run(6) == upstream(IMAGES, 6)

    def test_pictures_may_be_larger_than_a_message(self, pool: ProcessExecutor) -> None:
        """Eight megabytes there and back, each result its own."""
        spec = chain(
            "complex-large",
            picture=node("image", "value=src.index", params={"side": 2000}),
            bright=node("brighten", "image=picture.image", stateful=True),
            turned=node("transpose", "image=bright.value"),
            out=scalar("turned.value"),
        )
        with MultiProcessRunner(load(spec), executor=pool) as runner:
            results = runner.run(3)
        expected = upstream(spec, 3)
        assert results is not None
        assert all(
            np.array_equal(ours, theirs) for ours, theirs in zip(results, expected, strict=True)
        )

    def test_two_pools_of_workers_in_a_row(self, pool: ProcessExecutor) -> None:
        """What one runner returns another takes as input."""
        first = chain("complex-first", a=node("double", "value=src.index"), out=scalar("a.value"))
        second = tube_spec(
            "complex-second",
            {
                "a": node("increment", "value=input.x"),
                "s": node("Accumulator", "value=a.next"),
                "out": scalar("s.total"),
            },
            input={"x": {"type": "int", "scope": "process"}},
        )
        with (
            MultiProcessRunner(load(first), executor=pool) as producer,
            MultiProcessRunner(load(second), executor=pool) as consumer,
        ):
            told = [consumer.process(x=producer.process()) for _ in range(6)]
        assert told == [1, 4, 9, 16, 25, 36]


class TestComplexGraphs:
    @pytest.mark.parametrize(("width", "depth"), [(3, 3), (8, 5)])
    def test_layers_with_state_between_them(
        self, pool: ProcessExecutor, width: int, depth: int
    ) -> None:
        """Many epochs in flight, and every stateful node still sees them in order."""
        spec = _layers(width, depth)
        with MultiProcessRunner(load(spec), executor=pool) as runner:
            assert runner.run(25) == upstream(spec, 25)

    def test_long_chain_is_one_task(self, pool: ProcessExecutor) -> None:
        """A hundred stateless nodes in a row run in one place in one go."""
        nodes: Spec = {"src": node("counter"), "n0": node("increment", "value=src.index")}
        for i in range(1, 100):
            nodes[f"n{i}"] = node("increment", f"value=n{i - 1}.next")
        spec = tube_spec("complex-chain", {**nodes, "out": scalar("n99.next")})
        with MultiProcessRunner(load(spec), executor=pool) as runner:
            stages = {row.stage for row in runner.explain() if row.where == "remote"}
            assert runner.run(30) == list(range(100, 130))
        assert len(stages) == 1

    def test_nested_maps_with_state_inside(self, pool: ProcessExecutor) -> None:
        """Subepochs of subepochs keep their order through a stateful node."""
        spec = chain(
            "complex-nested",
            many=node("grid", "value=src.index"),
            m=node("map", "value=many.value"),
            m2=node("map", "value=m.value"),
            a=node("double", "value=m2.value"),
            s=node("Accumulator", "value=a.value"),
            b=node("increment", "value=s.total"),
            inner=node("gather", "value=b.next", "n=m2.n"),
            g=node("gather", "value=inner.value", "n=m.n", params={"flatten": True}),
            out=result("g=g.value"),
        )
        with MultiProcessRunner(load(spec), executor=pool) as runner:
            assert runner.run(10) == upstream(spec, 10)

    def test_branches_that_sometimes_do_not_happen(self, workers: list[WorkerConfig]) -> None:
        """NoEvent, optional slots and several signals, over HTTP."""
        spec = chain(
            "complex-branches",
            p=node("parity", "value=src.index"),
            a=node("double", "value=p.even"),
            b=node("increment", "value=p.odd"),
            o=node("blend", "this=a.value", "that=b.next"),
            s=node("Accumulator", "value=o.value"),
            m=node("multiples", "value=s.total", params={"of": 3}),
            out=result("o=o.value", "m=m.value"),
        )
        with DistributedRunner(load(spec), workers=workers) as runner:
            assert runner.run(20) == upstream(spec, 20)


class TestConcurrentExecution:
    def test_many_runners_share_one_pool(self, pool: ProcessExecutor) -> None:
        """Runners in several threads over the same workers do not mix their epochs."""
        specs = [_layers(3, 3), IMAGES, _layers(4, 2), IMAGES]

        def run(spec: Spec) -> Any:
            with MultiProcessRunner(load(spec), executor=pool) as runner:
                return runner.run(8)

        with ThreadPoolExecutor(len(specs)) as threads:
            results = list(threads.map(run, specs))
        assert results == [upstream(spec, 8) for spec in specs]

    def test_many_runners_share_the_worker_servers(self, workers: list[WorkerConfig]) -> None:
        """The same over HTTP."""
        specs = [_layers(3, 2), IMAGES, _layers(2, 3)]

        def run(spec: Spec) -> Any:
            with DistributedRunner(load(spec), workers=workers) as runner:
                return runner.run(5)

        with ThreadPoolExecutor(len(specs)) as threads:
            results = list(threads.map(run, specs))
        assert results == [upstream(spec, 5) for spec in specs]

    def test_several_runners_share_one_queue_file(
        self, tmp_path: Path, workers: list[WorkerConfig]
    ) -> None:
        """Each gets its own results back, though all tasks lie in one file."""
        path = str(tmp_path / "q.db")
        specs = [_layers(3, 2), _layers(2, 3)]

        def run(spec: Spec) -> Any:
            queue = TaskQueue(persistent=True, db_path=path)
            with QueuedRunner(load(spec), queue=queue, workers=workers) as runner:
                results = runner.run(5)
            queue.close()
            return results

        with ThreadPoolExecutor(len(specs)) as threads:
            results = list(threads.map(run, specs))
        assert results == [upstream(spec, 5) for spec in specs]

    def test_results_in_order_though_early_epochs_take_longest(self, pool: ProcessExecutor) -> None:
        """Later epochs finish first on the workers, and are yielded last."""
        spec = chain(
            "complex-late",
            a=node("later_first", "value=src.index", params={"seconds": 0.02}),
            out=scalar("a.value"),
        )
        with MultiProcessRunner(load(spec), executor=pool) as runner:
            assert runner.run(16) == list(range(16))


class TestWorkersThatDie:
    def _spec(self, tmp_path: Path) -> Spec:
        marker = tmp_path / "kill"
        marker.write_text(str(os.getpid()))
        return chain(
            "complex-killing",
            a=node("kill_once", "value=src.index", params={"marker": str(marker), "at": 5}),
            s=node("Accumulator", "value=a.value"),
            out=result("a=a.value", "s=s.total"),
        )

    def _expected(self) -> list[Any]:
        return [{"a": i * 2, "s": i * (i + 1)} for i in range(12)]

    def test_process_killed_in_the_middle_of_a_task(self, tmp_path: Path) -> None:
        """SIGKILL to a worker process costs nothing but time."""
        with MultiProcessRunner(load(self._spec(tmp_path)), max_workers=2) as runner:
            assert runner.run(12) == self._expected()
        assert not (tmp_path / "kill").exists(), "nobody was killed"

    def test_task_process_of_a_server_killed(self, tmp_path: Path) -> None:
        """A worker server survives the death of the process that runs its task."""
        with (
            worker_server(tmp_path, "left") as (left, _),
            worker_server(tmp_path, "right") as (
                right,
                _,
            ),
            DistributedRunner(load(self._spec(tmp_path)), workers=[left, right]) as runner,
        ):
            assert runner.run(12) == self._expected()
        assert not (tmp_path / "kill").exists(), "nobody was killed"

    def test_worker_of_a_queue_killed(self, tmp_path: Path) -> None:
        """Its lease runs out or is given back, and another attempt does the task."""
        queue = TaskQueue(persistent=True, db_path=str(tmp_path / "q.db"))
        with QueuedRunner(load(self._spec(tmp_path)), queue=queue, workers=2) as runner:
            assert runner.run(12) == self._expected()
        queue.close()
        assert not (tmp_path / "kill").exists(), "nobody was killed"

    def test_threads_end_with_the_runner(self, pool: ProcessExecutor) -> None:
        """A runner that has ended leaves no thread of its own."""
        counts = []
        for _ in range(3):
            with MultiProcessRunner(load(IMAGES), executor=pool) as runner:
                runner.run(2)
            counts.append(threading.active_count())
        assert counts[0] == counts[2]


class TestInterrupt:
    SCRIPT = """
import sys
from noob_cloud_testtubes import chain, load, node, scalar
from noob_cloud.runner import MultiProcessRunner

if __name__ == "__main__":
    spec = chain(
        "complex-interrupted",
        a=node("linger", "value=src.index", params={"seconds": 0.05}),
        out=scalar("a.value"),
    )
    runner = MultiProcessRunner(load(spec), max_workers=2)
    runner.add_callback(lambda event: print("event", flush=True))
    results = runner.run(100000)
    runner.deinit()
    print("kept", results == list(range(len(results))), flush=True)
"""

    def test_interrupt_ends_the_run_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Ctrl-C: `run` returns what it has, and every worker is gone."""
        script = tmp_path / "script.py"
        script.write_text(self.SCRIPT)
        started = subprocess.Popen(
            [sys.executable, str(script)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert started.stdout is not None
        for _ in range(20):  # of several epochs: the first has not returned at its first event
            assert started.stdout.readline() == "event\n"
        family = psutil.Process(started.pid).children(recursive=True)
        assert family
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to everyone
        said, _ = started.communicate(timeout=30)

        assert started.returncode == 0
        assert said.splitlines()[-1] == "kept True"
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
