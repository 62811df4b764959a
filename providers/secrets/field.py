"""A reference's `field`: one member of a secret that is a JSON object."""

from __future__ import annotations

import json

from lattice import LatticeError, read_json
from lattice.secrets import SecretReference, SecretValue


def of_field(value: SecretValue, reference: SecretReference) -> SecretValue | None:
    """What the reference means of the whole `value`. Raises LatticeError, which does not show it."""
    if reference.field is None:
        return value
    try:
        whole = read_json(value)
    except ValueError:
        whole = None
    if not isinstance(whole, dict):
        raise LatticeError(f"`{reference.key}` has no fields: it is not a JSON object") from None
    found = whole.get(reference.field)
    return found if found is None or isinstance(found, str) else json.dumps(found)


def unversioned(reference: SecretReference) -> None:
    """Raises LatticeError for a back end that keeps one version, when another is asked for."""
    if reference.version is not None:
        raise LatticeError(f"`{reference.backend}` keeps no versions, and `{reference.key}` is wanted in one")
