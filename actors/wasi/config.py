"""wasi:config: the actor's configuration, the same for the whole life of an instance."""

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
