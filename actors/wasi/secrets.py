"""wasmcloud:secrets 0.1.0-draft: what the actor is trusted with, as handles that can be passed on without being read.

`get` answers `not-found` for a name that the actor is not trusted with, `upstream` when its back end cannot be asked.
"""

from __future__ import annotations

from actors.guest import Guest
from actors.host_api import Resource, internal, serves
from lattice import DeadlineExceeded, LatticeError, Value, WitError
from lattice.secrets import SecretValue


class Secret(Resource, interface="wasmcloud:secrets/store", name="secret"):
    """`secret`: shows its name to the host's code, and its value to `reveal` alone."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: SecretValue) -> None:
        self.name = name
        self._value = value

    @internal
    def revealed(self) -> Value:
        """A `secret-value`."""
        return {"string": self._value} if isinstance(self._value, str) else {"bytes": self._value}

    def __repr__(self) -> str:
        return f"<Secret {self.name}>"


@serves("wasmcloud:secrets/store", Secret)
class Store:
    @staticmethod
    async def get(guest: Guest, key: str) -> Secret:
        try:
            value = await guest.secrets(key)
        except DeadlineExceeded:
            raise
        except LatticeError as error:
            raise WitError({"upstream": error.message}) from error
        if value is None:
            raise WitError("not-found")
        return Secret(key, value)


@serves("wasmcloud:secrets/reveal")
class Reveal:
    @staticmethod
    def reveal(guest: Guest, s: Secret) -> Value:
        return s.revealed()
