"""A chain on this machine: in this process, or anvil beside it.

```python
with embedded_chain() as chain:
    coordinator = EthereumTaskCoordinator(chain.config(), rpc=chain.rpc)
```
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.embedded import EmbeddedEndpoint
from noob_cloud.blockchain.errors import ChainError
from noob_cloud.blockchain.rpc import HttpEndpoint, Rpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ANVIL_KEYS", "LocalChain", "anvil_chain", "embedded_chain", "find_anvil"]

ANVIL_KEYS: Final = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
)
"""Keys of anvil's first accounts: everybody knows them, so nothing of value may be theirs."""
_LISTENS = re.compile(r"Listening on 127\.0\.0\.1:(\d+)")
_PATIENCE: Final = 20.0


class LocalChain:
    """A chain to try things on: free ether, blocks and time at will.

    Args:
        rpc: asks it.
        keys: private keys of accounts that have ether.
        url: where other processes reach it; None: they cannot.
    """

    def __init__(self, rpc: Rpc, keys: Sequence[str], url: str | None = None) -> None:
        self.rpc = rpc
        self.keys = tuple(keys)
        self.url = url

    @property
    def chain_id(self) -> int:
        """Its number."""
        return self.rpc.chain_id

    def config(self, account: int = 0, **settings: Any) -> BlockchainConfig:
        """Return settings of this chain with the key of one of its accounts."""
        return BlockchainConfig(
            **{
                "chain_id": self.chain_id,
                "rpc_url": self.url or (),
                "private_key": self.keys[account],
                "poll_interval": 0.05,
                **settings,
            }
        )

    def mine(self, blocks: int = 1) -> None:
        """Make blocks."""
        method = "evm_mine" if self.url is None else "anvil_mine"
        self.rpc.call(method, hex(blocks))

    def advance(self, seconds: int) -> None:
        """Let time pass, and make a block in the time that is now."""
        self.rpc.call("evm_increaseTime", hex(seconds))
        self.mine()

    def reorg(self, depth: int, transactions: Sequence[Any] = ()) -> None:
        """Replace the newest blocks by as many others (anvil only).

        Args:
            depth: how many.
            transactions: pairs of a transaction and the index of the new block that has it; those
                of the blocks that are gone are gone with them.
        """
        self.rpc.call("anvil_reorg", depth, list(transactions))

    def automine(self, *, on: bool) -> None:
        """Make a block for each transaction, or only when told to (anvil only)."""
        self.rpc.call("evm_setAutomine", on)


@contextmanager
def embedded_chain(*, automine: bool = True) -> Iterator[LocalChain]:
    """Run a chain in this process: nothing but Python is needed.

    Raises:
        ExtraMissingError: eth-tester is not installed.
    """
    endpoint = EmbeddedEndpoint(automine=automine)
    with Rpc([endpoint], endpoint.chain_id) as rpc:
        yield LocalChain(rpc, endpoint.keys)


def find_anvil() -> Path | None:
    """Return the path of anvil: `NOOB_CLOUD_ANVIL`, the PATH's, or that of a `node_modules` above.

    Its package's postinstall script may not have run; the binary is there all the same.
    """
    given = os.environ.get("NOOB_CLOUD_ANVIL") or shutil.which("anvil")
    if given:
        return Path(given)
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform, sys.platform)
    machine = "arm64" if os.uname().machine in ("arm64", "aarch64") else "amd64"
    below = Path("node_modules", "@foundry-rs", f"anvil-{system}-{machine}", "bin", "anvil")
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / below).exists():
            return folder / below
    return None


@contextmanager
def anvil_chain(
    *options: str, port: int = 0, chain_id: int = 31337, block_time: float | None = None
) -> Iterator[LocalChain]:
    """Run anvil, a node of Ethereum for development, as a process of its own.

    Args:
        options: further ones of its command line, such as `--slots-in-an-epoch`, `2`.
        port: to listen on, on this machine alone; 0: any free one.
        chain_id: what it says it is.
        block_time: seconds between blocks; None: a block for each transaction.

    Raises:
        ChainError: it is not installed, or does not start.
    """
    path = find_anvil()
    if path is None:
        raise ChainError(
            "anvil is not installed: run npm ci, or set NOOB_CLOUD_ANVIL to its path;"
            " embedded_chain() needs nothing but Python."
        )
    command = [str(path), "--port", str(port), "--chain-id", str(chain_id), *options]
    if block_time is not None:
        command += ["--block-time", f"{block_time:g}"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(  # noqa: S603 - the path is the user's own
            command, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            url = f"http://127.0.0.1:{_port(process, said)}"
            endpoint = HttpEndpoint(url, timeout=30.0, max_bytes=256_000_000)
            with Rpc([endpoint], chain_id) as rpc:
                yield LocalChain(rpc, ANVIL_KEYS, url)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(process: subprocess.Popen[bytes], said: IO[str]) -> int:
    """Wait until the node listens; return where."""
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        said.seek(0)
        told = said.read()
        found = _LISTENS.search(told)
        if found:
            return int(found[1])
        if process.poll() is not None:
            raise ChainError(f"anvil ended with {process.returncode}: {told.strip()[-300:]}")
        time.sleep(0.02)
    raise ChainError(f"anvil did not start within {_PATIENCE:g} s.")
