"""Everything that can be wrong with an image, as a sentence with a code and a way out."""

from __future__ import annotations

from actors.limits import size_text
from lattice import BadInput, Finding

NOT_FOUND = "TRL-IMG-001"
NOT_WASM = "TRL-IMG-002"
NOT_ALLOWED = "TRL-IMG-003"
TOO_LARGE = "TRL-IMG-005"
UNAUTHORIZED = "TRL-IMG-006"
MISMATCH = "TRL-IMG-007"
UNREACHABLE = "TRL-IMG-008"
MALFORMED = "TRL-IMG-009"
REFUSED = "TRL-IMG-010"


def _bad(code: str, message: str, why: str = "", fix: str = "") -> BadInput:
    return BadInput(Finding(code, message, why=why, fix=fix))


def malformed(reference: str, why: str, fix: str) -> BadInput:
    return _bad(MALFORMED, f"{reference!r} is not an image reference", why, fix)


def not_found(what: str, why: str = "", fix: str = "") -> BadInput:
    return _bad(NOT_FOUND, f"{what} is not there", why, fix)


def not_wasm(what: str, why: str, fix: str = "push a component with  trellis push FILE.wasm REF") -> BadInput:
    return _bad(NOT_WASM, f"{what} is not a Wasm component", why, fix)


def not_allowed(message: str, why: str, fix: str) -> BadInput:
    return _bad(NOT_ALLOWED, message, why, fix)


def too_large(what: str, largest: int) -> BadInput:
    return _bad(
        TOO_LARGE,
        f"{what} is larger than the {size_text(largest)} that this host loads",
        fix="strip debug information (`wasm-tools strip`), or raise the host's limit",
    )


def unauthorized(what: str, server: str, said: str, *, with_credentials: bool) -> BadInput:
    return _bad(
        UNAUTHORIZED,
        f"{server} does not let us have {what}",
        said
        + ("; the credentials for it were refused" if with_credentials else "; no credentials for it are known here"),
        f"docker login {server}  on the host's machine, or send it credentials (registry.put)"
        if not with_credentials
        else "look at the credentials, and at the name: many registries say this of what does not exist",
    )


def mismatch(what: str, wanted: str, got: str, fix: str = "") -> BadInput:
    return _bad(MISMATCH, f"{what} is not what its digest says", f"expected {wanted}, got {got}", fix)


def unreachable(server: str, why: str, fix: str = "") -> BadInput:
    return _bad(UNREACHABLE, f"{server} cannot be reached, or does not answer as it should", why, fix)


def refused(what: str, server: str, said: str, fix: str) -> BadInput:
    return _bad(REFUSED, f"{server} does not take {what}", said, fix)
