"""Executing a call: what comes back, what an error carries, what is never done."""

from __future__ import annotations

import copyreg
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import noob_cloud_testnodes as nodes
import pytest
from noob_cloud_testtubes.case import chain, node, result

from noob_cloud import codec
from noob_cloud.cid import digest
from noob_cloud.codec import cid_of
from noob_cloud.exceptions import (
    CodeMismatchError,
    DecodeError,
    NodeNotFoundError,
    PlanError,
    RemoteError,
    RemoteTraceback,
    TaskCancelledError,
    TubeNotFoundError,
    TubeRefusedError,
)
from noob_cloud.task import MISSING, Outcome, StageCall
from noob_cloud.tubes import TubeSource
from noob_cloud.worker import child
from noob_cloud.worker.by_hand import HandCall, execute_by_hand
from noob_cloud.worker.cache import TubeCache
from noob_cloud.worker.execute import (
    FINISHED,
    exception_of,
    execute,
    failure_of,
    outcome_of_error,
    outcome_of_failure,
    raise_outcome,
    run_stage,
)

SPEC = chain(
    "execute",
    a=node("double", "value=src.index"),
    b=node("fail_at", "value=a.value", params={"at": 6}),
    two=node("fail_two_fields", "value=src.index", params={"at": 1}),
    stop=node("stop", "value=src.index", params={"at": 1}),
    maybe=node("evens", "value=src.index"),
    scale=node("Scale", "value=src.index", stateful=False),
    wide=node("async_double", "value=src.index"),
    where=node("with_epoch", "value=src.index"),
    out=result("b=b.value"),
)


@pytest.fixture
def source() -> TubeSource:
    return TubeSource.of(SPEC)


@pytest.fixture
def tubes(source: TubeSource) -> TubeCache:
    cache = TubeCache()
    cache.add(source)
    return cache


def call_of(source: TubeSource, *names: str, inputs: list[Any], **more: Any) -> StageCall:
    return StageCall(
        tube=source.cid,
        nodes=names,
        epochs=tuple(range(len(inputs))),
        inputs=tuple((value,) for value in inputs),
        **more,
    )


def test_one_tuple_for_each_epoch(tubes: TubeCache, source: TubeSource) -> None:
    """The value is a list of output tuples, in the order of the epochs."""
    outcome = execute(call_of(source, "a", inputs=[1, 2, 5]), tubes=tubes)

    assert outcome.ok
    assert outcome.value == [(2,), (4,), (10,)]
    assert outcome.duration > 0


def test_no_event_is_missing_or_said(tubes: TubeCache, source: TubeSource) -> None:
    """A node that emits nothing leaves no value; None would be one."""
    outcome = execute(call_of(source, "maybe", inputs=[1, 2]), tubes=tubes)

    (nothing,), (something,) = outcome.value
    assert something == 2
    assert nothing is not None


def test_async_nodes_and_epochs(tubes: TubeCache, source: TubeSource) -> None:
    """Coroutines run to their end; a node that wants its epoch gets it."""
    assert execute(call_of(source, "wide", inputs=[4]), tubes=tubes).value == [(8,)]

    call = StageCall(source.cid, ("where",), ([3, ["m", 1]],), (("x",),))

    assert execute(call, tubes=tubes).value == [(["x", 3, 2],)]


def test_coroutines_in_several_threads(tubes: TubeCache, source: TubeSource) -> None:
    """A stage with coroutines may be called from several threads at once."""
    with ThreadPoolExecutor(4) as pool:
        calls = [call_of(source, "wide", inputs=[n, n]) for n in range(40)]
        outcomes = list(pool.map(lambda call: execute(call, tubes=tubes), calls))

    assert [outcome.value for outcome in outcomes] == [[(2 * n,)] * 2 for n in range(40)]


def test_error_names_node_and_epoch(tubes: TubeCache, source: TubeSource) -> None:
    """In a fused stage too the outcome says which node raised, and in which epoch."""
    outcome = execute(call_of(source, "a", "b", inputs=[1, 2, 3]), tubes=tubes)

    assert not outcome.ok
    assert outcome.error_type == "noob_cloud_testnodes.BadTileError"
    assert outcome.message == "no tile 6"
    assert (outcome.node_id, outcome.epoch) == ("b", 2)
    assert "fail_at" in (outcome.traceback or "")
    assert outcome.retryable


