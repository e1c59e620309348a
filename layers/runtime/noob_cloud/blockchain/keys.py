"""Sign with a key that stays where it is: in memory, in a key file, or in AWS.

A signer shows its address and nothing else: its `repr`, its errors and its pickles hold no key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from noob_cloud.blockchain.errors import ConfigError, need

if TYPE_CHECKING:
    from noob_cloud.blockchain.config import BlockchainConfig

__all__ = ["KmsSigner", "LocalSigner", "Signer", "load_signer"]

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1's group (SEC 2, section 2.4.1)."""
_PUBLIC: Final = bytes.fromhex("3056301006072a8648ce3d020106052b8104000a03420004")
"""What a public key of secp256k1 begins with in DER (RFC 5480), before its two coordinates."""


class Signer(Protocol):
    """Whoever signs transactions."""

    address: str
    """Whose they are: with the checksum of EIP-55."""

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """Return (y parity, r, s) of a 32 byte digest; s is the lower one (EIP-2)."""


class LocalSigner:
    """A key in this process's memory.

    Args:
        secret: its 32 bytes.

    Raises:
        ConfigError: they are no key.
    """

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        coincurve = need("coincurve")
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError:
            raise ConfigError("The private key is not one of secp256k1.") from None
        self.address = _address(self._key.public_key.format(compressed=False)[1:])

    def __repr__(self) -> str:
        return f"LocalSigner({self.address})"

    def __reduce__(self) -> Any:
        raise TypeError("A key is not pickled: give the other process the settings to load it by.")

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """Return (y parity, r, s) of a 32 byte digest."""
        made = self._key.sign_recoverable(digest, hasher=None)
        return made[64], int.from_bytes(made[:32], "big"), int.from_bytes(made[32:64], "big")


class KmsSigner:
    """A key in AWS KMS, which signs there: about 50 signatures a second, each a paid request.

    Args:
        key_id: its id, alias or ARN; ECC_SECG_P256K1, for SIGN_VERIFY.
        client: boto3's for KMS.

    Raises:
        ConfigError: it is another kind of key.
    """

    def __init__(self, key_id: str, client: Any) -> None:
        self._id = key_id
        self._client = client
        found = client.get_public_key(KeyId=key_id)
        made = found["PublicKey"]
        if not made.startswith(_PUBLIC) or len(made) != len(_PUBLIC) + 64:
            raise ConfigError(
                f"The KMS key {key_id!r} is of another kind ({found.get('KeySpec', 'unnamed')}):"
                " Ethereum wants ECC_SECG_P256K1, with usage SIGN_VERIFY."
            )
        self._public = made[-64:]
        self.address = _address(self._public)

    def __repr__(self) -> str:
        return f"KmsSigner({self.address})"

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """Return (y parity, r, s) of a 32 byte digest."""
        made = self._client.sign(
            KeyId=self._id,
            Message=digest,
            MessageType="DIGEST",
            SigningAlgorithm="ECDSA_SHA_256",
        )["Signature"]
        r, s = _from_der(made)
        s = min(s, _ORDER - s)  # the higher one is refused by the chain
        keys = need("coincurve")
        plain = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        for parity in (0, 1):
            try:
                found = keys.PublicKey.from_signature_and_message(
                    plain + bytes((parity,)), digest, hasher=None
                )
            except Exception:  # noqa: BLE001, S112 - coincurve raises a bare Exception: the other parity
                continue
            if found.format(compressed=False)[1:] == self._public:
                return parity, r, s
        raise ConfigError(f"AWS KMS signed with another key than that of {self.address}.")


def load_signer(config: BlockchainConfig) -> Signer | None:
    """Return who signs by the settings; None: nobody, the chain is only read.

    Raises:
        ConfigError: there is no key where the settings say.
    """
    if config.private_key is not None:
        return LocalSigner(_secret(config.private_key.get_secret_value(), "private_key"))
    if config.keystore is not None:
        return LocalSigner(_from_keystore(config))
    if config.kms_key_id is not None:
        return KmsSigner(config.kms_key_id, _aws(config, "kms"))
    if config.secret_id is not None:
        found = _aws(config, "secretsmanager").get_secret_value(SecretId=config.secret_id)
        return LocalSigner(_from_secret(found.get("SecretString", ""), config.secret_id))
    return None


def _secret(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        raise ConfigError(f"What {where} holds is not a key in hex.") from None


def _from_keystore(config: BlockchainConfig) -> bytes:
    account = need("eth_account").Account
    path = Path(config.keystore or "").expanduser()
    if config.keystore_password is None:
        raise ConfigError(f"The key file {path} wants keystore_password.")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The key file {path} cannot be read: {error.strerror}.") from error
    try:
        return bytes(account.decrypt(text, config.keystore_password.get_secret_value()))
    except (ValueError, TypeError, KeyError) as error:
        wrong = "MAC" in str(error)
        raise ConfigError(
            f"The key file {path} "
            + ("has another password." if wrong else "is not an encrypted key (version 3).")
        ) from None


def _from_secret(text: str, name: str) -> bytes:
    if text.lstrip().startswith("{"):
        try:
            text = str(json.loads(text)["private_key"])
        except (ValueError, KeyError):
            raise ConfigError(f"The secret {name!r} has no private_key.") from None
    return _secret(text, f"the secret {name!r}")


def _aws(config: BlockchainConfig, service: str) -> Any:
    boto3 = need("boto3", "s3")
    return boto3.client(
        service, region_name=config.aws_region, endpoint_url=config.aws_endpoint_url
    )


def _address(public: bytes) -> str:
    """Return the address of a public key's 64 bytes, with its checksum (EIP-55)."""
    text: str = need("eth_utils").to_checksum_address(need("eth_utils").keccak(public)[-20:])
    return text


def _from_der(made: bytes) -> tuple[int, int]:
    """Return r and s of a signature in DER (two INTEGERs in a SEQUENCE, SEC 1, C.5)."""
    try:
        if made[0] != 0x30 or made[2] != 0x02:  # noqa: PLR2004 - the tags
            raise ConfigError("AWS KMS answers what is no signature.")
        size = made[3]
        r, rest = made[4 : 4 + size], made[4 + size :]
        return int.from_bytes(r, "big"), int.from_bytes(rest[2 : 2 + rest[1]], "big")
    except IndexError as error:
        raise ConfigError("AWS KMS answers what is no signature.") from error
