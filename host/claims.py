"""What a signed component says of itself: the token that wasmCloud's tools embed, and the lattice's record of those.

A token is a JWT in a custom section, signed with the Ed25519 key of its issuer. It names the SHA-256 of the binary
without that section, so it holds for no other. Components without one run as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import nkeys
import structlog
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lattice import BadInput, Finding
from lattice.control import uptime_human
from lattice.transport import Bucket, Entry

log = structlog.get_logger("host")

PREFIX = "CLAIMS_"

SECTIONS = (b"wasmcloud_jwt", b"jwt")
"""Where the token is: today's name, and the first one."""

HASHED_SINCE = 3
"""Tokens of this revision and later name the binary's hash."""

_CUSTOM, _CORE_MODULE, _COMPONENT = 0, 1, 4
_HEADER = b"\0asm\x0d\0\x01\0"


class _Metadata(BaseModel):
    name: str | None = None
    hash: str = ""
    tags: tuple[str, ...] | None = None
    rev: int | None = None
    ver: str | None = None
    call_alias: str | None = None


class _Header(BaseModel):
    typ: str
    alg: str


class _Payload(BaseModel):
    iss: str
    sub: str
    iat: int = 0
    exp: int | None = None
    nbf: int | None = None
    wascap: _Metadata
    wascap_revision: int = 0


@dataclass(frozen=True, slots=True)
class Claims:
    """Times in seconds since 1970."""

    issuer: str
    subject: str
    issued: int
    expires: int | None
    not_before: int | None
    name: str
    version: str
    revision: int
    tags: tuple[str, ...]
    call_alias: str

    def expired(self) -> bool:
        return self.expires is not None and self.expires < time.time()

    def stored(self) -> dict[str, Any]:
        """As the lattice keeps it."""
        return {
            "call_alias": self.call_alias,
            "issuer": self.issuer,
            "name": self.name,
            "revision": str(self.revision),
            "subject": self.subject,
            "tags": list(self.tags),
            "version": self.version,
        }

    def told(self) -> dict[str, Any]:
        """As events have it."""
        return {
            "call_alias": self.call_alias,
            "issuer": self.issuer,
            "tags": list(self.tags),
            "name": self.name,
            "version": self.version,
            "revision": self.revision,
            "not_before_human": _human(self.not_before),
            "expires_human": _human(self.expires),
        }


def _human(moment: int | None) -> str:
    if moment is None:
        return "never"
    away = moment - time.time()
    return f"in {uptime_human(away)}" if away > 0 else f"{uptime_human(-away)} ago"


# -- in a binary


def read_claims(file: Path, name: str) -> Claims | None:
    """What the component in `file`, known as `name`, says of itself; None when it is not signed.

    Raises BadInput for a token that does not hold: of another binary, forged, over, or not begun.
    """
    wasm = file.read_bytes()
    if not wasm.startswith(_HEADER):
        return None
    try:
        token = next((rest for kind, rest in map(_custom, _sections(wasm)) if kind in SECTIONS), None)
        if token is None:
            return None
        claims, of = _checked(token)
        if of is not None and of != hashlib.sha256(_unsigned(wasm)).hexdigest().upper():
            raise ValueError("it was changed after it was signed")
    except (ValueError, IndexError) as error:
        raise BadInput(
            Finding(
                "TRL-IMG-015",
                f"the signature of {name} does not hold: {_first(error)}",
                why="a signed component runs only while its signature holds",
                fix="sign it again with  wash claims sign  or run it unsigned",
            )
        ) from error
    return claims


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'its token'}: {first['msg']}"
    return str(error)


