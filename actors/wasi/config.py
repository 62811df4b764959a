"""wasi:config: the actor's configuration, the same for the whole life of an instance.

| WIT                       | interface | `get` gives                          |
|---------------------------|-----------|--------------------------------------|
| 0.2.0-draft, early        | runtime   | result<option<string>, config-error> |
| 0.2.0-draft, 0.2.0-rc.1   | store     | result<option<string>, error>        |
| the proposal after that   | store     | option<string>                       |

One function serves them all: interfaces are found by name, and what it gives is lowered as the component's own type
says. The configuration is there before the guest is, so there is never an error to answer with.
"""

from __future__ import annotations

from actors.guest import Guest
from actors.host_api import serves


@serves("wasi:config/store")
class Store:
    @staticmethod
    def get(guest: Guest, key: str) -> str | None:
        return guest.config.get(key)

    @staticmethod
    def get_all(guest: Guest) -> list[tuple[str, str]]:
        return sorted(guest.config.items())


@serves("wasi:config/runtime")
class Runtime:
    """What `store` was called before."""

    get = Store.get
    get_all = Store.get_all
