"""web3.py on our nodes: bounded, proven to be of the right chain, and one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noob_cloud.blockchain.errors import RpcAnswerError, need

if TYPE_CHECKING:
    from noob_cloud.blockchain.rpc import Rpc

__all__ = ["web3_of"]


def web3_of(rpc: Rpc) -> Any:
    """Return a `web3.Web3` that asks through `rpc`, and takes blocks of POA chains.

    Raises:
        ExtraMissingError: web3 is not installed.
    """
    web3 = need("web3")
    base: Any = need("web3.providers.base").JSONBaseProvider

    class Provider(base):  # type: ignore[misc]  # known when web3 is
        """Asks as the rest of the kit does."""

        def make_request(self, method: str, params: Any) -> Any:
            """Return the answer in JSON-RPC's words."""
            plain = web3.Web3.to_json(list(params))
            answer = rpc.call_many([(method, need("json").loads(plain))], errors=True)[0]
            if isinstance(answer, RpcAnswerError):
                data = None if answer.revert is None else "0x" + answer.revert.hex()
                refusal = {"code": answer.code, "message": answer.reason, "data": data}
                return {"jsonrpc": "2.0", "id": 1, "error": refusal}
            return {"jsonrpc": "2.0", "id": 1, "result": answer}

    made = web3.Web3(Provider())
    poa = need("web3.middleware").ExtraDataToPOAMiddleware
    made.middleware_onion.inject(poa, layer=0)
    return made
