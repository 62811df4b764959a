"""wasi:keyvalue 0.2.0-draft and -draft2. A bucket lives in the host; each use of it is a call without resources.

| WIT                          | Invocation                                              |
|------------------------------|---------------------------------------------------------|
| store.bucket.get(key)        | wasi:keyvalue/store#get(bucket, key)                    |
| atomics.increment(b, key, d) | wasi:keyvalue/atomics#increment(bucket, key, delta)     |
| atomics.swap(cas, value)     | wasi:keyvalue/atomics#swap(bucket, key, old, value)     |
| batch.get-many(b, keys)      | wasi:keyvalue/batch#get-many(bucket, keys)              |

where `bucket` is the identifier it was opened with. `open` asks nobody (a request would pay a hop for it): a provider
answers `no-such-store` to the first use. Errors of the lattice become the WIT `error` case `other`, which the guest can
handle; only the end of the caller's time ends the guest too. A watcher is called the same way round:
wasi:keyvalue/watcher#on-set(bucket, key, value).
"""

from __future__ import annotations

from actors.adapters import ADAPTERS, Callee
from actors.denials import denied, link_grant
from actors.guest import Guest
from actors.host_api import Resource, internal, serves
from lattice import (
    BadValue,
    DeadlineExceeded,
    Denied,
    Function,
    Invocation,
    LatticeError,
    NotLinked,
    Value,
    WitError,
)

STORE = "wasi:keyvalue/store"
ATOMICS = "wasi:keyvalue/atomics"
BATCH = "wasi:keyvalue/batch"

GET = Function(STORE, "get")
SET = Function(STORE, "set")
DELETE = Function(STORE, "delete")
EXISTS = Function(STORE, "exists")
LIST_KEYS = Function(STORE, "list-keys")
INCREMENT = Function(ATOMICS, "increment")
SWAP = Function(ATOMICS, "swap")
GET_MANY = Function(BATCH, "get-many")
SET_MANY = Function(BATCH, "set-many")
DELETE_MANY = Function(BATCH, "delete-many")


async def _ask(guest: Guest, function: Function, *args: Value) -> Value:
    try:
        return await guest.call(function, *args)
    except DeadlineExceeded:
        raise
    except Denied as error:
        denied(guest, function.interface, function.name, error.message)
        raise WitError("access-denied") from error
    except LatticeError as error:
        if isinstance(error, NotLinked):
            denied(guest, function.interface, function.name, link_grant(function.interface))
        raise WitError({"other": error.message}) from error


class Bucket(Resource, interface=STORE, name="bucket"):
    """`bucket`: the identifier it was opened with."""

    __slots__ = ("guest", "identifier")

    def __init__(self, guest: Guest, identifier: str) -> None:
        self.guest = guest
        self.identifier = identifier

    async def get(self, key: str) -> Value:
        return await _ask(self.guest, GET, self.identifier, key)

    async def set(self, key: str, value: bytes) -> Value:
        return await _ask(self.guest, SET, self.identifier, key, value)

    async def delete(self, key: str) -> Value:
        return await _ask(self.guest, DELETE, self.identifier, key)

    async def exists(self, key: str) -> Value:
        return await _ask(self.guest, EXISTS, self.identifier, key)

    async def list_keys(self, cursor: Value) -> Value:
        return await _ask(self.guest, LIST_KEYS, self.identifier, cursor)


class Draft2Bucket(Bucket):
    """Whose cursors are text."""

    __slots__ = ()

    async def list_keys(self, cursor: str | None) -> Value:
        if cursor is not None and not cursor.isdecimal():
            raise WitError({"other": f"{cursor!r} is no cursor of this bucket"})
        page = await super().list_keys(None if cursor is None else int(cursor))
        return {**page, "cursor": None if page["cursor"] is None else str(page["cursor"])}


@serves(STORE, Bucket)
class Store:
    @staticmethod
    def open(guest: Guest, identifier: str) -> Bucket:
        return Bucket(guest, identifier)


