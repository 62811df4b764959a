"""The HTTP server: each request becomes one invocation of wasi:http/incoming-handler on the linked actor.

The provider is the source of its links. Configuration has the keys of wasmCloud's http-server (see settings.py): its
own config says `routing_mode` and `default_address`, each link's source_config its `address`, `path` or `host`.

| routing_mode | listens                                              | a request goes to the link with    |
|--------------|------------------------------------------------------|------------------------------------|
| address      | at each link's `address` (default_address: one link) | that address                       |
| path         | at default_address                                   | exactly that `path`, else 404      |
| host         | at default_address                                   | that `host` in `header`, else 404  |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import structlog

from lattice import EMPTY, BadInput, BadValue, Finding, LatticeError, Value, WitError
from lattice.http import HANDLE, Headers, Request, Response
from lattice.streams import ByteStream
from lattice.tracing import Http, Observer, nobody, outcome_of, received, trace_id
from providers.arrival import Arrival
from providers.http.answers import case_of, plain, status_of
from providers.http.forwarded import forward
from providers.http.listener import Listener
from providers.http.protocol import App, Exchange
from providers.http.settings import RouteSettings, ServerSettings
from providers.link import Link, LinkId
from providers.provider import Provider

log = structlog.get_logger("providers.http")


class Route:
    """What happens to the requests of one link. An App."""

    def __init__(self, link: Link[RouteSettings], server: ServerSettings, observe: Observer = nobody) -> None:
        self.link = link
        self.observe = observe
        self.settings = link.config
        self.timeout = (link.config.timeout_ms or server.timeout_ms) / 1000
        self.forwarded = server.forwarded_headers
        self.cors = Cors(link.config) if link.config.cors_allowed_origins else None
        self.log = log.bind(actor=link.peer, provider=link.record.source_id)
        self.access = logging.INFO if server.access_log else logging.DEBUG
        if getattr(self.log, "get_effective_level", lambda: 0)() > self.access:
            self.access = 0
        """The level of the access log, 0 when nobody would see it; asked once, since it is for every request."""

    async def __call__(self, exchange: Exchange) -> Response:
        request = exchange.request
        sent = [value for name, value in request["headers"] if name == "traceparent"]
        arrival = Arrival("request", self.link, HANDLE, _context(sent, request) if sent else EMPTY)
        context = arrival.context
        if sent:
            _pass_on(context, request)
        response: Response | None = None
        outcome, error = "ok", ""
        try:
            response = await self._respond(exchange, request, context)
        except Exception as failure:
            outcome, error = outcome_of(failure)
            response = self._failed(failure, request, context)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            args = (request,)
            span = arrival.ended(outcome, error, http=Http.of(HANDLE.key, args, response))
            self.observe(span, args, response)
        exchange.trace = trace_id(context).encode()
        if self.access:
            self.log.log(
                self.access,
                "http.answered",
                client=exchange.client,
                method=request["method"],
                path=request["path-with-query"],
                status=response["status"],
                seconds=span.seconds,
                trace=trace_id(context),
            )
        return response

    async def _respond(self, exchange: Exchange, request: Request, context: Mapping[str, str]) -> Response:
        settings = self.settings
        if settings.disable_keepalive:
            exchange.keep_alive = False
        if settings.readonly_mode and request["method"] not in ("GET", "HEAD"):
            text = "only GET and HEAD allowed in read-only mode"
            return plain(405, text=text, headers=[("allow", b"GET, HEAD")])
        if self.cors is not None and (preflight := self.cors.preflight(request)) is not None:
            return preflight
        if self.forwarded != "pass":
            forward(request, exchange.client, keep=self.forwarded == "append")
        most = settings.max_body_bytes
        if most is not None and exchange.outgrows(most):
            return plain(413)
        try:
            response = _checked(await self.link.call(HANDLE, request, timeout=self.timeout, trace=context))
        except Exception:
            if most is not None and exchange.outgrows(most):
                return plain(413)
            raise
        if settings.cache_control is not None and not _has(response["headers"], "cache-control"):
            response["headers"].append(("cache-control", settings.cache_control.encode("latin-1", "replace")))
        if self.cors is not None:
            response["headers"] += self.cors.headers(request)
        return response

    def _failed(self, error: Exception, request: Request, context: Mapping[str, str]) -> Response:
        """Log it, once, under the id that the client is told."""
        trace = trace_id(context)
        status = status_of(error)
        known = isinstance(error, (WitError, LatticeError))
        self.log.log(
            logging.WARNING if known and status != 500 else logging.ERROR,
            "http.failed",
            method=request["method"],
            path=request["path-with-query"],
            status=status,
            code=case_of(error.payload) if isinstance(error, WitError) else getattr(error, "code", "bug"),
            error=str(error),
            trace=trace,
            **({} if known else {"exc_info": error}),
            **(
                {"output": error.details["output"]}
                if isinstance(error, LatticeError) and "output" in error.details
                else {}
            ),
        )
        if isinstance(request["body"], ByteStream):
            request["body"].close()
        return plain(status, trace=trace)


class Cors:
    """Cross-origin headers, for a link that allows origins."""

    def __init__(self, settings: RouteSettings) -> None:
        self.origins = frozenset(settings.cors_allowed_origins)
        self.allow: Headers = [
            ("access-control-allow-methods", ", ".join(settings.cors_allowed_methods).encode()),
            ("access-control-max-age", str(settings.cors_max_age_secs).encode()),
        ]
        self.allowed_headers = ", ".join(settings.cors_allowed_headers).encode()
        self.exposed = ", ".join(settings.cors_exposed_headers).encode()

    def headers(self, request: Request) -> Headers:
        origin = _first(request["headers"], "origin")
        if origin is None:
            return []
        if "*" in self.origins:
            found: Headers = [("access-control-allow-origin", b"*")]
        elif origin.decode("latin-1") in self.origins:
            found = [("access-control-allow-origin", origin), ("vary", b"origin")]
        else:
            return [("vary", b"origin")]
        if self.exposed:
            found.append(("access-control-expose-headers", self.exposed))
        return found

    def preflight(self, request: Request) -> Response | None:
        """The answer to a browser that asks first; None when this request is not that."""
        asked = _first(request["headers"], "access-control-request-method")
        if request["method"] != "OPTIONS" or asked is None:
            return None
        headers = [*self.headers(request), *self.allow]
        wanted = self.allowed_headers or _first(request["headers"], "access-control-request-headers")
        if wanted:
            headers.append(("access-control-allow-headers", wanted))
        return {"status": 204, "headers": headers, "body": b""}


class HttpServer(Provider):
    """`builtin:http-server`."""

    calls = (HANDLE.interface,)
    link_config = RouteSettings
    settings_model = ServerSettings
    settings: ServerSettings

    def __init__(self) -> None:
        self.listeners: dict[str, Listener] = {}
        """By the address as configured. In `address` mode one per link, otherwise the shared one."""
        self.routes: dict[str, Route] = {}
        """By address, path or host, as `routing_mode` says."""
        self._shared: Listener | None = None

    async def started(self) -> None:
        settings = self.settings
        if settings.routing_mode != "address":
            app = self._by_path if settings.routing_mode == "path" else self._by_host
            self._shared = await self._listen(settings.default_address, app, settings)

    async def stopped(self) -> None:
        if self._shared is not None:
            await self._shared.close()

    async def healthy(self) -> bool | str:
        closed = [listener.address for listener in self.listeners.values() if not listener.listening]
        return f"not listening on {', '.join(closed)}" if closed else True

    def url(self, link: LinkId) -> str | None:
        """Where the requests of `link` arrive, once it was added."""
        found = self.links.get(link)
        if found is None:
            return None
        listener = self._shared or self.listeners.get(self._key(found))
        return None if listener is None else listener.url

    async def link_added(self, link: Link[RouteSettings]) -> None:
        key = self._key(link)
        self._free(key, link)
        route = Route(link, self.settings, self.observe)
        self.routes[key] = route
        if self._shared is None:
            try:
                await self._listen(key, route, link.config)
            except BaseException:
                del self.routes[key]
                raise
        log.info("http.route_added", actor=link.peer, **{self.settings.routing_mode: key})

    async def link_removed(self, link: Link[RouteSettings]) -> None:
        key = self._key(link)
        self.routes.pop(key, None)
        if self._shared is None and (listener := self.listeners.get(key)) is not None:
            try:
                await listener.close()
            finally:
                self.listeners.pop(key, None)

    async def link_changed(self, old: Link[RouteSettings], new: Link[RouteSettings]) -> None:
        key = self._key(new)
        same_tls = old.config.tls() == new.config.tls()
        if key != self._key(old):
            await self.link_added(new)  # the new place first, so that there is always one
            await self.link_removed(old)
        elif self._shared is not None or same_tls:
            self.routes[key] = route = Route(new, self.settings, self.observe)
            if self._shared is None:
                self.listeners[key].app = route
        else:
            before, route = self.listeners[key], Route(new, self.settings)
            await self._listen(key, route, new.config)
            self.routes[key] = route
            await before.close()

    # -- places

    @classmethod
    def place(cls, settings: ServerSettings, config: RouteSettings) -> str | None:
        """As in a sentence: "path /shop". A port that the system chooses is nobody's before it is chosen."""
        key = _place(settings, config)
        if key is None or (settings.routing_mode == "address" and key.endswith(":0")):
            return None
        return f"{settings.routing_mode} {key}"

    def _key(self, link: Link[RouteSettings]) -> str:
        key = _place(self.settings, link.config)
        if key is None:
            mode = self.settings.routing_mode
            raise BadInput(
                Finding("TRL-PRV-006", f'link {link.record}: "{mode}" is missing', why=f'routing_mode is "{mode}"')
            )
        return key

    def _free(self, key: str, link: Link[RouteSettings]) -> None:
        taken = self.routes.get(key)
        if taken is not None and self.place(self.settings, link.config) is not None:
            mode = self.settings.routing_mode
            raise BadInput(
                Finding(
                    "TRL-PRV-006",
                    f'link {link.record}: {mode} {key} belongs to "{taken.link.peer}" already',
                    fix=f'give one of them another "{mode}" in its source_config',
                )
            )

    async def _listen(self, address: str, app: App, tls: Any) -> Listener:
        owner = f"{self.host_id} {self.id}"  # the one whose place we take, when we do, is called the same
        listener = await Listener.open(address, app, certificate=tls.certificate(), http2=tls.http2, owner=owner)
        self.listeners[address] = listener
        log.info("http.listening", url=listener.url)
        return listener

    async def _by_path(self, exchange: Exchange) -> Response:
        path, _, _ = (exchange.request["path-with-query"] or "").partition("?")
        route = self.routes.get(path)
        return plain(404, text="path not found") if route is None else await route(exchange)

    async def _by_host(self, exchange: Exchange) -> Response:
        value = exchange.header(self.settings.header.lower())
        if value is None:
            return plain(400, text="missing host header")
        host = value.decode("latin-1").lower()
        route = self.routes.get(host) or self.routes.get(host.partition(":")[0])
        return plain(404, text="host not found") if route is None else await route(exchange)


