# ruff: noqa: T201  printing is what it is for
"""A command that says what it was given."""

import asyncio
import os
import sys
from pathlib import Path

from componentize_py_types import Err
from polling import PollLoop, Stream, send
from wit_world import exports
from wit_world.imports import wasi_config_store as config
from wit_world.imports.wasi_http_types import Fields, OutgoingRequest, Scheme_Http


class Run(exports.Run):
    def run(self) -> None:
        match sys.argv[1:]:
            case ["arguments", *rest]:
                print(rest)
            case ["environment"]:
                print(sorted(os.environ.items()))
            case ["config", key]:
                print(config.get(key))
            case ["read", path]:
                print(Path(path).read_text())
            case ["write", path, text]:
                Path(path).write_text(text)
            case ["fetch", authority]:
                print(fetch(authority))
            case ["terminals"]:
                print([stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)])
            case ["ask"]:
                print("hello", input("name? "), flush=True)
            case ["exit", code]:
                print("going")
                sys.exit(int(code))
            case ["refuse"]:
                raise Err(None)
            case ["fail"]:
                raise RuntimeError("as asked")


def fetch(authority: str) -> str:
    """What a GET of / is answered with, or the name of the error."""

    async def ask() -> str:
        request = OutgoingRequest(Fields())
        request.set_scheme(Scheme_Http())
        request.set_authority(authority)
        response = await send(request)
        body, text = Stream(response.consume()), b""
        while (chunk := await body.next()) is not None:
            text += chunk
        return f"{response.status()} {text.decode()}"

    loop = PollLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(ask())
    except Err as error:
        return type(error.value).__name__
