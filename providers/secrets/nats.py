"""Secrets in a JetStream bucket of the lattice, sealed: X25519, so that who writes one needs no key that opens it.

A value is sealed together with its name. So it cannot be moved to another one, where somebody else might be given it.
Who may write to the bucket, NATS says; a seal does not tell who made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from lattice import BadInput, Finding, LatticeError, ProtocolError, subjects
from lattice.secrets import SecretReference, SecretValue
from lattice.transport import Bucket
from lattice.values import pack, unpack
from providers.keyvalue.nats import escaped, unescaped
from providers.secrets.field import of_field

if TYPE_CHECKING:
    from lattice.lattice import Lattice

PRIVATE, PUBLIC = "trellis-secrets-key:", "trellis-secrets-public-key:"


class Keys:
    """What opens seals. Several, while secrets that were sealed for an older one are still about."""

    def __init__(self, keys: Sequence[PrivateKey]) -> None:
        self._boxes = [SealedBox(key) for key in keys]
        self.public = PUBLIC + bytes(keys[0].public_key).hex()
        """The newest one's other half, to seal with."""

    @classmethod
    def parse(cls, text: str) -> Keys:
        """One a line, the newest first. Raises BadInput, which does not show them."""
        keys = [_bytes(line, PRIVATE) for line in text.split()]
        if not keys:
            raise _unusable(PRIVATE)
        return cls([PrivateKey(key) for key in keys])

    @staticmethod
    def generate() -> str:
        return PRIVATE + bytes(PrivateKey.generate()).hex()

    def open(self, sealed: bytes) -> bytes | None:
        """None when it was sealed for somebody else, or is damaged."""
        for box in self._boxes:
            try:
                return box.decrypt(sealed)
            except CryptoError:
                continue
        return None


def _bytes(text: str, kind: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip().removeprefix(kind))
    except ValueError:
        key = b""
    if not text.strip().startswith(kind) or len(key) != 32:
        raise _unusable(kind)
    return key


def _unusable(kind: str) -> BadInput:
    return BadInput(
        Finding(
            "TRL-SEC-003",
            f"this is not a key of secrets: it has to be {kind} and 64 digits",
            fix="trellis secret keygen",
        )
    )


def seal(public: str, name: str, value: SecretValue) -> bytes:
    """`value` for the one whose key `public` is. Raises BadInput for what is no public key."""
    return SealedBox(PublicKey(_bytes(public, PUBLIC))).encrypt(pack([name, value]))


def _name(key: str, version: str | None) -> str:
    """What a version of a secret goes by; without one, the latest."""
    return key if version is None else f"{key}\0{version}"


async def put(bucket: Bucket, public: str, key: str, value: SecretValue, *, version: str | None = None) -> None:
    """Keep a secret; with a `version`, that one stays when the secret is put again."""
    for name in dict.fromkeys((_name(key, None), _name(key, version))):
        await bucket.put(escaped(name), seal(public, name, value))


async def names(bucket: Bucket) -> list[str]:
    """Of all secrets, without their versions."""
    return sorted(name for key in await bucket.keys() if "\0" not in (name := unescaped(key)))


async def delete(bucket: Bucket, key: str) -> None:
    """Forget a secret with all its versions, and what it was before. One that is not there is no error."""
    for name in await bucket.keys():
        if unescaped(name).partition("\0")[0] == key:
            await bucket.purge(name)


async def secrets_of(lattice: Lattice) -> Bucket:
    """Where the lattice's sealed secrets are."""
    return await lattice.transport.bucket(subjects.secrets(lattice.name))


class SealedSecrets:
    def __init__(self, bucket: Bucket, keys: Keys) -> None:
        self._bucket = bucket
        self._keys = keys

    async def __call__(self, reference: SecretReference) -> SecretValue | None:
        key, wanted = reference.key, _name(reference.key, reference.version)
        entry = await self._bucket.get(escaped(wanted))
        if entry is None or entry.value is None:
            return None
        opened = self._keys.open(entry.value)
        if opened is None:
            raise LatticeError(f"`{key}` is sealed for a key that is not here, or damaged")
        try:
            name, value = unpack(opened)
        except (ProtocolError, TypeError, ValueError):
            raise LatticeError(f"what is sealed as `{key}` is not a secret") from None
        if name != wanted:
            raise LatticeError(f"what is kept as `{key}` was sealed under another name")
        return of_field(value, reference)
