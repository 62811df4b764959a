"""An interface that a guest both imports and exports."""

from wit_world import exports
from wit_world.imports import transform


class Transform(exports.Transform):
    def shout(self, text: str) -> str:
        return f"{transform.shout(text)}, says Python"
