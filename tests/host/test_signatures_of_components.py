"""Signed components: what they say of themselves is held against their signature, and served as v1's clients ask."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nkeys
import pytest
from nacl.signing import SigningKey
from registries import ADDER as UNSIGNED
from worlds import Heard

from host import Host, HostConfig
from host.claims import KnownClaims, _unsigned, read_claims
from lattice import BadInput, events
from lattice.client import ControlClient
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from lattice.transport import Entry

# tokens that wasmCloud's tools made: an early one, which names no binary, and one of wash 0.30
EARLY = (
    b"eyJ0eXAiOiJqd3QiLCJhbGciOiJFZDI1NTE5In0.eyJqdGkiOiJTakI1Zm05NzRTanU5V01nVFVjaHNiIiwiaWF0IjoxNjQ0ODQzNzQzLCJpc3MiO"
    b"iJBQ09KSk42V1VQNE9ERDc1WEVCS0tUQ0NVSkpDWTVaS1E1NlhWS1lLNEJFSldHVkFPT1FIWk1DVyIsInN1YiI6Ik1CQ0ZPUE02SlcyQVBKTFhKRDN"
    b"aNU80Q043Q1BZSjJCNEZUS0xKVVI1WVI1TUlUSVU3SEQzV0Q1Iiwid2FzY2FwIjp7Im5hbWUiOiJFY2hvIiwiaGFzaCI6IjRDRUM2NzNBN0RDQ0VBN"
    b"kE0MTY1QkIxOTU4MzJDNzkzNjQ3MUNGN0FCNDUwMUY4MzdGOEQ2NzlGNDQwMEJDOTciLCJ0YWdzIjpbXSwiY2FwcyI6WyJ3YXNtY2xvdWQ6aHR0cHN"
    b"lcnZlciJdLCJyZXYiOjQsInZlciI6IjAuMy40IiwicHJvdiI6ZmFsc2V9fQ.ZWyD6VQqzaYM1beD2x9Fdw4o_Bavy3ZG703Eg4cjhyJwUKLDUiVPVh"
    b"qHFE6IXdV4cW6j93YbMT6VGq5iBDWmAg"
)
OF_WASH = (
    b"eyJ0eXAiOiJqd3QiLCJhbGciOiJFZDI1NTE5In0.eyJqdGkiOiJxdmVOakZjcW51dWhQaVJUMkU1YWJXIiwiaWF0IjoxNzIxODM0ODg5LCJpc3MiO"
    b"iJBQk9HQjRXNURPWDNVTzNSVldXUUdZU01WWEhSUFFZWFZaUDVVNFZGTUpEQ1lDV0FSN1M1Q1lNTyIsInN1YiI6Ik1DNUNDNFVENUxQRFo0QzdaTkF"
    b"FQTRPWlEzQkVGTFNWUTc0MlczVEVUM09OS1M0RFJCVk5NNUlDIiwid2FzY2FwIjp7Im5hbWUiOiJodHRwLWhlbGxvLXdvcmxkIiwiaGFzaCI6IkNFO"
    b"TAxOTJDOTlDMEIyQzYwOEIyRTJDQjYxOUE5MjUxRkI2ODE4NTZDMTU2ODFCMUJDRDYyRUVEQTJENTEyOEUiLCJ0YWdzIjpbIndhc21jbG91ZC5jb20"
    b"vZXhwZXJpbWVudGFsIl0sInJldiI6MCwidmVyIjoiMC4xLjAiLCJwcm92IjpmYWxzZX0sIndhc2NhcF9yZXZpc2lvbiI6M30.8awbkvrBnRKLpz88s"
    b"7GXYCW0onpKf_nNfsj7pXhCyvq8pm4y2IotrIPCdBvWqDvDouX4VAM6DQQUHuI-VdKYAA"
)


def with_token(token: bytes, wasm: bytes = UNSIGNED, section: bytes = b"wasmcloud_jwt") -> bytes:
    content = bytes([len(section)]) + section + token
    size = len(content)
    assert 128 <= size < 16384
    return wasm + bytes([0, size & 0x7F | 0x80, size >> 7]) + content


def nkey(prefix: int, raw: bytes) -> str:
    body = bytes([prefix]) + raw
    return base64.b32encode(body + nkeys.crc16(bytearray(body)).to_bytes(2, "little")).decode().rstrip("=")


def part(data: Any) -> bytes:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def signed(wasm: bytes = UNSIGNED, **more: Any) -> bytes:
    """As `wash claims sign` does it, `more` replacing what the token says."""
    key = SigningKey(os.urandom(32))
    issuer = nkey(nkeys.PREFIX_BYTE_ACCOUNT, bytes(key.verify_key))
    about = {"name": "adder", "hash": hashlib.sha256(wasm).hexdigest().upper(), "tags": ["a", "b"], "rev": 7}
    said = {
        "jti": "x",
        "iat": 1,
        "iss": issuer,
        "sub": nkey(12 << 3, os.urandom(32)),
        "wascap": {**about, "ver": "0.2.0", "prov": False},
        "wascap_revision": 3,
        **more,
    }
    head = part({"typ": "jwt", "alg": "Ed25519"}) + b"." + part(said)
    return with_token(head + b"." + part(key.sign(head).signature), wasm)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(wasm: bytes) -> Path:
        path = tmp_path / "a.wasm"
        path.write_bytes(wasm)
        return path

    return write


def test_tokens_that_wasmclouds_tools_made_are_read(written):
    for section in (b"wasmcloud_jwt", b"jwt"):
        claims = read_claims(written(with_token(EARLY, section=section)), "it")
        assert claims is not None
        assert (claims.name, claims.version, claims.revision) == ("Echo", "0.3.4", 4)
        assert claims.subject == "MBCFOPM6JW2APJLXJD3Z5O4CN7CPYJ2B4FTKLJUR5YR5MITIU7HD3WD5"
    with pytest.raises(BadInput, match=r"of ghcr.io/x:1 does not hold: it was changed after it was signed"):
        read_claims(written(with_token(OF_WASH)), "ghcr.io/x:1")


def test_what_is_not_signed_says_nothing(written):
    assert read_claims(written(UNSIGNED), "it") is None
    assert read_claims(written(b"(component)"), "it") is None


@pytest.mark.parametrize(
    ("wasm", "why"),
    [
        (signed(exp=int(time.time()) - 30000), "it ended 8h "),
        (signed(nbf=int(time.time()) + 9000), "it begins in 2h "),
        (signed()[: len(UNSIGNED)] + with_token(EARLY[:-4] + b"AAAA", b""), "it is not by ACOJJN6W"),
        (with_token(EARLY.replace(b".", b",")), "its token is not a JWT"),
        (signed(iss="nobody"), "is not an nkey"),
        (signed(wascap=None), "wascap: "),
        (signed(UNSIGNED) + bytes([0, 2, 1, 65]), "it was changed after it was signed"),
        (signed()[:-30], "it is not by"),
    ],
    ids=["over", "early", "forged", "no-jwt", "no-key", "empty", "changed", "broken-off"],
)
def test_a_signature_that_does_not_hold_is_refused_with_the_reason(written, wasm: bytes, why: str):
    with pytest.raises(BadInput) as caught:
        read_claims(written(wasm), "it")
    assert caught.value.findings[0].code == "TRL-IMG-015" and why in caught.value.findings[0].message


def test_sizes_are_written_shortly_before_they_are_hashed():
    padded = UNSIGNED + bytes([0, 0x83, 0x00, 1, 65, 66])
    assert _unsigned(padded) == UNSIGNED + bytes([0, 3, 1, 65, 66])
    assert _unsigned(with_token(EARLY, UNSIGNED)) == UNSIGNED


async def test_a_signed_component_is_told_of_by_events_inventories_and_claims_get(written):
    wasm = signed()
    body = {"component_id": "adder", "component_ref": written(wasm).as_uri(), "count": 1}
    broker, heard = MemoryBroker(), Heard()
    async with Lattice("t", broker.connect()) as lattice:
        await lattice.on_events(heard.collect)
        async with Host(HostConfig("t"), broker.connect()) as host:
            client = ControlClient(lattice)
            assert await client.claims() == []
            assert (await lattice.control("component", "scale", host.id, body=body)).success
            scaled = await heard.until(events.ComponentScaled, component_id="adder")
            assert scaled.claims is not None and scaled.public_key is not None
            assert (scaled.claims["name"], scaled.claims["revision"], scaled.claims["expires_human"]) == (
                "adder",
                7,
                "never",
            )
            (component,) = host.inventory().components
            assert (component.name, component.revision) == ("adder", 7)
            (said,) = await client.claims()
            assert said == {
                "call_alias": "",
                "iss": scaled.claims["issuer"],
                "issuer": scaled.claims["issuer"],
                "name": "adder",
                "rev": "7",
                "revision": "7",
                "sub": scaled.public_key,
                "subject": scaled.public_key,
                "tags": "a,b",
                "version": "0.2.0",
            }
        async with Host(HostConfig("t"), broker.connect()):
            assert await client.claims() == [said], "another host knows it from the lattice"


async def test_records_of_other_hosts_are_served_and_false_ones_left_out():
    known = KnownClaims(await MemoryBroker().connect().bucket("x"))
    record = {"iss": "A", "name": "kv", "rev": "1", "sub": "V1", "version": "0.1.0"}
    known.seen(Entry("CLAIMS_V1", json.dumps(record).encode(), 1))
    known.seen(Entry("CLAIMS_V2", json.dumps(record).encode(), 2))
    known.seen(Entry("CLAIMS_V3", b"?", 3))
    assert [(c["sub"], c["issuer"], c["config_schema"]) for c in known.answers()] == [("V1", "A", "")]
    known.seen(Entry("CLAIMS_V1", None, 4))
    assert known.answers() == []
