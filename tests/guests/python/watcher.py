"""A guest that is told of changes in a key-value store."""

from wit_world import exports
from wit_world.imports.wasi_keyvalue_store import Bucket


class Watcher(exports.Watcher):
    def on_set(self, bucket: Bucket, key: str, value: bytes) -> None:
        with bucket:
            bucket.set(f"{key}-seen", value)

    def on_delete(self, bucket: Bucket, key: str) -> None:
        with bucket:
            bucket.delete(f"{key}-seen")