def test_error_comes_home_as_it_was(tubes: TubeCache, source: TubeSource) -> None:
    """The user's own class is raised at home, with the remote traceback, node and epoch."""
    outcome = execute(call_of(source, "b", inputs=[6]), tubes=tubes)

    with pytest.raises(nodes.BadTileError, match="no tile 6") as raised:
        raise_outcome(outcome)

    assert raised.value.node_id == "b"  # type: ignore[attr-defined]
    assert raised.value.epoch == 0  # type: ignore[attr-defined]
    assert raised.value.__notes__ == ["raised by node b in epoch 0"]
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "fail_at" in str(raised.value.__cause__)


def test_error_with_several_arguments(tubes: TubeCache, source: TubeSource) -> None:
    """Plain arguments travel one by one."""
    error = exception_of(execute(call_of(source, "two", inputs=[1]), tubes=tubes))

    assert isinstance(error, nodes.TwoFieldError)
    assert (error.code, error.reason) == (1, "does not fit")


def test_stop_iteration_survives(tubes: TubeCache, source: TubeSource) -> None:
    """StopIteration, which ends a run, is still one at home."""
    assert isinstance(
        exception_of(execute(call_of(source, "stop", inputs=[1]), tubes=tubes)), StopIteration
    )


def test_unknown_class_is_remote_error() -> None:
    """A class that is not imported here is named, and never imported."""
    outcome = Outcome(ok=False, error_type="antigravity.Fall", message="down", traceback="Trace")
    sys.modules.pop("antigravity", None)

    error = exception_of(outcome)

    assert isinstance(error, RemoteError)
    assert "antigravity.Fall: down" in str(error)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "name", ["builtins.exec", "builtins.SystemExit", "os.system", "x", "", "."]
)
def test_only_exceptions_are_made(name: str) -> None:
    """What is not an Exception is never called, whatever the bytes say."""
    error = exception_of(Outcome(ok=False, error_type=name, message="echo", args=("echo",)))

    assert isinstance(error, RemoteError)


