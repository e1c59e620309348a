"""Who a request comes from, and what it may do: tokens, roles, and the tags a worker may claim."""

from __future__ import annotations

import hmac
import os
import secrets
import tomllib
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from noob_cloud.exceptions import AuthenticationError, ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ANY_TAG",
    "BADGE_BITS",
    "TOKEN_HEADER",
    "TOKEN_VARIABLE",
    "Identity",
    "Role",
    "TokenBook",
    "generate_token",
]

Role = Literal["client", "worker", "admin"]
"""A client submits and reads; a worker claims and settles; an admin may do everything."""
ANY_TAG: Final = "*"
"""In an identity's tags: it may claim tasks of any tag that it asks for."""
TOKEN_HEADER: Final = "Noob-Token"  # noqa: S105 - the name of a header
"""Carries the token where `Authorization` carries a signature."""
TOKEN_VARIABLE: Final = "NOOB_CLOUD_TOKEN"  # noqa: S105 - the name of a variable
BADGE_BITS: Final = 32
"""Bits of an identity's badge."""
_BADGE: Final = (1 << BADGE_BITS) - 1
_ALIASES: Final = {"submit": "client", "work": "worker"}
_LEAST_LENGTH: Final = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds a token."""

    name: str
    """Shown in logs and in the list of workers."""
    role: Role = "client"
    tags: frozenset[str] = frozenset()
    """The tags that a worker with this identity may claim; `ANY_TAG` for whatever it asks for."""
    badge: int = field(init=False, repr=False, compare=False)
    """What a lease is marked with: a number made of the name, 0 for an admin. A lease that one
    identity claimed is no other one's to settle, however good the guess at its token is."""

    def __post_init__(self) -> None:
        """Work out the badge, once."""
        digest = blake2b(self.name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = 1 + int.from_bytes(digest, "big") % ((1 << BADGE_BITS) - 1)
        object.__setattr__(self, "badge", 0 if self.role == "admin" else number)

    def holds(self, lease_epoch: int) -> bool:
        """Whether a lease with this epoch was claimed by this identity; an admin holds any."""
        return self.role == "admin" or lease_epoch & _BADGE == self.badge

    def may(self, *roles: Role) -> bool:
        """Whether this identity has one of `roles`; an admin has them all."""
        return self.role == "admin" or self.role in roles

    def require(self, *roles: Role) -> None:
        """Return if this identity has one of `roles`.

        Raises:
            ForbiddenError: it has not.
        """
        if not self.may(*roles):
            wanted = " or ".join((*roles, "admin") if "admin" not in roles else roles)
            raise ForbiddenError(
                f"The token of {self.name!r} has the role {self.role!r}; this needs {wanted}.",
                role=self.role,
                needs=list(roles),
            )

    def claimable(self, asked: frozenset[str] | None = None) -> frozenset[str]:
        """Return the tags it may claim; what a request asks for can only narrow them."""
        if ANY_TAG in self.tags:
            return (self.tags if asked is None else asked) - {ANY_TAG}
        return self.tags if asked is None else self.tags & asked


@dataclass(frozen=True, slots=True)
class _Entry:
    token: bytes = field(repr=False)
    identity: Identity


class TokenBook:
    """Which token is whose.

    Args:
        identities: the identity of each token.

    Raises:
        ValueError: a token has characters that no header can carry.
    """

    def __init__(self, identities: Mapping[str, Identity]) -> None:
        self.generated: str | None = None
        """The token that was made because none was given: to be shown once."""
        self._key = secrets.token_bytes(32)
        self._entries: dict[bytes, _Entry] = {}
        for token, identity in identities.items():
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(
                    f"The token of {identity.name!r} must be printable ASCII without spaces."
                )
            raw = token.encode("ascii")
            self._entries[self._digest(raw)] = _Entry(raw, identity)

    @classmethod
    def from_settings(
        cls,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> TokenBook:
        """Make the book of a server from what it was started with.

        A single token is its owner's: role admin, any tags. With neither a token, nor a file, nor
        `NOOB_CLOUD_TOKEN` in the environment, one is made and left in `.generated`.

        Args:
            token: the single token; taken from the environment where it is None.
            token_file: a TOML file of scoped tokens; see `read`.
            environ: instead of `os.environ`.

        Raises:
            ValueError: the file is not what `read` describes, or a token is too short.
            OSError: the file cannot be read.
        """
        environ = os.environ if environ is None else environ
        identities = {} if token_file is None else read(Path(token_file))
        single = token or environ.get(TOKEN_VARIABLE) or None
        generated = None
        if single is None and not identities:
            single = generated = generate_token()
        if single is not None:
            identities[single] = Identity("owner", "admin", frozenset({ANY_TAG}))
        for text, identity in identities.items():
            if len(text) < _LEAST_LENGTH:
                raise ValueError(
                    f"The token of {identity.name!r} has {len(text)} characters; at least"
                    f" {_LEAST_LENGTH} are needed. `openssl rand -hex 32` makes a good one."
                )
        book = cls(identities)
        book.generated = generated
        return book

    def __len__(self) -> int:
        return len(self._entries)

    def authenticate(self, header: str | None) -> Identity:
        """Return whose token an `Authorization` header carries.

        The look-up goes by a digest under a key of this process, so that its timing says nothing
        about the tokens; the token itself is compared in constant time.

        Raises:
            AuthenticationError: there is no bearer token in it, or an unknown one.
        """
        if not header:
            raise AuthenticationError(
                "The request carries no token. Send the header `Authorization: Bearer TOKEN`"
                f" (the programs of noob-cloud take TOKEN from {TOKEN_VARIABLE})."
            )
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AuthenticationError("The Authorization header is not of the form `Bearer TOKEN`.")
        raw = token.strip().encode("utf-8", "surrogateescape")
        entry = self._entries.get(self._digest(raw))
        if entry is None or not hmac.compare_digest(entry.token, raw):
            raise AuthenticationError("The token is not known here.")
        return entry.identity

    def _digest(self, token: bytes) -> bytes:
        return blake2b(token, digest_size=16, key=self._key).digest()


def generate_token() -> str:
    """Return a new token of 256 random bits."""
    return secrets.token_urlsafe(32)


def read(path: Path) -> dict[str, Identity]:
    """Read a file of scoped tokens.

    TOML, one table a token::

        [[tokens]]
        token = "c0ffee..."     # 16 characters or more
        name = "gpu-box-1"
        role = "work"           # submit (or client), work (or worker), admin
        tags = ["gpu", "cuda"]  # what a worker may claim; ["*"] for anything

    Raises:
        ValueError: the file is not of this form; the message names the entry.
        OSError: it cannot be read.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    entries = document.get("tokens")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} has no [[tokens]] entry.")
    identities: dict[str, Identity] = {}
    for number, entry in enumerate(entries, 1):
        token, identity = _entry(entry, f"{path}: token {number}")
        if token in identities:
            raise ValueError(f"{path}: token {number} is listed twice.")
        identities[token] = identity
    return identities


def _entry(entry: Any, where: str) -> tuple[str, Identity]:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not a table.")  # noqa: TRY004 - the file's value is wrong
    unknown = entry.keys() - {"token", "name", "role", "tags"}
    if unknown:
        raise ValueError(f"{where} has unknown keys: {', '.join(sorted(unknown))}.")
    token, name, tags = entry.get("token"), entry.get("name"), entry.get("tags", [])
    if not isinstance(token, str) or not isinstance(name, str) or not name:
        raise ValueError(f"{where} needs a token and a name.")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise ValueError(f"{where} ({name}): tags is a list of words.")
    given = entry.get("role", "client")
    role = _ALIASES.get(given, given) if isinstance(given, str) else given
    if role not in get_args(Role):
        raise ValueError(f"{where} ({name}): the role {given!r} is none of submit, work, admin.")
    return token, Identity(name, cast("Role", role), frozenset(tags))
