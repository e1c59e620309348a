"""A tube as a value: the same bytes for the same tube, and nothing imported that is not allowed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from noob import SynchronousRunner, Tube
from noob.tube import TubeSpecification
from noob_cloud_testtubes import CASES
from noob_cloud_testtubes.case import node, result, tube_spec

from noob_cloud.codec import canonical, dumps
from noob_cloud.exceptions import (
    CodeMismatchError,
    DecodeError,
    EncodeError,
    NoobCloudError,
    TubeRefusedError,
)
from noob_cloud.tubes import TubeSource

NODES = "noob_cloud_testnodes"


def spec(type_: str = f"{NODES}.double", **more) -> dict:
    return tube_spec(
        "small",
        {
            "src": node("counter", params={"limit": 3}),
            "a": {"type": type_, "depends": [{"value": "src.index"}], **more},
            "out": result("a=a.value"),
        },
    )


def write(path, value) -> None:
    """Write a tube's file; JSON is YAML."""
    header = {"noob_id": value["noob_id"], "noob_model": "noob.tube.TubeSpecification"}
    path.write_text(json.dumps(header | {"noob_version": "1003.0.2"} | value))


def document(**nodes) -> TubeSource:
    """A document as another machine may send it, unchecked by upstream."""
    return TubeSource(canonical({"spec": {"noob_id": "sent", "nodes": nodes}, "input": {}}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_tube_travels(case) -> None:
    """A tube loaded from its document is the tube: the same document again, the same results."""
    source = TubeSource.of(case.spec, input=case.input)
    again = TubeSource.from_document(source.document).load(source.modules)

    assert TubeSource.of(case.spec, input=case.input).document == source.document
    assert again.edges == case.tube().edges
    assert list(again.nodes) == list(case.tube().nodes)
    if case.feeds is None:
        n = min(case.n, 2)
        expected = SynchronousRunner(case.tube()).run(n=n)
        assert repr(SynchronousRunner(again).run(n=n)) == repr(expected)


def test_of_every_kind_of_source(tmp_path) -> None:
    """A dict, a specification, a path and a loaded tube make the same source."""
    made = TubeSource.of(spec())
    path = tmp_path / "small.yaml"
    write(path, spec())

    assert TubeSource.of(made) is made
    assert TubeSource.of(TubeSpecification.from_any(spec())).cid == made.cid
    assert TubeSource.of(Tube.from_specification(spec())).cid == made.cid
    assert TubeSource.of(path).types == made.types
    assert TubeSource.of(str(path)).types == made.types
    with pytest.raises(KeyError, match="no-such-tube"):
        TubeSource.of("no-such-tube")


def test_of_leaves_its_argument_alone() -> None:
    """Making a source changes neither the dict nor what it says."""
    given = spec()
    TubeSource.of(given)

    assert given == spec()


def test_of_a_tube_without_a_specification() -> None:
    """A tube that was put together by hand cannot travel, and is told so."""
    tube = Tube.from_specification(spec())
    tube.spec = None

    with pytest.raises(ValueError, match="from_specification"):
        TubeSource.of(tube)


def test_of_a_tube_keeps_what_was_disabled() -> None:
    """A node disabled after loading is disabled on the other side."""
    tube = Tube.from_specification(spec())
    tube.disable_node("a")

    assert TubeSource.of(tube).load().nodes["a"].enabled is False
    tube.enable_node("a")
    assert TubeSource.of(tube).cid == TubeSource.of(spec()).cid


def test_cid_tells_tubes_apart() -> None:
    """Another parameter, order or input is another tube."""
    base = tube_spec(
        "inputs",
        {
            "a": node("increment", "value=input.x", params={"by": "input.by"}),
            "out": result("a=a.next"),
        },
        input={"x": {"type": "int", "scope": "process"}, "by": {"type": "int", "scope": "tube"}},
    )

    assert TubeSource.of(base, input={"by": 1}).cid != TubeSource.of(base, input={"by": 2}).cid
    assert TubeSource.of(base, input={"by": 1}).cid == TubeSource.of(base, input={"by": 1}).cid


def test_input_that_cannot_travel() -> None:
    """An input of an unknown type is an EncodeError, not a tube that differs elsewhere."""
    with pytest.raises(EncodeError, match="object"):
        TubeSource.of(spec(), input={"x": object()})


def test_load_refuses_a_module() -> None:
    """A module that is not allowed is named, with the flag that would allow it."""
    source = TubeSource.of(spec())

    with pytest.raises(TubeRefusedError, match=f"--allow-module {NODES}") as caught:
        source.load([])
    assert caught.value.module == NODES
    assert isinstance(caught.value, PermissionError)
    source.load([NODES])


@pytest.mark.parametrize(
    "type_",
    [
        "os.system",
        "subprocess.Popen",
        "eval",
        "exec",
        "__import__",
        "open",
        "noob.types._from_jsonable_pickle",
        "noob.node.tube.TubeNode",
        "noob_cloud_testnodes_evil.double",
        "builtins.eval",
    ],
)
def test_load_refuses_what_runs_code(type_) -> None:
    """Neither a module nor a builtin that runs anything gets past an allow-list."""
    with pytest.raises(TubeRefusedError):
        document(a={"type": type_, "params": {}}).load([NODES])


def test_refused_modules_are_not_imported(tmp_path) -> None:
    """Refusing a tube runs nothing of it, whichever of its nodes is the bad one."""
    (tmp_path / "noob_bad.py").write_text("raise SystemExit('imported')")
    (tmp_path / "noob_good.py").write_text("raise SystemExit('imported')")
    script = """
        from noob_cloud.codec import canonical
        from noob_cloud.exceptions import TubeRefusedError
        from noob_cloud.tubes import TubeSource
        nodes = {"a": {"type": "noob_good.f"}, "b": {"type": "noob_bad.f"}}
        source = TubeSource(canonical({"spec": {"noob_id": "x", "nodes": nodes}, "input": {}}))
        source.code
        try:
            source.load(["noob_good"])
        except TubeRefusedError as error:
            print("refused", error.module)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stdout == "refused noob_bad\n", done.stderr


def test_load_refuses_names_an_allowed_module_imported(tmp_path, monkeypatch) -> None:
    """`from os import system` in an allowed module does not make `system` a node."""
    (tmp_path / "noob_reexport.py").write_text(
        "from os import system\nfrom noob.node.tube import TubeNode\n"
        "def mine(value: int) -> int:\n    return value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(TubeRefusedError, match=r"posix|nt"):
        document(a={"type": "noob_reexport.system"}).load(["noob_reexport"])
    with pytest.raises(TubeRefusedError, match="nested"):
        document(a={"type": "noob_reexport.TubeNode"}).load(["noob_reexport"])
    TubeSource.of(spec("noob_reexport.mine")).load(["noob_reexport", NODES])


def test_origins_allow_a_tube_of_ones_own(tmp_path, monkeypatch) -> None:
    """A tube that names what its package hands on loads where its origins are allowed."""
    (tmp_path / "noob_package").mkdir()
    (tmp_path / "noob_package" / "__init__.py").write_text("from noob_inner import double\n")
    (tmp_path / "noob_inner.py").write_text(
        "def double(value: int) -> int:\n    return 2 * value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = TubeSource.of(spec("noob_package.double"))

    with pytest.raises(TubeRefusedError, match="noob_inner"):
        source.load(source.modules)
    assert source.origins == ("noob_cloud_testnodes", "noob_inner", "noob_package")
    source.load(source.origins)


def test_load_names_code_that_is_missing() -> None:
    """An allowed module that is not installed, or lacks the node, is a CodeMismatchError."""
    for type_ in ("noob_absent.double", f"{NODES}.no_such_node"):
        with pytest.raises(CodeMismatchError, match=type_):
            document(a={"type": type_}).load(["noob_absent", NODES])


def test_an_allowed_package_allows_what_is_below_it() -> None:
    """`pkg` allows `pkg.nodes`, never `pkgs`."""
    source = document(a={"type": "noob_pkg.nodes.double"})

    for allowed in (["noob_pkg"], ["noob_pkg.nodes"]):
        with pytest.raises(CodeMismatchError):
            source.load(allowed)
    for allowed in (["noob_pk"], ["noob_pkg.nodes.double"], ["noob_pkg.node"]):
        with pytest.raises(TubeRefusedError):
            source.load(allowed)


def test_nested_tubes_are_checked() -> None:
    """A tube inside a tube inside a tube is held to the same list."""
    inner = spec("os.getpid")
    middle = tube_spec("middle", {"t": {"type": "tube", "params": {"tube": inner}}})
    outer = tube_spec("outer", {"t": {"type": "tube", "params": {"tube": middle}}})
    source = document(**outer["nodes"])

    assert source.modules == (NODES, "os")
    with pytest.raises(TubeRefusedError, match=r"os\.getpid"):
        source.load([NODES])


def test_nested_tubes_are_written_out(tmp_path, monkeypatch) -> None:
    """A nested tube given by path or by input is in the document; no worker looks for a file."""
    inner = tube_spec(
        "inner",
        {"a": node("double", "value=input.x"), "out": result("doubled=a.value")},
        input={"x": {"type": "int", "scope": "process"}},
    )
    path = tmp_path / "inner.yaml"
    write(path, inner)

    def outer(tube) -> dict:
        nodes = {
            "src": node("counter", params={"limit": 3}),
            "t": node("tube", "x=src.index", params={"tube": tube}),
            "out": result("d=t.doubled"),
        }
        return tube_spec(
            "outer", nodes, input={"sub": {"type": "dict", "scope": "tube", "default": None}}
        )

    for source in (
        TubeSource.of(outer(str(path))),
        TubeSource.of(outer(path)),
        TubeSource.of(outer("input.sub"), input={"sub": inner}),
    ):
        assert source.value["spec"]["nodes"]["t"]["params"]["tube"]["nodes"]["a"] == {
            "type": f"{NODES}.double",
            "depends": [{"value": "input.x"}],
        }
        assert SynchronousRunner(source.load([NODES])).run(n=2) == [{"d": 0}, {"d": 2}]


def test_load_refuses_to_extend_a_file(tmp_path) -> None:
    """A document is whole: a file of the worker's that it extends would escape the allow-list."""
    path = tmp_path / "other.yaml"
    write(path, tube_spec("other", {"evil": node("antigravity.nothing")}))
    inner = spec() | {"extends": [str(path)]}
    outer = tube_spec("outer", {"inner": {"type": "tube", "params": {"tube": inner}}})

    for value in (inner, outer):
        with pytest.raises(DecodeError, match="extends"):
            TubeSource.from_document(canonical({"spec": value, "input": {}})).load([NODES])


def test_assets_are_checked() -> None:
    """An asset's type is imported as a node's is."""
    assets = {"conn": {"type": "socket.socket", "scope": "runner"}}
    value = {"spec": {"noob_id": "x", "assets": assets, "nodes": {}}, "input": {}}
    source = TubeSource(canonical(value))

    assert source.modules == ("socket",)
    with pytest.raises(TubeRefusedError, match="socket"):
        source.load([])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"spec": {}},
        {"spec": [], "input": {}},
        {"spec": {}, "input": []},
        {"spec": {}, "input": {}, "more": 1},
        {"spec": {"nodes": []}, "input": {}},
        {"spec": {"nodes": {"a": 1}}, "input": {}},
        {"spec": {"nodes": {"a": {"type": 3}}}, "input": {}},
        {"spec": {"nodes": {"a": {"type": "tube", "params": {"tube": "an-id"}}}}, "input": {}},
        {"spec": {"nodes": {"a": {"type": "tube", "params": {"tube": "input.x"}}}}, "input": {}},
    ],
)
def test_from_document_refuses_what_is_no_tube(value) -> None:
    """A well-formed frame that holds something else is a DecodeError."""
    with pytest.raises(DecodeError):
        TubeSource.from_document(dumps(value))


def test_from_document_refuses_other_bytes() -> None:
    """Bytes that are no frame, a pickle among them, are refused."""
    for data in (b"", b"\x80\x05K\x01.", b"nodes: {}"):
        with pytest.raises(NoobCloudError):
            TubeSource.from_document(data)


def test_code_follows_the_source_files(tmp_path, monkeypatch) -> None:
    """The code's cid changes with a node's module and with nothing else; none is imported."""
    module = tmp_path / "noob_versioned.py"
    module.write_text("def f(): return 1")
    monkeypatch.syspath_prepend(tmp_path)

    def code() -> str:
        return document(a={"type": "noob_versioned.f"}, b={"type": "sum"}).code

    first = code()
    assert first == code()
    module.write_text("def f(): return 2")
    assert code() != first
    module.unlink()
    assert code() != first
    assert "noob_versioned" not in sys.modules


def test_code_of_packages_and_builtins() -> None:
    """Packages, built-in modules and missing ones have a code as well."""
    codes = {
        document(a={"type": type_}).code
        for type_ in ("json.decoder.JSONDecoder", "math.sqrt", "itertools.count", "noob_absent.x.y")
    }
    assert len(codes) == 4
    assert document(a={"type": "map"}).code == document(a={"type": "sum"}).code