def _place(settings: ServerSettings, config: RouteSettings) -> str | None:
    """The link's address, path or host; None when it has none."""
    match settings.routing_mode:
        case "address":
            return config.address or settings.default_address
        case "path":
            return config.path or None
        case "host":
            return config.host.lower() if config.host else None


def _context(parents: list[bytes], request: Request) -> Mapping[str, str]:
    """Of these traceparents of a client, and its tracestates. Several traceparents are none."""
    if len(parents) != 1:
        return EMPTY
    states = [value for name, value in request["headers"] if name == "tracestate"]
    return received(parents[0].decode("latin-1"), b",".join(states).decode("latin-1"))


def _pass_on(context: Mapping[str, str], request: Request) -> None:
    """Where the client sent context, the actor sees what became of it: it may hand its headers on."""
    others = [field for field in request["headers"] if field[0] not in ("traceparent", "tracestate")]
    request["headers"] = others + [(name, value.encode("latin-1")) for name, value in context.items()]


def _first(headers: Headers, name: str) -> bytes | None:
    for key, value in headers:
        if key == name:
            return value
    return None


def _has(headers: Headers, name: str) -> bool:
    return any(key.lower() == name for key, _ in headers)


def _checked(value: Value) -> Response:
    """What came back, as a Response. Raises BadValue when it is none."""
    try:
        status, body = value["status"], value["body"]
        headers = [(name, bytes(content)) for name, content in value["headers"]]
    except (TypeError, KeyError, ValueError) as error:
        raise BadValue(f"the actor did not return an HTTP response: {type(error).__name__}: {error}") from error
    if not isinstance(status, int) or not 200 <= status <= 999 or not isinstance(body, (bytes, ByteStream)):
        raise BadValue(f"the actor did not return an HTTP response: status {status!r}, body {type(body).__name__}")
    return {"status": status, "headers": headers, "body": body}
