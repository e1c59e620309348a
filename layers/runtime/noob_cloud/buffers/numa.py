"""Bind memory to a NUMA node: a machine's processors reach their own node's memory faster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["bind_mapping", "mbind", "nodes"]

_ONLINE = Path("/sys/devices/system/node/online")
_NUMBERS = {"x86_64": 237, "aarch64": 235}
_MPOL_BIND = 2


def nodes() -> list[int]:
    """Name the nodes that are online; node 0 where the kernel does not say."""
    try:
        said = _ONLINE.read_text().strip()
    except OSError:
        return [0]
    found: list[int] = []
    for part in said.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found += range(int(first), int(last or first) + 1)
    return found or [0]


def bind_mapping(mapping: Buffer, node: int | None) -> str:
    """Take the pages of a writable mapping from one node; say in words what became of it.

    Raises:
        ValueError: the machine has no such node.
        OSError: the system refuses.
    """
    if node is None:
        return "not bound"
    found = nodes()
    if node not in found:
        raise ValueError(f"there is no NUMA node {node}; this machine has {found}")
    if len(found) == 1:
        return "not bound: this machine has one node"
    import ctypes  # noqa: PLC0415 - slow to import, and for this only

    with memoryview(mapping) as view:
        mbind(ctypes.addressof(ctypes.c_char.from_buffer(view)), view.nbytes, node)
    return f"bound to node {node}"


def mbind(address: int, length: int, node: int) -> None:
    """Ask the kernel itself, as the C library does not wrap this call.

    Raises:
        OSError: the system refuses.
    """
    import ctypes  # noqa: PLC0415 - slow to import, and for this only

    machine = os.uname().machine
    if machine not in _NUMBERS:
        raise OSError(f"the number of mbind on {machine} is not known; leave numa_node unset")
    words = node // 64 + 1
    mask = (ctypes.c_uint64 * words)()
    mask[node // 64] = 1 << (node % 64)
    libc = ctypes.CDLL(None, use_errno=True)
    code = libc.syscall(
        ctypes.c_long(_NUMBERS[machine]),
        ctypes.c_void_p(address),
        ctypes.c_ulong(length),
        ctypes.c_long(_MPOL_BIND),
        mask,
        ctypes.c_ulong(words * 64 + 1),
        ctypes.c_long(0),
    )
    if code:
        number = ctypes.get_errno()
        raise OSError(number, f"mbind to node {node}: {os.strerror(number)}")
