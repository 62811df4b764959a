"""componentize-py's poll_loop in a world of several interfaces called `types`: it means that of wasi:http."""

import sys

import wit_world.imports
from wit_world.imports import wasi_http_types

sys.modules["wit_world.imports.types"] = wit_world.imports.types = wasi_http_types

from poll_loop import PollLoop, Sink, Stream, send  # noqa: E402

__all__ = ["PollLoop", "Sink", "Stream", "send"]
