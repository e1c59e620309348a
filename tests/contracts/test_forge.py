"""Forge's tests of the contract, each as a test of its own here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FORGE = ROOT / "node_modules/.bin/forge"
TESTS = re.compile(r"function ((?:test|invariant)\w+)\(")
CONTRACT = re.compile(r"^contract (\w+Test) ", re.MULTILINE)
INVARIANTS = "InvariantsTest"

pytestmark = [
    pytest.mark.skipif(
        shutil.which("node") is None or not FORGE.exists(),
        reason="The contract is tested with forge and solc from npm: install Node.js, then npm ci.",
    ),
    pytest.mark.timeout(600),  # the first compiles all with solc in JavaScript, on any machine
]


def declared() -> list[tuple[str, str]]:
    """The tests that the Solidity files declare, as (contract, name)."""
    found = []
    for path in sorted((ROOT / "contracts/test").glob("*.t.sol")):
        text = path.read_text(encoding="utf-8")
        contract = CONTRACT.findall(text)[-1]
        found += [(contract, name) for name in TESTS.findall(text)]
    return found


def forge(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FORGE, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """What became of each test that ran."""
    try:
        suites = json.loads(done.stdout)
    except json.JSONDecodeError:
        pytest.fail(f"forge did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return {
        (suite.rpartition(":")[2], name.partition("(")[0]): result
        for suite, results in suites.items()
        for name, result in results["test_results"].items()
    }


@pytest.fixture(scope="module")
def units() -> dict[tuple[str, str], dict[str, Any]]:
    return outcomes(forge("test", "--json", "--no-match-contract", INVARIANTS))


@pytest.fixture(scope="module")
def histories() -> dict[tuple[str, str], dict[str, Any]]:
    return outcomes(forge("test", "--json", "--match-contract", INVARIANTS))


@pytest.mark.parametrize(
    ("contract", "name"), [test for test in declared() if test[0] != INVARIANTS]
)
def test_forge(units: dict[tuple[str, str], dict[str, Any]], contract: str, name: str) -> None:
    """What the Solidity test of this name says."""
    result = units[contract, name]

    assert result["status"] == "Success", f"{result['reason']} {result['counterexample']}"


@pytest.mark.parametrize(
    ("contract", "name"), [test for test in declared() if test[0] == INVARIANTS]
)
def test_forge_invariant(
    histories: dict[tuple[str, str], dict[str, Any]], contract: str, name: str
) -> None:
    """What the invariant of this name says, through at least 125,000 random calls."""
    result = histories[contract, name]

    assert result["status"] == "Success", f"{result['reason']} {result['counterexample']}"
    assert result["kind"]["Invariant"]["calls"] >= 125_000


def test_every_forge_test_is_declared_here(
    units: dict[tuple[str, str], dict[str, Any]], histories: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """No test of forge's runs without a name in the summary; seventeen at least are exploits."""
    ran = {*units, *histories}

    assert ran == set(declared())
    assert sum(name.startswith("test_exploit") for _, name in ran) >= 17


def test_gas_is_what_the_snapshot_says() -> None:
    """No function costs another amount of gas than the committed snapshot says."""
    done = forge("test", "--match-contract", "GasTest")

    assert done.returncode == 0, (
        f"{done.stdout[-3000:]}{done.stderr[-3000:]}\n"
        "If it should: FORGE_SNAPSHOT_CHECK=false "
        "node_modules/.bin/forge test --match-contract GasTest"
    )


def test_every_branch_is_covered() -> None:
    """The tests reach each line, statement, branch and function of the contract."""
    done = forge(
        "coverage",
        "--no-match-coverage",
        "test",
        "--no-match-contract",
        INVARIANTS,
        FORGE_SNAPSHOT_CHECK="false",
        FORGE_SNAPSHOT_EMIT="false",
        FOUNDRY_OUT="out/forge-coverage",
        FOUNDRY_CACHE_PATH="out/forge-coverage-cache",
    )
    rows = [line for line in done.stdout.splitlines() if "contracts/src/" in line]

    assert len(rows) == 4, done.stdout[-3000:] + done.stderr[-3000:]
    for row in rows:
        assert row.count("100.00%") == 4, row


def test_the_artefact_is_what_the_sources_compile_to() -> None:
    """The ABI and the bytecode in the package are those of the sources, byte for byte."""
    done = subprocess.run(
        [sys.executable, ROOT / "contracts/build.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
