"""Which chain, through which nodes, with which key: the settings of the chain."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from noob_cloud.blockchain.errors import ConfigError
from noob_cloud.blockchain.networks import NETWORKS, Network, find_network

__all__ = ["BlockchainConfig"]

_SOURCES: Final = ("private_key", "keystore", "kms_key_id", "secret_id")


class BlockchainConfig(BaseSettings):
    """Which chain, through which nodes, with which key.

    Each setting is also read from the environment, as `NOOB_CLOUD_CHAIN_` and its name in capitals.
    Without a key the chain is only read. No key, and no node's address, is in its `repr`.

    Raises:
        pydantic.ValidationError: a setting is wrong; which one, and how.
        NetworkRetiredError: the network was shut down; the message names its successor.
    """

    model_config = SettingsConfigDict(
        env_prefix="NOOB_CLOUD_CHAIN_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    network: str | None = None
    """A name of `networks.NETWORKS`, in place of `chain_id`."""
    chain_id: int = Field(default=0, ge=0)
    """The chain's number; 0: that of `network`."""
    rpc_url: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """The nodes' addresses, the preferred one first (in the environment: by comma). They may hold
    a provider's key, so they are kept as secrets."""
    contract_address: str | None = None
    """The task coordinator's; None: only what needs no contract."""

    private_key: SecretStr | None = None
    """32 bytes in hex. Best given by the environment."""
    keystore: str | None = None
    """Path of an encrypted key file (Web3 Secret Storage, what geth and MetaMask write)."""
    keystore_password: SecretStr | None = None
    """Of `keystore`."""
    kms_key_id: str | None = None
    """A key in AWS KMS (ECC_SECG_P256K1, SIGN_VERIFY): it never leaves it."""
    secret_id: str | None = None
    """A secret of AWS Secrets Manager: the key in hex, or a JSON object with `private_key`."""
    aws_region: str | None = None
    aws_endpoint_url: str | None = None
    """Of an emulated AWS."""

    confirmations: int | Literal["finalized"] | None = None
    """What a receipt waits for: so many blocks (1: mined), or a finalized block. None: the
    network's."""
    agreement: int = Field(default=1, ge=1, le=16)
    """Nodes that have to name the same hash for a block before a receipt in it counts."""
    max_fee_gwei: float | None = Field(default=None, gt=0)
    """The most that is ever paid for a gas, in gwei; None: the network's."""
    priority_fee_gwei: float | None = Field(default=None, ge=0)
    """The tip for a gas, in gwei; None: what the node suggests."""
    stuck_after: float = Field(default=60.0, gt=0)
    """Seconds after which a transaction that is not mined is replaced by a dearer one."""
    receipt_timeout: float | None = Field(default=None, gt=0)
    """Seconds to wait for a receipt and its confirmations; None: 600, or 3,600 for `finalized`,
    which takes a quarter of an hour on Ethereum and what stands on it."""
    poll_interval: float = Field(default=0.5, gt=0)
    """Seconds between looks for a receipt; begins with less."""
    rpc_timeout: float = Field(default=20.0, gt=0)
    """Seconds that one request to one node may take as a whole."""
    max_answer_bytes: int = Field(default=32_000_000, ge=1024)
    """The longest answer that is read."""
    nonce_file: str | None = None
    """Where what was sent is remembered, so that a restart neither skips nor repeats a nonce.
    Processes of one machine that share a key share this file. None: in memory."""

    @field_validator("rpc_url", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("rpc_url")
    @classmethod
    def _http(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for url in value:
            scheme = url.get_secret_value().partition("://")[0]
            if scheme not in ("http", "https"):
                raise ValueError("an address of a node begins with https:// (or http://)")
        return value

    @field_validator("contract_address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        body = value.removeprefix("0x")
        if not value.startswith("0x") or len(body) != 40 or not _is_hex(body):  # noqa: PLR2004
            raise ValueError("an address is 0x and 40 hex digits")
        return value

    @field_validator("private_key")
    @classmethod
    def _key(cls, value: SecretStr | None) -> SecretStr | None:
        body = value.get_secret_value().strip().removeprefix("0x") if value else ""
        if value is not None and (len(body) != 64 or not _is_hex(body)):  # noqa: PLR2004 - bytes
            raise ValueError("a private key is 64 hex digits, with or without 0x")
        return value

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """Take the number of a network that is given by name."""
        if isinstance(data, dict) and data.get("network") and not data.get("chain_id"):
            found = _network(data["network"])
            data = {**data, "chain_id": found.chain_id}
        return data

    @model_validator(mode="after")
    def _whole(self) -> BlockchainConfig:
        named = _network(self.network) if self.network else None
        if named and named.chain_id != self.chain_id:
            raise ValueError(
                f"network {named.name!r} has chain id {named.chain_id}, not {self.chain_id}: "
                "say one of both"
            )
        if not self.chain_id:
            raise ValueError("say chain_id, or network: one of " + ", ".join(NETWORKS))
        self.known.check()
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: say one")
        if self.keystore is not None and self.keystore_password is None:
            raise ValueError("keystore wants keystore_password")
        if isinstance(self.confirmations, int) and self.confirmations < 1:
            raise ValueError("confirmations is from 1 (mined) on, or 'finalized'")
        if self.agreement > max(1, len(self.rpc_url)):
            raise ValueError(
                f"agreement wants {self.agreement} nodes, and rpc_url has {len(self.rpc_url)}"
            )
        return self

    @property
    def known(self) -> Network:
        """The network; one of plain settings where nobody here knows the chain's number."""
        return find_network(self.chain_id) or Network(
            f"chain-{self.chain_id}", self.chain_id, f"chain {self.chain_id}"
        )

    @property
    def urls(self) -> tuple[str, ...]:
        """The nodes' addresses in the clear."""
        return tuple(url.get_secret_value() for url in self.rpc_url)

    @property
    def finality(self) -> int | str:
        """What a receipt waits for: blocks, or `finalized`."""
        return self.known.confirmations if self.confirmations is None else self.confirmations

    @property
    def patience(self) -> float:
        """Seconds to wait for a receipt and its confirmations."""
        if self.receipt_timeout is not None:
            return self.receipt_timeout
        return 3600.0 if self.finality == "finalized" else 600.0

    @property
    def has_key(self) -> bool:
        """Whether there is a key to sign with."""
        return any(getattr(self, name) is not None for name in _SOURCES)


def _network(name: str) -> Network:
    try:
        found = find_network(name)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError(f"{name!r} is no network that is known here")
    return found


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)
