"""Tokens, roles, and the tags a worker may claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noob_cloud.exceptions import AuthenticationError, ForbiddenError
from noob_cloud.identity import ANY_TAG, Identity, TokenBook, generate_token, read

if TYPE_CHECKING:
    from pathlib import Path

GPU = Identity("box", "worker", frozenset({"gpu", "cuda"}))


def test_authenticate_known_token() -> None:
    """The identity of a request is that of its token, in any case of the scheme."""
    book = TokenBook({"s3cret": GPU})

    assert book.authenticate("Bearer s3cret") is GPU
    assert book.authenticate("bearer s3cret") is GPU


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer wrong", "Bearer \udcff é"],
)
def test_authenticate_refuses(header: str | None) -> None:
    """Nothing but a known bearer token is let in, whatever bytes it is made of."""
    with pytest.raises(AuthenticationError):
        TokenBook({"s3cret": GPU}).authenticate(header)


def test_error_names_no_token() -> None:
    """A refused token is not repeated in the error, nor are known ones shown by repr."""
    book = TokenBook({"s3cret": GPU})

    with pytest.raises(AuthenticationError) as caught:
        book.authenticate("Bearer hunter2hunter2")

    assert "hunter2" not in str(caught.value)
    assert "s3cret" not in repr(list(book._entries.values()))


def test_claimable_only_narrows() -> None:
    """A worker that lies about its tags gets none of what it is not allowed."""
    assert GPU.claimable() == {"gpu", "cuda"}
    assert GPU.claimable(frozenset({"gpu", "admin-only"})) == {"gpu"}
    assert GPU.claimable(frozenset()) == set()


def test_claimable_of_any_tag() -> None:
    """An identity for any tag claims what it asks for, and no tagged task unless it asks."""
    owner = Identity("owner", "admin", frozenset({ANY_TAG}))

    assert owner.claimable(frozenset({"gpu"})) == {"gpu"}
    assert owner.claimable() == set()
    assert owner.claimable(frozenset({ANY_TAG})) == set()


def test_require_role() -> None:
    """A role that does not allow it is told which does; an admin may do everything."""
    GPU.require("worker")
    Identity("root", "admin").require("client")

    with pytest.raises(ForbiddenError, match="'box' has the role 'worker'; this needs client"):
        GPU.require("client")


def test_generated_token_is_shown_once() -> None:
    """Without any token one is made, and it works."""
    book = TokenBook.from_settings(environ={})

    assert book.generated is not None
    assert book.authenticate(f"Bearer {book.generated}").role == "admin"
    assert generate_token() != generate_token()


def test_token_of_environment() -> None:
    """NOOB_CLOUD_TOKEN is the owner's."""
    book = TokenBook.from_settings(environ={"NOOB_CLOUD_TOKEN": "0123456789abcdef"})

    assert book.generated is None
    assert book.authenticate("Bearer 0123456789abcdef") == Identity(
        "owner", "admin", frozenset({ANY_TAG})
    )


def test_short_token_is_refused() -> None:
    """A token that can be guessed does not start a server."""
    with pytest.raises(ValueError, match="at least 16"):
        TokenBook.from_settings(token="short", environ={})


@pytest.mark.parametrize("token", ["", "with space", "tab\there", "non-ascii-é"])
def test_token_no_header_can_carry(token: str) -> None:
    """A token that cannot travel in a header is refused at the start."""
    with pytest.raises(ValueError, match="printable ASCII"):
        TokenBook({token: GPU})


FILE = """
[[tokens]]
token = "aaaaaaaaaaaaaaaa"
name = "ci"
role = "submit"

[[tokens]]
token = "bbbbbbbbbbbbbbbb"
name = "box"
role = "work"
tags = ["gpu", "cuda"]
"""


def test_file_of_scoped_tokens(tmp_path: Path) -> None:
    """A file gives each token its name, role and tags, and adds no owner by itself."""
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)

    book = TokenBook.from_settings(token_file=path, environ={})

    assert len(book) == 2
    assert book.generated is None
    assert book.authenticate("Bearer aaaaaaaaaaaaaaaa") == Identity("ci", "client")
    assert book.authenticate("Bearer bbbbbbbbbbbbbbbb") == GPU


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokens = 3", r"no \[\[tokens\]\]"),
        ("[[tokens", "not TOML"),
        ("[[tokens]]\ntoken = 'a'", "needs a token and a name"),
        ("tokens = ['a']", "not a table"),
        ("[[tokens]]\ntoken = 'a'\nname = 'x'\nroles = []", "unknown keys: roles"),
        ("[[tokens]]\ntoken = 'a'\nname = 'x'\nrole = 'king'", "'king' is none of"),
        ("[[tokens]]\ntoken = 'a'\nname = 'x'\nrole = []", "is none of"),
        ("[[tokens]]\ntoken = 'a'\nname = 'x'\ntags = 'gpu'", "tags is a list"),
        ("[[tokens]]\ntoken='a'\nname='x'\n[[tokens]]\ntoken='a'\nname='y'", "token 2 is listed"),
    ],
)
def test_file_in_disorder(tmp_path: Path, text: str, message: str) -> None:
    """A mistake in the file is named with its place."""
    path = tmp_path / "tokens.toml"
    path.write_text(text)

    with pytest.raises(ValueError, match=message):
        read(path)
