"""Ask nodes over JSON-RPC, and believe none of them more than it deserves.

An answer is bounded in size and in time, has to be for the question that was asked, and comes from
a node that has shown that it is of the right chain. Where a node fails the next one is asked.
"""

from __future__ import annotations

import re
import time
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import msgspec

from noob_cloud.blockchain.errors import (
    ConfigError,
    DisagreementError,
    RpcAnswerError,
    RpcError,
    WrongChainError,
)
from noob_cloud.blockchain.nodes import Endpoint, HttpEndpoint, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noob_cloud.blockchain.config import BlockchainConfig

__all__ = ["Endpoint", "HttpEndpoint", "Rpc", "shown"]

Call = tuple[str, "Sequence[Any]"]
"""A method and its parameters."""
_REST: Final = 15.0
"""Seconds that a node which failed is passed over, while another one answers."""
_TOO_LARGE: Final = -32005
"""What nodes say of an answer that is too large, and some of too many questions."""
_LIMITED: Final = frozenset((_TOO_LARGE, 429))
"""Codes of nodes that want to be asked less."""
_RATE: Final = re.compile(
    r"rate|per (second|minute|day)|request count|too many requests|quota", re.IGNORECASE
)
_NUMBER: Final = re.compile("0x[0-9a-fA-F]{1,64}")
_Result = TypeVar("_Result")