@serves(f"{STORE}@0.2.0-draft2", Draft2Bucket)
class Draft2Store:
    @staticmethod
    def open(guest: Guest, identifier: str) -> Bucket:
        return Draft2Bucket(guest, identifier)


class Cas(Resource, interface=ATOMICS, name="cas"):
    """`cas`, of drafts that have it: a key, and the value that it had when the guest made this."""

    __slots__ = ("_bucket", "_key", "_value")

    def __init__(self, bucket: Bucket, key: str, value: bytes | None) -> None:
        self._bucket = bucket
        self._key = key
        self._value = value

    @staticmethod
    async def new(guest: Guest, bucket: Bucket, key: str) -> Cas:
        return Cas(bucket, key, await bucket.get(key))

    def current(self) -> bytes | None:
        return self._value

    @internal
    async def swap(self, value: bytes) -> bool:
        done: bool = await _ask(self._bucket.guest, SWAP, self._bucket.identifier, self._key, self._value, value)
        return done

    @internal
    async def again(self) -> Cas:
        """As the key is now."""
        return Cas(self._bucket, self._key, await self._bucket.get(self._key))


@serves(ATOMICS, Cas)
class Atomics:
    @staticmethod
    async def increment(guest: Guest, bucket: Bucket, key: str, delta: int) -> Value:
        return await _ask(guest, INCREMENT, bucket.identifier, key, delta)

    @staticmethod
    async def swap(guest: Guest, cas: Cas, value: bytes) -> None:
        """A `cas` that is not the latest any more is answered with one that is."""
        try:
            if await cas.swap(value):
                return
            latest = await cas.again()
        except WitError as error:
            raise WitError({"store-error": error.payload}) from error
        raise WitError({"cas-failed": latest})


@serves(f"{ATOMICS}@0.2.0-draft2", Cas)
class Draft2Atomics(Atomics):
    """Whose numbers have a sign. Counters do not: one that would become less than nothing is an error."""

    @staticmethod
    async def increment(guest: Guest, bucket: Bucket, key: str, delta: int) -> Value:
        if delta < 0:
            return await _decrement(guest, bucket, key, -delta)
        number = await _ask(guest, INCREMENT, bucket.identifier, key, delta)
        if number >= 2**63:
            raise WitError({"other": f"the number {number} is beyond what this draft of atomics has"})
        return number


async def _decrement(guest: Guest, bucket: Bucket, key: str, delta: int) -> int:
    """By compare and swap, until the caller's time is over: others count, too."""
    while True:
        old = await bucket.get(key)
        text = b"0" if old is None else old.strip()
        if not text.isdigit():
            raise WitError({"other": "the value is not a number (decimal digits)"})
        number = int(text) - delta
        if not 0 <= number < 2**63:
            raise WitError({"other": f"the number would leave the range from 0 to 2^63 - 1: {number}"})
        if await _ask(guest, SWAP, bucket.identifier, key, old, b"%d" % number):
            return number


@serves(BATCH)
class Batch:
    @staticmethod
    async def get_many(guest: Guest, bucket: Bucket, keys: list[str]) -> Value:
        return await _ask(guest, GET_MANY, bucket.identifier, keys)

    @staticmethod
    async def set_many(guest: Guest, bucket: Bucket, key_values: list[tuple[str, bytes]]) -> Value:
        return await _ask(guest, SET_MANY, bucket.identifier, key_values)

    @staticmethod
    async def delete_many(guest: Guest, bucket: Bucket, keys: list[str]) -> Value:
        return await _ask(guest, DELETE_MANY, bucket.identifier, keys)


async def watched(callee: Callee, invocation: Invocation) -> Value:
    """`watcher.on-set` and `watcher.on-delete`: the bucket's identifier becomes the guest's own bucket."""
    if not invocation.args or not isinstance(invocation.args[0], str):
        raise BadValue(f"{invocation.function} takes the bucket's identifier first")
    identifier, *rest = invocation.args
    return await callee.call(Bucket(callee.guest, identifier), *rest)


ADAPTERS["wasi:keyvalue/watcher#on-set"] = watched
ADAPTERS["wasi:keyvalue/watcher#on-delete"] = watched