def test_deployed_code_is_refused_or_run(
    tubes: TubeCache, source: TubeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task made for a packed project runs where that is deployed, and nowhere else."""
    call = call_of(source, "a", inputs=[1], code="project-1")

    monkeypatch.setenv("NOOB_CLOUD_CODE", "project-1")
    assert execute(call, tubes=tubes).ok

    monkeypatch.setenv("NOOB_CLOUD_CODE", "project-2")
    error = exception_of(execute(call, tubes=tubes))
    assert isinstance(error, CodeMismatchError)
    assert "wants code project-1, but this worker has project-2" in str(error)

    monkeypatch.delenv("NOOB_CLOUD_CODE")
    assert isinstance(exception_of(execute(call, tubes=tubes)), CodeMismatchError)


def test_wrong_code_is_refused(tubes: TubeCache, source: TubeSource) -> None:
    """A call made for other code than this worker has is not run."""
    ok = execute(call_of(source, "a", inputs=[1], code=source.code), tubes=tubes)
    assert ok.ok

    outcome = execute(call_of(source, "a", inputs=[1], code="other"), tubes=tubes)

    assert isinstance(exception_of(outcome), CodeMismatchError)
    assert "noob_cloud_testnodes" in (outcome.message or "")


def test_unknown_tube(source: TubeSource) -> None:
    """A tube that has not been here is named by its cid."""
    outcome = execute(call_of(source, "a", inputs=[1]), tubes=TubeCache())

    assert isinstance(exception_of(outcome), TubeNotFoundError)
    assert source.cid in (outcome.message or "")


def test_module_outside_allow_list() -> None:
    """A tube that names a module that is not allowed is refused before it is imported."""
    evil = TubeSource.of({"noob_id": "evil", "nodes": {"a": {"type": "os.getcwd"}}})
    cache = TubeCache(allowed_modules=["noob_cloud_testnodes"])
    cache.add(evil)

    outcome = execute(StageCall(evil.cid, ("a",), (0,), ((),)), tubes=cache)

    assert isinstance(exception_of(outcome), TubeRefusedError)
    assert not outcome.retryable


def test_cancelled_between_epochs(tubes: TubeCache, source: TubeSource) -> None:
    """A call that is cancelled does not begin its next epoch."""
    asked = iter([False, True])

    outcome = execute(
        call_of(source, "a", inputs=[1, 2, 3]), tubes=tubes, cancelled=lambda: next(asked)
    )

    assert isinstance(exception_of(outcome), TaskCancelledError)
    assert not outcome.retryable


def test_long_texts_are_cut() -> None:
    """Neither a huge message nor a huge argument travels."""
    outcome = outcome_of_error(ValueError("x" * 1_000_000))

    assert len(outcome.message or "") < 20_000
    assert outcome.args == ()
    assert len(outcome.traceback or "") < 40_000


def test_broken_str_is_survived() -> None:
    """An exception whose message cannot be made is still an outcome."""

    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert "Mute" in (outcome_of_error(Mute()).message or "")


def test_class_nodes_live_once(source: TubeSource) -> None:
    """A stateless class node is initialised once a process, deinitialised when its tube goes."""
    cache = TubeCache(limit=1)
    cache.add(source)
    nodes.LOG.clear()
    for value in (1, 2):
        execute(call_of(source, "scale", inputs=[value]), tubes=cache)
    assert [entry[0] for entry in nodes.LOG] == ["init", "process", "process"]

    cache.add(TubeSource.of(chain("other", a=node("double", "value=src.index"))))

    assert nodes.LOG[-1] == ("deinit", "scale")
    assert source.cid not in cache


def test_tube_in_use_is_kept(source: TubeSource) -> None:
    """A tube that is being used is not let go for a newer one."""
    cache = TubeCache(limit=1)
    cid = cache.add(source)
    with cache.lend(cid):
        cache.add(TubeSource.of(chain("newer", a=node("double", "value=src.index"))))
        assert cid in cache


def test_run_stage_raises_naturally(source: TubeSource) -> None:
    """In a plain pool the node's exception itself travels, with its notes."""
    call = call_of(source, "b", inputs=[1, 6])
    assert run_stage(source.document, call_of(source, "b", inputs=[1])) == [(1,)]

    with pytest.raises(nodes.BadTileError) as raised:
        run_stage(source.document, call)

    again = pickle.loads(pickle.dumps(raised.value))
    assert again.node_id == "b"
    assert again.__notes__ == ["raised by node b in epoch 1"]


def test_run_stage_needs_document_once(source: TubeSource) -> None:
    """The document is needed only the first time; before, its absence is an error."""
    other = TubeSource.of(chain("never-here", a=node("double", "value=src.index")))
    with pytest.raises(TubeNotFoundError):
        run_stage(None, call_of(other, "a", inputs=[1]))

    run_stage(other.document, call_of(other, "a", inputs=[1]))

    assert run_stage(None, call_of(other, "a", inputs=[4])) == [(8,)]


def test_run_stage_replaces_what_cannot_travel() -> None:
    """An exception that does not survive pickling becomes a RemoteError, so no pool breaks."""
    source = TubeSource.of(chain("awkward", a=node(f"{__name__}.awkward", "value=src.index")))
    sys.modules.setdefault(__name__, sys.modules[__name__])

    with pytest.raises(RemoteError, match="Awkward"):
        run_stage(source.document, call_of(source, "a", inputs=[1]))


def test_failure_text_comes_home() -> None:
    """What a queue keeps of a failure, two texts, is enough to raise it again."""
    error = KeyError("missing")
    outcome = outcome_of_error(error, node_id="b", epoch=3)

    again = exception_of(outcome_of_failure(*failure_of(outcome)))

    assert isinstance(again, KeyError)
    assert again.args == ("missing",)
    assert again.__notes__ == ["raised by node b in epoch 3"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [({"value": 4}, 8), ([4], 8), (4, 8)],
)
def test_by_hand(tubes: TubeCache, source: TubeSource, inputs: Any, expected: int) -> None:
    """A node called by hand takes its slots by name, in order, or as one value."""
    outcome = execute_by_hand(HandCall(source.cid, "a", 0, inputs), tubes=tubes)

    assert outcome.ok
    assert outcome.value == expected


def test_by_hand_async_and_epoch(tubes: TubeCache, source: TubeSource) -> None:
    """Coroutines run to their end by hand too, and a node that wants its epoch gets it."""
    wide = execute_by_hand(HandCall(source.cid, "wide", 0, 4), tubes=tubes)
    where = execute_by_hand(HandCall(source.cid, "where", 7, {"value": "x"}), tubes=tubes)

    assert wide.value == 8
    assert where.value == ["x", 7, 1]


def test_by_hand_says_what_is_there(tubes: TubeCache, source: TubeSource) -> None:
    """An unknown node's error lists the known ones."""
    error = exception_of(execute_by_hand(HandCall(source.cid, "nope"), tubes=tubes))

    assert isinstance(error, NodeNotFoundError)
    assert "a, b" in str(error)


def test_missing_stays_itself() -> None:
    """MISSING is one object, also after a pickle."""
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING


class AwkwardError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


@pytest.fixture(autouse=True)
def _pickled_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask, imported by another test, teaches pickle to load any exception."""
    monkeypatch.delitem(copyreg.dispatch_table, AwkwardError, raising=False)


def awkward(value: int) -> int:
    raise AwkwardError(value, value)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("noob_cloud_testnodes.LOG", PlanError, "LOG, which is a list and cannot be called"),
        ("os.path", PlanError, "is a module and cannot be called"),
        ("noob_cloud_testnodes.missing", CodeMismatchError, "which this machine does not have"),
    ],
)
def test_type_that_is_no_node(name: str, kind: type[Exception], words: str) -> None:
    """A tube whose node is nothing to call is refused with the name."""
    source = TubeSource.of({"noob_id": "no_node", "nodes": {"a": {"type": name}}})
    tubes = TubeCache()
    tubes.add(source)

    for outcome in (
        execute(call_of(source, "a", inputs=[1]), tubes=tubes),
        execute_by_hand(HandCall(source.cid, "a", inputs=1), tubes=tubes),
    ):
        with pytest.raises(kind, match=words):
            raise_outcome(outcome)


def test_outputs_before_the_epoch_that_raised(tubes: TubeCache, source: TubeSource) -> None:
    """An error outcome keeps what had ended, here and where it is raised again."""
    outcome = execute(call_of(source, "a", "b", inputs=[1, 2, 3, 4]), tubes=tubes)

    assert not outcome.ok
    assert outcome.epoch == 2
    assert outcome.value == [(2,), (4,)]
    assert getattr(exception_of(outcome), FINISHED) == outcome.value


def test_outputs_that_cannot_travel_do_not_hide_the_error() -> None:
    """What had ended before an error is left out where it has no place in the wire format."""
    outcome = outcome_of_error(ValueError("the real one"), node_id="a", epoch=1)
    kind, body = child.packed(replace(outcome, value=[(object(),)]))

    assert kind == child.ERROR
    assert codec.loads(body) == outcome


@pytest.mark.parametrize(
    ("epochs", "inputs", "words"),
    [((0, 1), ((1,),), "2 epochs and inputs for 1"), (("x",), ((1,),), "'x' is no epoch")],
)
def test_call_that_makes_no_sense(
    tubes: TubeCache, source: TubeSource, epochs: Any, inputs: Any, words: str
) -> None:
    """A call whose parts do not fit says which."""
    outcome = execute(StageCall(source.cid, ("a",), epochs, inputs), tubes=tubes)
    with pytest.raises(DecodeError, match=words):
        raise_outcome(outcome)


def test_code_that_changed_under_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has loaded a module does not take its new file for what it runs."""
    file = tmp_path / "noob_cloud_changing.py"
    file.write_text("def f(value: int) -> int:\n    return value + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = chain(
        "changing", a={"type": "noob_cloud_changing.f", "depends": [{"value": "src.index"}]}
    )
    one, two = TubeSource.of(spec), TubeSource.of({**spec, "noob_id": "two"})
    tubes = TubeCache()
    tubes.add(one)
    tubes.add(two)
    old = one.code
    assert execute(call_of(one, "a", inputs=[1], code=old), tubes=tubes).value == [(2,)]

    file.write_text("def f(value: int) -> int:\n    return value + 200\n")
    files = {"noob_cloud_changing": file, "noob_cloud_testnodes": Path(nodes.__file__)}
    new = cid_of([[name, digest(path.read_bytes())] for name, path in files.items()])

    outcome = execute(call_of(two, "a", inputs=[1], code=new), tubes=tubes)
    with pytest.raises(CodeMismatchError, match="restart it"):
        raise_outcome(outcome)
    assert TubeSource.of({**spec, "noob_id": "three"}).code == old
    sys.modules.pop("noob_cloud_changing")
    assert TubeSource.of({**spec, "noob_id": "four"}).code == new