class _Refusal(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: Any = None


class _Answer(msgspec.Struct, Generic[_Result]):
    id: int | str | None = None
    result: _Result | None = None
    error: _Refusal | None = None


class Rpc:
    """The nodes of one chain, as one. Threads may share it.

    Args:
        endpoints: the nodes, the preferred one first.
        chain_id: what each has to be of.
    """

    def __init__(self, endpoints: Sequence[Endpoint], chain_id: int) -> None:
        if not endpoints:
            raise ConfigError("No node is named: set rpc_url to the address of one.")
        self.endpoints = tuple(endpoints)
        self.chain_id = chain_id
        self.requests = 0
        """How many requests were sent: a batch is one."""
        self._proven: set[Endpoint] = set()
        self._resting: dict[Endpoint, float] = {}
        self._ids = count(1)

    @classmethod
    def of(cls, config: BlockchainConfig) -> Self:
        """Return the nodes of the settings."""
        return cls(
            [
                HttpEndpoint(url, timeout=config.rpc_timeout, max_bytes=config.max_answer_bytes)
                for url in config.urls
            ],
            config.chain_id,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for endpoint in self.endpoints:
            close = getattr(endpoint, "close", None)
            if close is not None:
                close()

    # ---- asking

    def call(self, method: str, *params: Any) -> Any:
        """Return what a node answers, as it wrote it: numbers are `0x` strings.

        Raises:
            RpcAnswerError: the node refuses the call.
            RpcError: no node answers as it must.
        """
        return self.call_many([(method, params)])[0]

    def call_many(
        self, calls: Sequence[Call], *, errors: bool = False, kind: Any = Any
    ) -> list[Any]:
        """Ask for several things in one request.

        Args:
            calls: methods and their parameters.
            errors: return an `RpcAnswerError` in its place, rather than raise the first.
            kind: what each answer is, as msgspec decodes it from the bytes; or it is None.

        Raises:
            RpcAnswerError: the node refuses a call, and `errors` is false.
            RpcError: no node answers as it must.
        """
        if not calls:
            return []
        answers: list[Any] = self._anywhere(lambda endpoint: self.ask(endpoint, calls, kind))
        if not errors:
            for answer in answers:
                if isinstance(answer, RpcAnswerError):
                    raise answer
        return answers

    def _anywhere(self, ask: Any) -> Any:
        """Ask one node after the other; those that failed lately come last."""
        now = time.monotonic()
        order = sorted(self.endpoints, key=lambda each: self._resting.get(each, 0.0) > now)
        failed: list[RpcError] = []
        for endpoint in order:
            try:
                self.prove(endpoint)
                found = ask(endpoint)
            except WrongChainError:
                raise
            except RpcError as error:
                self._resting[endpoint] = time.monotonic() + _REST
                failed.append(error)
                continue
            self._resting.pop(endpoint, None)
            return found
        if len(failed) == 1:
            raise failed[0]
        told = " ".join(str(error) for error in failed)
        raise RpcError(
            f"None of {len(failed)} nodes answers. {told}",
            **{
                name: any(getattr(error, name, False) for error in failed)
                for name in ("too_large", "too_many")
            },
        )

    def prove(self, endpoint: Endpoint) -> None:
        """Let a node show, once, that it is of the right chain.

        Raises:
            WrongChainError: it is of another one.
        """
        if endpoint in self._proven:
            return
        found = self.ask(endpoint, [("eth_chainId", ())])[0]
        if isinstance(found, RpcAnswerError):
            raise RpcError(f"{endpoint.name} does not say which chain it is of: {found}")
        if quantity(found, endpoint.name) != self.chain_id:
            raise WrongChainError(
                f"{endpoint.name} is a node of chain {int(found, 16)}; chain_id says"
                f" {self.chain_id}. Nothing was sent to it.",
                endpoint=endpoint.name,
                expected=self.chain_id,
                found=int(found, 16),
            )
        self._proven.add(endpoint)

    def ask(self, endpoint: Endpoint, calls: Sequence[Call], kind: Any = Any) -> list[Any]:
        """Ask one node; refusals stand in their places as `RpcAnswerError`.

        Raises:
            RpcError: its answer is not one to the question; `too_large`: ask for less of it,
                `too_many`: ask fewer at once.
        """
        requests = [self._request(method, params) for method, params in calls]
        body = self._post(endpoint, _encode(requests, batch=len(requests) > 1))
        one, several = _decoders(kind)
        try:
            many = body[:80].lstrip().startswith(b"[")
            answers = several.decode(body) if many else [one.decode(body)]
        except msgspec.ValidationError as error:
            wrong = "not what was asked for" if "result" in str(error) else "no JSON-RPC"
            raise RpcError(
                f"{endpoint.name} answers {calls[0][0]} by what is {wrong}: {str(error)[:200]}",
                endpoint=endpoint.name,
            ) from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise RpcError(
                f"{endpoint.name} answers what is no JSON-RPC: {body[:60]!r}",
                endpoint=endpoint.name,
            ) from error
        if not many and len(requests) > 1 and answers[0].error is not None:
            raise RpcError(
                f"{endpoint.name} refuses {len(requests)} calls at once:"
                f" {answers[0].error.message[:200]}",
                endpoint=endpoint.name,
                too_many=True,
            )
        by_id = {str(answer.id): answer for answer in answers}
        found = []
        for request in requests:
            answer = by_id.get(str(request["id"]))
            if answer is None and len(requests) == len(answers) == 1 and answers[0].error:
                answer = answers[0]
            if answer is None:
                raise RpcError(
                    f"{endpoint.name} does not answer {request['method']}.", endpoint=endpoint.name
                )
            if answer.error is not None and answer.error.code in _LIMITED:
                raise RpcError(
                    f"{endpoint.name} is asked too much: {answer.error.message[:200]}",
                    endpoint=endpoint.name,
                    too_large=answer.error.code == _TOO_LARGE
                    and not _RATE.search(answer.error.message),
                )
            found.append(
                answer.result
                if answer.error is None
                else _refusal(endpoint.name, request["method"], answer.error)
            )
        return found

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    def _post(self, endpoint: Endpoint, body: bytes) -> bytes:
        self.requests += 1
        return endpoint.post(body)

    # ---- agreement

    def agreed_hash(self, number: int, expected: str, agreement: int) -> None:
        """Ask nodes for a block's hash until so many name the expected one.

        Raises:
            DisagreementError: a node names another.
            RpcError: too few answer.
        """
        agreeing: list[str] = []
        said: dict[str, str] = {}
        for endpoint in self.endpoints:
            if len(agreeing) >= agreement:
                return
            try:
                self.prove(endpoint)
                block = self.ask(endpoint, [("eth_getBlockByNumber", (hex(number), False))])[0]
            except RpcError:
                continue
            if not isinstance(block, dict):
                continue  # it lags behind
            if str(block.get("hash", "")).lower() != expected.lower():
                said[endpoint.name] = str(block.get("hash"))[:80]
                continue
            agreeing.append(endpoint.name)
        if len(agreeing) >= agreement:
            return
        if said:
            other, found = next(iter(said.items()))
            raise DisagreementError(
                f"Nodes disagree on block {number}: {expected} by a receipt, {found} by {other}."
                " Wait for more confirmations, or take out the node that is wrong.",
                block=number,
                expected=expected,
                said=said,
            )
        raise RpcError(
            f"{len(agreeing)} of {agreement} nodes that have to agree on block {number} answer.",
            block=number,
        )


def quantity(value: Any, name: str) -> int:
    """Return a number that a node wrote as `0x...`.

    Raises:
        RpcError: it is none.
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value, 16)
    raise RpcError(f"{name} answers {value!r:.80} where a number is due.", endpoint=name)


@cache
def _decoders(kind: Any) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
    """Return what decodes one answer, and several."""
    answer = _Answer[kind]
    return msgspec.json.Decoder(answer), msgspec.json.Decoder(list[answer])


def _encode(requests: list[dict[str, Any]], *, batch: bool) -> bytes:
    return msgspec.json.encode(requests if batch else requests[0])


def _refusal(name: str, method: str, error: _Refusal) -> RpcAnswerError:
    return RpcAnswerError(
        f"{name} refuses {method}: {error.message[:300]} (code {error.code})",
        endpoint=name,
        method=method,
        code=error.code,
        reason=error.message,
        revert=_revert_data(error.data),
    )


def _revert_data(data: Any, depth: int = 3) -> bytes | None:
    """Find what a contract reverted with: nodes put it in different places."""
    if isinstance(data, str):
        text = data.rpartition(" ")[2]  # Parity: "Reverted 0x..."
        try:
            return bytes.fromhex(text[2:]) if text.startswith("0x") else None
        except ValueError:
            return None
    if isinstance(data, dict) and depth:
        for key in ("data", "result", "return", "originalError"):
            found = _revert_data(data.get(key), depth - 1)
            if found is not None:
                return found
    return None