def _sections(wasm: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of each outermost section. Raises IndexError where it breaks off."""
    at = len(_HEADER)
    while at < len(wasm):
        kind = wasm[at]
        size, at = _number(wasm, at + 1)
        yield kind, wasm[at : at + size]
        at += size


def _custom(section: tuple[int, bytes]) -> tuple[bytes, bytes]:
    """A custom section's name and content; of others, nothing."""
    kind, content = section
    if kind != _CUSTOM:
        return b"", b""
    size, at = _number(content, 0)
    return content[at : at + size], content[at + size :]


def _number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where what follows it begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _unsigned(wasm: bytes) -> bytes:
    """The binary as its signer hashed it: without tokens, sizes written as shortly as can be."""
    nested = (_CORE_MODULE, _COMPONENT) if wasm.startswith(_HEADER) else ()
    written = bytearray(wasm[: len(_HEADER)])
    for kind, content in _sections(wasm):
        if _custom((kind, content))[0] in SECTIONS:
            continue
        if kind in nested:
            content = _unsigned(content)
        written.append(kind)
        size = len(content)
        while size >= 0x80:
            written.append(size & 0x7F | 0x80)
            size >>= 7
        written.append(size)
        written += content
    return bytes(written)


def _checked(token: bytes) -> tuple[Claims, str | None]:
    """What a token says, and the hash of its binary where it has one. Raises ValueError."""
    parts = token.split(b".")
    if len(parts) != 3:
        raise ValueError("its token is not a JWT")
    header = _Header.model_validate_json(_decoded(parts[0]))
    if header.alg != "Ed25519" or header.typ.lower() != "jwt":
        raise ValueError(f"its token is signed with {header.alg}, not Ed25519")
    said = _Payload.model_validate_json(_decoded(parts[1]))
    key, signature = _key(said.iss), _decoded(parts[2])
    try:
        key.verify(parts[0] + b"." + parts[1], signature)
    except (BadSignatureError, ValueError) as error:  # ValueError: it has not the length of one
        raise ValueError(f"it is not by {said.iss}") from error
    now = time.time()
    if said.exp is not None and said.exp < now:
        raise ValueError(f"it ended {_human(said.exp)}")
    if said.nbf is not None and said.nbf > now:
        raise ValueError(f"it begins {_human(said.nbf)}")
    about = said.wascap
    claims = Claims(
        said.iss,
        said.sub,
        said.iat,
        said.exp,
        said.nbf,
        about.name or "",
        about.ver or "",
        about.rev or 0,
        about.tags or (),
        about.call_alias or "",
    )
    return claims, about.hash if said.wascap_revision >= HASHED_SINCE else None


def _decoded(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError("its token is not base64") from error


def _key(public: str) -> VerifyKey:
    """Raises ValueError for what is no nkey."""
    try:
        raw = base64.b32decode(public + "=" * (-len(public) % 8))
    except binascii.Error as error:
        raise ValueError(f"{public!r} is not an nkey") from error
    if len(raw) != 35 or nkeys.crc16(bytearray(raw[:-2])) != int.from_bytes(raw[-2:], "little"):
        raise ValueError(f"{public!r} is not an nkey")
    return VerifyKey(raw[1:-2])


# -- on the lattice


def _tags(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class StoredClaims(BaseModel):
    """A record of the lattice, of a component or (written by hosts of v1) of a provider."""

    model_config = ConfigDict(extra="ignore")

    issuer: str = Field(validation_alias=AliasChoices("issuer", "iss"))
    name: str
    revision: str = Field(validation_alias=AliasChoices("revision", "rev"))
    subject: str = Field(validation_alias=AliasChoices("subject", "sub"))
    version: str
    call_alias: str | None = None
    tags: Annotated[list[str], BeforeValidator(_tags)] | None = None
    config_schema: str | None = None

    def answer(self) -> dict[str, str]:
        """As `claims.get` has it: in the old and the new words."""
        words = {
            "iss": self.issuer,
            "issuer": self.issuer,
            "name": self.name,
            "rev": self.revision,
            "revision": self.revision,
            "sub": self.subject,
            "subject": self.subject,
            "version": self.version,
        }
        if self.tags is None:
            return {**words, "config_schema": self.config_schema or ""}
        return {**words, "call_alias": self.call_alias or "", "tags": ",".join(self.tags)}


class KnownClaims:
    """Whatever signed has run on the lattice. `seen` is to be told of every entry of LATTICEDATA."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._known: dict[str, StoredClaims] = {}

    def seen(self, entry: Entry) -> None:
        if not entry.key.startswith(PREFIX):
            return
        subject = entry.key.removeprefix(PREFIX)
        if entry.value is None:
            self._known.pop(subject, None)
            return
        try:
            claims = StoredClaims.model_validate_json(entry.value)
        except ValidationError as error:
            log.warning("claims.unreadable", key=entry.key, error=_first(error))
            return
        if claims.subject != subject:
            log.warning("claims.unreadable", key=entry.key, error=f"they are of {claims.subject}")
            return
        self._known[subject] = claims

    async def put(self, claims: Claims) -> None:
        stored = claims.stored()
        if self._known.get(claims.subject) != StoredClaims.model_validate(stored):
            await self._bucket.put(PREFIX + claims.subject, json.dumps(stored).encode())

    def answers(self) -> list[dict[str, str]]:
        return [claims.answer() for claims in self._known.values()]
