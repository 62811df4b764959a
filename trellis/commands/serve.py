"""`trellis serve`"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.failures import failure
from trellis.local import Granted, alone, exports_or_fail, grant_options, show_denials, wasm_argument
from trellis.options import output_option
from trellis.output import Output
from trellis.running import run_for_long, told_to_stop

if TYPE_CHECKING:
    from lattice.http import Response
    from providers.http.protocol import App, Exchange

GRACE = 5.0
"""Seconds for the requests in hand when it is stopped."""


@click.command
@wasm_argument
@click.option(
    "--addr",
    metavar="HOST:PORT",
    default="127.0.0.1:8000",
    show_default=True,
    help="Where to listen; port 0: a free one.",
)
@output_option
@grant_options(30)
def command(file: Path, addr: str, output: Output, granted: Granted) -> None:
    """Serve a component of wasi:http over HTTP, until Ctrl-C.

    \b
    trellis serve hello.wasm
    trellis serve shop.wasm --addr :8080 --kv --allow-http api.example.com
    """
    show_denials()
    run_for_long(serve(file, addr, granted, output))


async def serve(file: Path, address: str, granted: Granted, output: Output) -> None:
    """Serve until SIGINT or SIGTERM, with a line for each request. Raises Failure or BadInput."""
    from lattice import BadInput, EntityId
    from providers.http.listener import Listener
    from providers.http.server import Route
    from providers.http.settings import ServerSettings
    from providers.link import Link, link_between

    settings = _settings(address, granted)
    stop = asyncio.Event()
    async with alone(file, granted) as actor:
        exports_or_fail(
            actor,
            file,
            "wasi:http/incoming-handler",
            what="something that serves HTTP",
            otherwise={"wasi:cli/run": f"trellis run {file}"},
        )
        link = Link(
            link_between("serve", actor.id, "wasi:http/incoming-handler"), EntityId("serve"), settings, actor.handle
        )
        app = _told(Route(link, ServerSettings()), output)
        try:
            listener = await Listener.open(settings.address, app)
        except BadInput as error:
            fix = "--addr 127.0.0.1:0  takes a free port"
            raise BadInput(*(replace(found, why="", fix=fix) for found in error.findings)) from error
        with told_to_stop(stop.set):
            said = f"{file.name} answers at {click.style(listener.url, bold=True)}   (Ctrl-C stops it)"
            output.next({"url": listener.url}, said)
            await stop.wait()
            try:
                async with asyncio.timeout(GRACE):
                    await listener.close()
            except TimeoutError:
                pass  # what was still in hand has been cut off


def _settings(address: str, granted: Granted) -> Any:
    from pydantic import ValidationError

    from providers.http.settings import RouteSettings

    timeout = None if granted.timeout is None else max(1, round(granted.timeout * 1000))
    try:
        return RouteSettings.model_validate({"address": address, "timeout_ms": timeout})
    except ValidationError as error:
        raise failure("TRL-CLI-001", f"--addr {address}: it should be HOST:PORT, such as 127.0.0.1:8080") from error


def _told(app: App, output: Output) -> App:
    """`app`, with a line for each request it answered."""

    async def answer(exchange: Exchange) -> Response:
        begun = time.perf_counter()
        response = await app(exchange)
        request, seconds = exchange.request, time.perf_counter() - begun
        method, path, status = request["method"], request["path-with-query"], response["status"]
        line = f"{method:<4} {path}  {_status(status)}  {seconds * 1000:.1f} ms"
        found = {"method": method, "path": path, "status": status, "seconds": round(seconds, 6)}
        with suppress(OSError):  # whoever read our lines may have left: no reason to fail a request
            output.next(found, line)
        return response

    return answer


def _status(status: int) -> str:
    return click.style(status, fg="green" if status < 400 else "yellow" if status < 500 else "red")
