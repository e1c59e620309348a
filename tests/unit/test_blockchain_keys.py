"""Keys: where they may be, that they sign alike, and that nobody sees them."""

from __future__ import annotations

import json
import logging
import pickle
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from noob_cloud.blockchain.config import BlockchainConfig
from noob_cloud.blockchain.errors import ConfigError, need
from noob_cloud.blockchain.fees import Fee
from noob_cloud.blockchain.keys import KmsSigner, LocalSigner, load_signer
from noob_cloud.blockchain.nonces import NonceBook
from noob_cloud.blockchain.transactions import Message, Signed, sign

if TYPE_CHECKING:
    from pathlib import Path

Reference = need("eth_account").Account
KEY = "0x" + "5e" * 32
ADDRESS = Reference.from_key(KEY).address
MESSAGE = Message("0x" + "77" * 20, b"data", 12345, 50_000)
FEE = Fee(30 * 10**9, 10**9)


@pytest.fixture
def aws(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An AWS on this machine, as settings."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return {"chain_id": 1, "aws_region": "us-east-1", "aws_endpoint_url": s3_url}


def client(service: str, aws: dict[str, Any]) -> Any:
    return boto3.client(service, region_name="us-east-1", endpoint_url=aws["aws_endpoint_url"])


def test_signed_as_the_reference_signs() -> None:
    """Bytes and hash are those of eth-account, for any fields."""
    signer = LocalSigner(bytes.fromhex(KEY[2:]))
    for nonce, message in enumerate([MESSAGE, Message(None, b"\x00" * 300), Message(ADDRESS)]):
        ours = sign(message, signer=signer, chain_id=137, nonce=nonce, fee=FEE)
        fields = {
            "chainId": 137,
            "nonce": nonce,
            "maxFeePerGas": FEE.max_fee,
            "maxPriorityFeePerGas": FEE.tip,
            "gas": message.gas,
            "value": message.value,
            "data": message.data,
            **({"to": message.to} if message.to else {}),
        }
        reference = Reference.sign_transaction(fields, KEY)
        assert ours.raw == "0x" + reference.raw_transaction.hex().removeprefix("0x")
        assert ours.hash == "0x" + reference.hash.hex().removeprefix("0x")
    assert signer.address == ADDRESS


def test_key_in_a_file(tmp_path: Path) -> None:
    """A key file of geth or MetaMask is read with its password, and not without."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(Reference.encrypt(KEY, "right", iterations=2)))
    settings = {"chain_id": 1, "keystore": str(path)}

    signer = load_signer(BlockchainConfig(**settings, keystore_password="right"))
    assert signer is not None
    assert signer.address == ADDRESS
    with pytest.raises(ConfigError, match="has another password"):
        load_signer(BlockchainConfig(**settings, keystore_password="wrong"))
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is not an encrypted key"):
        load_signer(BlockchainConfig(**settings, keystore_password="right"))
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_signer(BlockchainConfig(**settings, keystore_password="right"))


@pytest.mark.parametrize("text", [KEY, KEY[2:], json.dumps({"private_key": KEY})])
def test_key_in_secrets_manager(aws: dict[str, Any], text: str) -> None:
    """A secret holds the key in hex, or as `private_key` of an object."""
    found = client("secretsmanager", aws).create_secret(
        Name=f"key-{abs(hash(text))}", SecretString=text
    )
    signer = load_signer(BlockchainConfig(**aws, secret_id=found["ARN"]))
    assert signer is not None
    assert signer.address == ADDRESS


def test_secret_without_a_key(aws: dict[str, Any]) -> None:
    """A secret of another kind is refused by its name, and not shown."""
    name = client("secretsmanager", aws).create_secret(Name="other", SecretString="hunter2")["Name"]
    with pytest.raises(ConfigError, match="the secret 'other' holds is not a key") as caught:
        load_signer(BlockchainConfig(**aws, secret_id=name))
    assert "hunter2" not in str(caught.value)


def as_aws_signs(key: Any, message: bytes, signing_algorithm: str) -> bytes:
    """Sign a digest as it is, as AWS does; moto has not implemented MessageType DIGEST."""
    assert signing_algorithm == "ECDSA_SHA_256"
    made: bytes = key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
    return made


def test_key_in_kms(aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in KMS signs transactions that are its address's."""
    monkeypatch.setattr("moto.kms.utils.ECDSAPrivateKey.sign", as_aws_signs)
    kms = client("kms", aws)
    made = kms.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
    signer = load_signer(BlockchainConfig(**aws, kms_key_id=made["KeyId"]))
    assert isinstance(signer, KmsSigner)
    for nonce in range(8):  # both parities, and both halves of s, with all but certainty
        signed = sign(MESSAGE, signer=signer, chain_id=1, nonce=nonce, fee=FEE)
        assert Reference.recover_transaction(signed.raw) == signer.address


def test_kms_that_signs_with_another_key(aws: dict[str, Any]) -> None:
    """A signature that is not the key's over this very digest is not sent to the chain."""
    made = client("kms", aws).create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")
    signer = load_signer(BlockchainConfig(**aws, kms_key_id=made["KeyMetadata"]["KeyId"]))
    with pytest.raises(ConfigError, match="AWS KMS signed with another key"):
        sign(MESSAGE, signer=signer, chain_id=1, nonce=0, fee=FEE)  # moto hashes it again


def test_other_kind_of_key_in_kms(aws: dict[str, Any]) -> None:
    """A key of another curve is refused, with the right kind."""
    made = client("kms", aws).create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
    with pytest.raises(ConfigError, match="Ethereum wants ECC_SECG_P256K1"):
        load_signer(BlockchainConfig(**aws, kms_key_id=made["KeyMetadata"]["KeyId"]))


def test_nobody_sees_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """Neither repr nor pickle nor the log has it; what is no key is refused unseen."""
    caplog.set_level(logging.DEBUG)
    signer = LocalSigner(bytes.fromhex(KEY[2:]))
    sign(MESSAGE, signer=signer, chain_id=1, nonce=0, fee=FEE)
    assert repr(signer) == f"LocalSigner({ADDRESS})"
    with pytest.raises(TypeError, match="is not pickled"):
        pickle.dumps(signer)
    with pytest.raises(ConfigError, match="not one of secp256k1"):
        LocalSigner(b"\xff" * 32)
    assert "5e5e" not in caplog.text


# ---- nonces


def made(nonce: int, mark: str = "") -> Signed:
    return Signed(f"0x{nonce}{mark}", "0x", nonce, FEE, MESSAGE)


def take(book: NonceBook, count: int = 1) -> list[int]:
    taken = book.take(count, lambda first: [made(first + index) for index in range(count)])
    return [each.nonce for each in taken]


def test_nonces_follow_each_other(tmp_path: Path) -> None:
    """Each is given once, in order, across restarts; the chain's own count goes before."""
    path = tmp_path / "folder" / "nonces.db"
    with NonceBook("me", path) as book:
        assert take(book) + take(book, 3) == [0, 1, 2, 3]
        book.reach(2)
        assert take(book) == [4]
        book.reach(9)
        assert take(book) == [9]
    with NonceBook("me", path) as book, NonceBook("you", path) as other:
        assert take(book) == [10]
        assert take(other) == [0]
        assert [each.nonce for each in book.unsettled()] == [0, 1, 2, 3, 4, 9, 10]
        assert book.unsettled()[0] == made(0)


def test_signing_that_fails_takes_no_nonce() -> None:
    """Where signing raises, or signs something else, nothing was handed out."""
    with NonceBook("me") as book:

        def fail(_: int) -> list[Signed]:
            raise ConfigError("KMS is away.")

        with pytest.raises(ConfigError):
            book.take(1, fail)
        with pytest.raises(ValueError, match="did not use the nonces 0 to 0"):
            book.take(1, lambda _: [made(7)])
        assert take(book) == [0]


def test_only_the_newest_nonce_is_taken_back() -> None:
    """A nonce that later ones are out behind stays; what is settled is forgotten."""
    with NonceBook("me") as book:
        take(book, 3)
        assert not book.give_back(0)
        assert book.give_back(2)
        assert take(book) == [2]
        book.keep(made(1, "dearer"))
        assert [each.hash for each in book.unsettled()] == ["0x0", "0x1", "0x1dearer", "0x2"]
        book.drop(made(1))
        book.settle([0])
        assert [each.hash for each in book.unsettled()] == ["0x1dearer", "0x2"]
        book.settle_below(2)
        assert [each.nonce for each in book.unsettled()] == [2]


def test_file_that_cannot_be_used(tmp_path: Path) -> None:
    """A file of another kind is named, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at as one" * 50)
    with pytest.raises(ConfigError, match=r"nonce_file .*notes.txt cannot be used"):
        NonceBook("me", path)
