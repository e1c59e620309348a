"""Compile the contract into the artefact that the package carries."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "contracts/src/TaskCoordinator.sol"
ARTIFACT = ROOT / "layers/runtime/noob_cloud/blockchain/abi/TaskCoordinator.json"
OPENZEPPELIN = "@openzeppelin/"
SETTINGS = {
    "optimizer": {"enabled": True, "runs": 1_000},
    "evmVersion": "paris",
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
}
IMPORT = re.compile(r'^import [^"]*"([^"]+)";', re.MULTILINE)


def sources(first: str = SOURCE) -> dict[str, dict[str, str]]:
    """The contract's file and all that it imports, by the name that solc knows each by."""
    found: dict[str, dict[str, str]] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = ROOT / "node_modules" / name if name.startswith(OPENZEPPELIN) else ROOT / name
        text = path.read_text(encoding="utf-8")
        found[name] = {"content": text}
        for target in IMPORT.findall(text):
            folder = Path("/") / Path(name).parent
            waiting.append(
                str((folder / target).resolve().relative_to("/"))
                if target.startswith(".")
                else target
            )
    return dict(sorted(found.items()))


def compile_contract() -> dict[str, Any]:
    """What the artefact should hold.

    Raises:
        SystemExit: The compiler refuses the sources; says why.
    """
    request = {
        "language": "Solidity",
        "sources": sources(),
        "settings": {
            **SETTINGS,
            "outputSelection": {
                SOURCE: {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}
            },
        },
    }
    answer = subprocess.run(  # noqa: S603  the compiler of package-lock.json
        ["node", ROOT / "contracts/solc", "--standard-json"],  # noqa: S607  npm's own
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    output = json.loads(answer.stdout)
    errors = [e["formattedMessage"] for e in output.get("errors", [])]
    if errors:
        raise SystemExit("\n".join(errors))
    contract = output["contracts"][SOURCE]["TaskCoordinator"]
    return {
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployed_bytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "compiler": {"solc": "0.8.20", "openzeppelin": "5.1.0", **SETTINGS},
    }


def rendered() -> str:
    """The artefact's text, byte for byte."""
    return json.dumps(compile_contract(), indent=1) + "\n"


def main(arguments: list[str]) -> None:
    """Write the artefact, or with `--check` fail if it is not what the sources compile to."""
    if arguments == ["--check"]:
        if ARTIFACT.read_text(encoding="utf-8") != rendered():
            raise SystemExit(
                f"{ARTIFACT.name} is not what the sources compile to: python contracts/build.py"
            )
    else:
        ARTIFACT.write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
