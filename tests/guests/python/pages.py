"""What the tests ask of every language over HTTP: an answer, a counter in a key-value store, and a failure."""

from wit_world.imports import atomics, wasi_keyvalue_store


def hello() -> str:
    return "Hello from Python!"


def count() -> str:
    with wasi_keyvalue_store.open("default") as bucket:
        return str(atomics.increment(bucket, "visits", 1))


def fail() -> str:
    raise ValueError("the guest fails on purpose")


PAGES = {"/": hello, "/count": count, "/fail": fail}
